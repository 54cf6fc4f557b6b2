"""Every image once an epoch, in an order that is a function of seed and epoch, dealt to ranks, resumable."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


def test_process_that_no_batch_is_dealt_to_has_one_that_is_not_counted() -> None:
    ranks = [TensorLoader(IMAGES, LABELS, 60, None, rank, 3, stands_in=True) for rank in range(3)]
    assert [len(loader) for loader in ranks] == [1, 1, 1]
    assert [loader.stands_in_at(0) for loader in ranks] == [False, False, True]
    counted = [image for loader in ranks[:2] for image in order(loader)]
    assert counted == list(range(103))
    assert order(ranks[2]) == [0]
    assert ranks[2].places(0).tolist() == [0]
    assert len(TensorLoader(IMAGES[:0], LABELS[:0], 60, None, 2, 3, stands_in=True)) == 0, "no images at all"


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


def test_labelled_images_have_new_numbers_each_time_they_come_in_an_epoch() -> None:
    loaders = [with_few_labels(rank, 2) for rank in range(2)]
    places = torch.cat([batch.source.places[-2:] for loader in loaders for batch in loader])
    assert len(places.unique()) == len(places) == 2 * 2 * len(loaders[0])
    assert places.min() == 103, "after those of the images themselves"


def test_state_goes_on_with_the_same_labelled_images() -> None:
    loader = with_few_labels()
    loader.set_epoch(2)
    batches = iter(loader)
    head = [int(label) for _ in range(4) for label in next(batches).labels]
    resumed = with_few_labels()
    resumed.load_state_dict(loader.state_dict())
    assert head + order(resumed, 2) == order(with_few_labels(), 2)


# ---- whatever the sizes

MANY = settings(max_examples=40)


@dataclass(frozen=True)
class Setting:
    """A data set and how it is dealt."""

    count: int
    size: int
    ranks: int
    seed: int
    epoch: int
    labelled: torch.Tensor | None

    def loader(self, rank: int = 0, ranks: int = 1, size: int | None = None, shuffled: bool = True) -> TensorLoader:
        images = torch.zeros(self.count, 1, 1, 1, dtype=torch.uint8)
        few = {} if self.labelled is None or not shuffled else {"labelled": self.labelled, "labelled_batch_size": 3}
        size = self.size if size is None else size
        loader = TensorLoader(images, torch.arange(self.count), size, self.seed if shuffled else None, rank, ranks, **few)
        loader.set_epoch(self.epoch)
        return loader

    def unlabelled(self, loader: TensorLoader) -> list[list[int]]:
        """The places of the epoch's images in each batch that is still to come."""
        taken = loader.labelled_batch_size
        return [batch.source.places[: len(batch.labels) - taken].tolist() for batch in loader]


@st.composite
def settings_of_a_loader(draw: st.DrawFn) -> Setting:
    """Any setting; a few of its images have labels of their own, or none."""
    count = draw(st.integers(1, 200))
    few = draw(st.none() | st.lists(st.integers(0, count - 1), min_size=1, unique=True).map(torch.tensor))
    return Setting(count, *(draw(st.integers(*ends)) for ends in ((1, 40), (1, 5), (0, 9), (0, 30))), few)


@MANY
@given(settings_of_a_loader())
def test_ranks_share_each_batch_of_one_process_equally(setting: Setting) -> None:
    dealt = [setting.unlabelled(setting.loader(rank, setting.ranks)) for rank in range(setting.ranks)]
    alone = setting.unlabelled(setting.loader(size=setting.size * setting.ranks))
    assert {len(batches) for batches in dealt} == {len(setting.loader(0, setting.ranks))}
    left_out = setting.count % (setting.size * setting.ranks) % setting.ranks
    seen = 0
    for shares, whole in zip(zip(*dealt, strict=True), alone, strict=False):
        assert len({len(share) for share in shares}) == 1, "as many images each"
        together = [place for share in shares for place in share]
        assert together == whole[: len(together)]
        seen += len(together)
    assert seen == setting.count - left_out
    assert sorted(place for batch in alone for place in batch) == list(range(setting.count))


@MANY
@given(settings_of_a_loader())
def test_ranks_evaluate_every_image_once(setting: Setting) -> None:
    loaders = [setting.loader(rank, setting.ranks, shuffled=False) for rank in range(setting.ranks)]
    batches = [[batch.labels.tolist() for batch in loader] for loader in loaders]
    assert [len(each) for each in batches] == [len(loader) for loader in loaders]
    assert sorted(label for each in batches for batch in each for label in batch) == list(range(setting.count))


@MANY
@given(settings_of_a_loader())
def test_order_is_a_function_of_seed_and_epoch_alone(setting: Setting) -> None:
    orders = {}
    for other, epoch in itertools.product((0, 1), repeat=2):
        one = replace(setting, seed=other, epoch=epoch)
        orders[other, epoch] = [place for batch in one.unlabelled(one.loader()) for place in batch]
        assert orders[other, epoch] == [place for batch in one.unlabelled(one.loader(size=one.size + 1)) for place in batch]
    assert setting.count < 10 or len({tuple(order) for order in orders.values()}) == 4


@MANY
@given(settings_of_a_loader(), st.data())
def test_an_epoch_goes_on_anywhere_with_batches_of_any_size_that_fit(setting: Setting, data: st.DataObject) -> None:
    """The new batches of all ranks together have to divide what has been dealt."""
    setting = replace(setting, labelled=None)
    whole = [place for batch in setting.unlabelled(setting.loader()) for place in batch]
    before = [setting.loader(rank, setting.ranks) for rank in range(setting.ranks)]
    stop = data.draw(st.integers(0, len(before[0])), "batches that have been dealt")
    for batches in map(iter, before):
        for _ in range(stop):
            next(batches)
    assert len({tuple(loader.state_dict().values()) for loader in before}) == 1
    done = min(stop * setting.size * setting.ranks, setting.count)
    fitting = [(r, s) for r in range(1, 6) for s in range(1, 60) if done % (r * s) == 0 or done == setting.count]
    ranks, size = data.draw(st.sampled_from(fitting), "ranks and batch size from then on")
    after = []
    for rank in range(ranks):
        loader = setting.loader(rank, ranks, size)
        loader.load_state_dict(before[0].state_dict())
        after.append(setting.unlabelled(loader))
    rest = [place for shares in zip(*after, strict=True) for share in shares for place in share]
    assert len(rest) >= setting.count - done - (ranks - 1)
    assert rest == whole[done : done + len(rest)]
