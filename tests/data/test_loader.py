"""Every image once an epoch, in an order that is a function of seed and epoch, dealt to ranks, resumable."""

import pytest
import torch

from vae_lightning.data.loader import TensorLoader

IMAGES = torch.zeros(103, 1, 28, 28, dtype=torch.uint8)
LABELS = torch.arange(103)


def order(loader: TensorLoader, epoch: int = 0) -> list[int]:
    loader.set_epoch(epoch)
    return [int(label) for batch in loader for label in batch.labels]


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    loader = TensorLoader(IMAGES, LABELS, 10, seed=3)
    first, second = order(loader, 0), order(loader, 1)
    assert sorted(first) == sorted(second) == list(range(103))
    assert first != second
    assert first == order(TensorLoader(IMAGES, LABELS, 10, seed=3), 0)
    assert first != order(TensorLoader(IMAGES, LABELS, 10, seed=4), 0)


@pytest.mark.parametrize("seed", [None, 0])
def test_ranks_share_the_batches_without_overlap(seed: int | None) -> None:
    ranks = [order(TensorLoader(IMAGES, LABELS, 10, seed, rank, 2)) for rank in range(2)]
    assert not set(ranks[0]) & set(ranks[1])
    seen = len(ranks[0]) + len(ranks[1])
    assert seen == 103 if seed is None else seen >= 100 - 10
    single = order(TensorLoader(IMAGES, LABELS, 10, seed))
    assert ranks[0][:10] == single[:10]
    assert ranks[1][:10] == single[10:20]


def test_state_goes_on_in_the_middle_of_its_epoch_only() -> None:
    loader = TensorLoader(IMAGES, LABELS, 10, seed=3)
    loader.set_epoch(2)
    batches = iter(loader)
    head = [int(label) for _ in range(4) for label in next(batches).labels]
    resumed = TensorLoader(IMAGES, LABELS, 10, seed=3)
    resumed.load_state_dict(loader.state_dict())
    assert head + order(resumed, 2) == order(TensorLoader(IMAGES, LABELS, 10, seed=3), 2)
    resumed.load_state_dict(loader.state_dict())
    assert len(order(resumed, 3)) == 103
