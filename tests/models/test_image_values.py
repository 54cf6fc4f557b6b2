"""Values of each image of a test: in the split's order, of several processes too, and of images that are known again."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vae_lightning.models.image_values import IMAGES, ImageValues, marks

Reduce = Callable[[Tensor, str], Tensor]
KL = torch.arange(10, dtype=torch.float32) / 7
IMAGE = (torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).float()


def values_of(batches: list[Tensor], with_places: bool = True) -> ImageValues:
    values = ImageValues()
    for places in batches:
        values.add({"kl": KL[places], "elbo": -KL[places]}, IMAGE[places], places if with_places else None)
    return values


def of_ranks(ranks: list[ImageValues]) -> list[dict[str, Tensor]]:
    """What each of several processes gathers, which are threads here."""
    together, offered = threading.Barrier(len(ranks)), dict[int, Tensor]()
    results: list[dict[str, Tensor]] = [{} for _ in ranks]

    def run(rank: int) -> None:
        def reduce(value: Tensor, by: str) -> Tensor:
            offered[rank] = value
            together.wait(10)
            every = torch.stack([offered[other] for other in range(len(ranks))])
            together.wait(10)
            return every.sum(0) if by == "sum" else every.amax(0)

        results[rank] = ranks[rank].gathered(reduce, len(ranks))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(ranks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def alone(value: Tensor, by: str) -> Tensor:
    raise AssertionError("one process has nobody to ask")


def test_values_of_batches_are_in_the_splits_order() -> None:
    found = values_of([torch.tensor([4, 5]), torch.tensor([0, 1, 2, 3])]).gathered(alone, 1)
    assert torch.equal(found["kl"], KL[:6])
    assert torch.equal(found["elbo"], -KL[:6])
    assert torch.equal(found[IMAGES], marks(IMAGE[:6]))


def test_values_without_places_are_in_the_order_in_which_they_came() -> None:
    found = values_of([torch.tensor([4, 5]), torch.tensor([0])], with_places=False).gathered(alone, 1)
    assert torch.equal(found["kl"], KL[[4, 5, 0]])


@pytest.mark.parametrize("batches", [([[0, 1], [4, 5]], [[2, 3], [6]]), ([[0, 1], [2]], [])])
def test_values_of_several_processes_are_those_of_one(batches: tuple[list[list[int]], ...]) -> None:
    ranks = [values_of([torch.tensor(places) for places in mine]) for mine in batches]
    every = [place for mine in batches for places in mine for place in places]
    found = of_ranks(ranks)[0]
    expected = values_of([torch.tensor(every)]).gathered(alone, 1)
    assert found.keys() == expected.keys() == {"kl", "elbo", IMAGES}
    for name, values in expected.items():
        assert torch.equal(found[name], values), name
        assert found[name].dtype == values.dtype


def test_processes_that_do_not_know_whose_images_are_whose_keep_none() -> None:
    ranks = [values_of([torch.tensor([0, 1])], with_places=False), values_of([torch.tensor([2])], with_places=False)]
    assert of_ranks(ranks) == [{}, {}]


def test_nothing_tested_is_nothing_kept() -> None:
    assert ImageValues().gathered(alone, 1) == {}


def test_values_in_double_precision_stay_so() -> None:
    values = ImageValues()
    values.add({"kl": torch.tensor([1 / 3], dtype=torch.float64)}, IMAGE[:1], None)
    assert values.gathered(alone, 1)["kl"].item() == 1 / 3


def test_marks_tell_images_apart() -> None:
    other = IMAGE.clone()
    other[3, 0, 1, 2] = 1 - other[3, 0, 1, 2]
    assert (marks(other) != marks(IMAGE)).nonzero().flatten().tolist() == [3]
    assert torch.equal(marks(IMAGE), marks(IMAGE).round()), "whole numbers, so that their order of addition does not count"
