"""Every image once an epoch, in an order that is a function of seed and epoch, dealt to ranks, resumable."""

import pytest
import torch
from torch.utils.data import SequentialSampler

from vae_lightning.data.loader import TensorLoader
from vae_lightning.errors import ConfigurationError
from vae_lightning.noise import key_of
from vae_lightning.types import UNLABELLED

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


def test_same_every_epoch_serves_the_first_epoch_and_keeps_its_place_in_the_others() -> None:
    loader = TensorLoader(IMAGES, LABELS, 10, seed=3)
    first = order(loader)
    loader.same_every_epoch = True
    assert isinstance(loader.sampler, SequentialSampler)
    loader.sampler.set_epoch(2)
    batches = iter(loader)
    head = [next(batches) for _ in range(4)]
    assert all(torch.equal(batch.source.key, key_of("images", 3, 0)) for batch in head)
    assert [int(label) for batch in head for label in batch.labels] == first[:40]
    resumed = TensorLoader(IMAGES, LABELS, 10, seed=3)
    resumed.same_every_epoch = True
    resumed.load_state_dict(loader.state_dict())
    assert order(resumed, 2) == first[40:]
    resumed.load_state_dict(loader.state_dict())
    assert order(resumed, 3) == first


def test_only_a_loader_that_shuffles_says_so_to_lightning() -> None:
    assert not isinstance(TensorLoader(IMAGES, LABELS, 10, seed=3).sampler, SequentialSampler)
    assert isinstance(TensorLoader(IMAGES, LABELS, 10).sampler, SequentialSampler)


def test_place_is_kept_in_images_so_that_batches_may_have_another_size() -> None:
    loader = TensorLoader(IMAGES, LABELS, 10, seed=3)
    batches = iter(loader)
    head = [int(label) for _ in range(4) for label in next(batches).labels]
    assert loader.state_dict() == {"epoch": 0, "images": 40}
    for size in (20, 5):
        resumed = TensorLoader(IMAGES, LABELS, size, seed=3)
        resumed.load_state_dict(loader.state_dict())
        assert head + order(resumed) == order(TensorLoader(IMAGES, LABELS, 10, seed=3))
    resumed = TensorLoader(IMAGES, LABELS, 16, seed=3)
    resumed.load_state_dict(loader.state_dict())
    with pytest.raises(ConfigurationError, match=r"batch_size=16: cannot go on within an epoch after 40 images"):
        order(resumed)


def test_epoch_that_is_over_stays_so_at_any_batch_size() -> None:
    loader = TensorLoader(IMAGES, LABELS, 10, seed=3)
    list(loader)
    for size in (10, 7, 50):
        resumed = TensorLoader(IMAGES, LABELS, size, seed=3)
        resumed.load_state_dict(loader.state_dict())
        assert order(resumed) == []


def test_place_of_an_older_checkpoint_is_in_batches() -> None:
    resumed = TensorLoader(IMAGES, LABELS, 10, seed=3)
    resumed.load_state_dict({"epoch": 0, "batch": 4})
    assert order(resumed) == order(TensorLoader(IMAGES, LABELS, 10, seed=3))[40:]


# ---- few labels

FEW = torch.tensor([3, 14, 15, 92, 65])


def with_few_labels(rank: int = 0, world_size: int = 1) -> TensorLoader:
    return TensorLoader(IMAGES, LABELS, 10, 3, rank, world_size, labelled=FEW, labelled_batch_size=2)


def test_each_batch_has_labelled_images_at_its_end_and_those_of_the_epoch_without_labels() -> None:
    places = torch.arange(103, dtype=torch.uint8).view(-1, 1, 1, 1).expand(103, 1, 28, 28)
    loader = TensorLoader(places, LABELS, 10, 3, labelled=FEW, labelled_batch_size=2)
    plain = TensorLoader(places, LABELS, 10, 3)
    assert loader.batch_size == 12
    assert len(loader) == len(plain) == 11
    for few, all_of_them in zip(loader, plain, strict=True):
        assert torch.equal(few.images[:-2], all_of_them.images)
        assert torch.equal(few.source.key, all_of_them.source.key)
        assert torch.equal(few.source.places[:-2], all_of_them.source.places)
        assert few.labels[:-2].unique().tolist() == [UNLABELLED]
        assert few.labels[-2:].tolist() == few.images[-2:, 0, 0, 0].tolist()
        assert set(few.labels[-2:].tolist()) < set(FEW.tolist())
        assert len(few.labels[-2:].unique()) == 2
    assert LABELS.min() == 0, "the labels themselves are left alone"


def test_labelled_images_are_drawn_by_epoch_and_batch_for_each_rank() -> None:
    first, second = order(with_few_labels(), 0), order(with_few_labels(), 1)
    assert first == order(with_few_labels(), 0) != second
    assert set(first) == {UNLABELLED, *FEW.tolist()}, "all of them come"
    ranks = [order(with_few_labels(rank, 2), 0) for rank in range(2)]
    together = order(TensorLoader(IMAGES, LABELS, 20, 3, labelled=FEW, labelled_batch_size=4))
    assert ranks[0][10:12] + ranks[1][10:12] == together[20:24]


def test_state_goes_on_with_the_same_labelled_images() -> None:
    loader = with_few_labels()
    loader.set_epoch(2)
    batches = iter(loader)
    head = [int(label) for _ in range(4) for label in next(batches).labels]
    resumed = with_few_labels()
    resumed.load_state_dict(loader.state_dict())
    assert head + order(resumed, 2) == order(with_few_labels(), 2)
