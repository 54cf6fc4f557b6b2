"""Batches by index selection from tensors in memory: no PIL, no workers, no work per image.

The order of images is a function of (seed, epoch), the same on every device. The ranks of a distributed run share each batch in
equal parts, so that w ranks with batches of B images take the steps of one process with batches of w B; images that are too few
for equal parts at the end of an epoch are left out. A loader can stand in the middle of an epoch and go on there after a restart.

Where few images have a label, uniform batches would hold hardly any of those; so each has some of them at its end ("Semi-supervised
learning with deep generative models", Kingma, Mohamed, Rezende and Welling, 2014, https://arxiv.org/abs/1406.5298).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from vae_lightning.errors import CheckpointError, ConfigurationError, one_line
from vae_lightning.noise import Source, generator, key_of
from vae_lightning.types import UNLABELLED, Batch

__all__ = ["Batches", "TensorLoader", "require_place"]


class TensorLoader:
    """Batches of `images` uint8 `(N, C, H, W)` and `labels` int64 `(N,)`.

    >>> loader = TensorLoader(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5), batch_size=2, seed=0)
    >>> sorted(torch.cat([batch.labels for batch in loader]).tolist())
    [0, 1, 2, 3, 4]

    Args:
        seed: shuffle afresh every epoch by it, and give every batch a source of noise; None: in order, without noise.
        rank: which of `world_size` processes this is.
        labelled: places of the images that have a label, `(L,)`; then those of the epoch come without labels, and at the end
            of each batch come `labelled_batch_size` of these with theirs, drawn without replacement. None: all have labels.
        stands_in: whether a process that none of the batches in order are dealt to has one all the same, so that all processes
            go through the same loop; `stands_in_at` says of that batch that it must not be counted.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        labelled: Tensor | None = None,
        labelled_batch_size: int = 0,
        stands_in: bool = False,
    ) -> None:
        self.images, self.labels, self.seed = images, labels, seed
        self.labelled, self.labelled_batch_size = labelled, 0 if labelled is None else labelled_batch_size
        self.batch_size = batch_size + self.labelled_batch_size
        """How many images a full batch holds, those with labels among them."""
        self._stride = batch_size
        self.rank, self.world_size, self.stands_in = rank, world_size, stands_in
        self.epoch = 0
        self.same_every_epoch = False
        """Serve the batches of epoch 0 in every epoch, in order and with noise, as `trainer.overfit_batches` wants it."""
        self._position = 0
        self._resume: dict[str, Any] | None = None
        self._ordered: tuple[tuple[int, int], Tensor] | None = None

    def __len__(self) -> int:
        if self.seed is None:
            dealt = len(range(self.rank, -(-len(self.images) // self._stride), self.world_size))
            return max(dealt, min(1, len(self.images))) if self.stands_in else dealt
        # in training the ranks must take the same number of steps
        full, rest = divmod(len(self.images), self._stride * self.world_size)
        return full + (rest >= self.world_size)

    def __iter__(self) -> "Batches":
        return Batches(self)

    def begin(self) -> int:
        """The number of the batch with which the present epoch begins: 0, unless training goes on within the epoch."""
        first = self._first_batch(self._resume) if self._resume and self._resume["epoch"] == self.epoch else 0
        self._resume = None
        return first

    def _first_batch(self, place: dict[str, Any]) -> int:
        """The number, among this rank's batches, of the one that comes after `place`."""
        if "images" not in place:  # of an older checkpoint
            return int(place["batch"])
        dealt = self._stride * self.world_size
        if place["images"] % dealt and place["images"] < len(self.images):
            raise ConfigurationError(
                f"batch_size={self._stride}: cannot go on within an epoch after {place['images']} images, which are no whole "
                f"number of batches of {self.world_size} device(s)"
            )
        return -(-int(place["images"]) // dealt)

    def batch(self, number: int) -> Batch:
        """Batch `number` of those that this process is dealt in the present epoch."""
        if self.seed is None:
            chosen = self._evaluated(number)
            return Batch(self.images[chosen], self.labels[chosen], None)
        index, places = self.chosen(number)
        return Batch(*self.selected(self.images, self.labels, index), Source(self.key(), places))

    def selected(self, images: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The images and labels of a training batch, of all `images` and `labels`; a pure function that can be traced.

        Args:
            index: as `chosen` gives it, int64 `(B,)`.
        """
        # four times as fast as images[index]
        images, labels = images.index_select(0, index), labels.index_select(0, index)
        if self.labelled is not None:
            without = labels[: len(index) - self.labelled_batch_size]
            labels = torch.cat([torch.full_like(without, UNLABELLED), labels[len(without) :]])
        return images, labels

    def chosen(self, number: int) -> tuple[Tensor, Tensor]:
        """Places in `images` of those of batch `number` of the present epoch, int64 `(B,)`, and what `places` says of them."""
        assert self.seed is not None, "images in order are not chosen"
        index = self._index(number, self._order(self.seed), self.seed)
        return index, self._places(number, index)

    def chosen_together(self, numbers: range) -> tuple[Tensor, Tensor]:
        """What `chosen` gives for each of several full batches, `(batches, B)` each."""
        if self.labelled is None and self.world_size == 1 and self.seed is not None:
            index = self._order(self.seed)[numbers.start * self._stride : numbers.stop * self._stride].view(-1, self._stride)
            return index, index.to(torch.int32)
        pairs = [self.chosen(number) for number in numbers]
        return torch.stack([index for index, _ in pairs]), torch.stack([places for _, places in pairs])

    def stands_in_at(self, number: int) -> bool:
        """Whether batch `number` is none that was dealt to this process, but stands in for one, and must not be counted."""
        return self.stands_in and self.seed is None and self._first_of(number) >= len(self.images)

    def _first_of(self, number: int) -> int:
        return (number * self.world_size + self.rank) * self._stride

    def _evaluated(self, number: int) -> slice:
        if self.stands_in_at(number):
            return slice(0, 1)
        start = self._first_of(number)
        return slice(start, start + self._stride)

    def key(self) -> Tensor:
        """The key of the present epoch's noise of augmentation and binarization, int32 `(2,)`."""
        assert self.seed is not None, "images in order have no noise"
        return key_of("images", self.seed, self.served_epoch, device=self.images.device)

    def image_numbers(self, batch_idx: int) -> Tensor:
        """Places in `images` of those in this process's batch `batch_idx` of the present epoch, int64 `(B,)`."""
        if self.seed is None:
            return torch.arange(len(self.images), device=self.images.device)[self._evaluated(batch_idx)]
        return self._index(batch_idx, self._order(self.seed), self.seed)

    def places(self, batch_idx: int) -> Tensor:
        """What tells the images of batch `batch_idx` apart in the present epoch, int32 `(B,)`: their places in `images`.

        Those that come with their labels come often in an epoch, so each time has a number of its own.
        """
        return self._places(batch_idx, self.image_numbers(batch_idx))

    def _places(self, number: int, index: Tensor) -> Tensor:
        if self.labelled is not None:
            size = self.labelled_batch_size
            first = len(self.images) + (number * self.world_size + self.rank) * size
            index = torch.cat([index[: len(index) - size], torch.arange(first, first + size, device=index.device)])
        return index.to(torch.int32)

    def _order(self, seed: int) -> Tensor:
        if self._ordered is None or self._ordered[0] != (seed, self.served_epoch):
            order = torch.randperm(len(self.images), generator=generator(seed, "order", self.served_epoch))
            self._ordered = (seed, self.served_epoch), order.to(self.images.device)
        return self._ordered[1]

    def _index(self, number: int, order: Tensor, seed: int) -> Tensor:
        together = self._stride * self.world_size
        batch = order[number * together : (number + 1) * together]
        each = len(batch) // self.world_size
        index = batch[self.rank * each : (self.rank + 1) * each]
        return index if self.labelled is None else torch.cat([index, self._some_labelled(self.labelled, seed, number)])

    def _some_labelled(self, labelled: Tensor, seed: int, number: int) -> Tensor:
        """This rank's share of the images that all ranks draw, without replacement as long as there are as many."""
        source = generator(seed, "labelled", self.served_epoch, number)
        size = self.labelled_batch_size
        rounds = -(-size * self.world_size // len(labelled))
        drawn = torch.cat([torch.randperm(len(labelled), generator=source) for _ in range(rounds)])
        return labelled.index_select(0, drawn[self.rank * size : (self.rank + 1) * size].to(labelled.device))

    @property
    def served_epoch(self) -> int:
        """The epoch whose order and noise the present epoch has."""
        return 0 if self.same_every_epoch else self.epoch

    # Lightning tells a loader's sampler the epoch, and keeps a loader's state in checkpoints

    batch_sampler = None

    @property
    def sampler(self) -> "TensorLoader | _FixedOrder":
        return _FixedOrder(self) if self.seed is None or self.same_every_epoch else self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def dealt(self) -> int:
        """How many batches of the epoch have been dealt to this process."""
        return self._position

    def form(self) -> tuple[Any, ...]:
        """What a trace of `selected` keeps as it is."""
        return self.images.shape, self.labels.shape, self.labelled is None, self.labelled_batch_size

    def goes_on_after(self, batches: int) -> None:
        """Note, for checkpoints, that so many batches of the epoch have been dealt to this process."""
        self._position = batches

    def state_dict(self) -> dict[str, Any]:
        """How many images of the epoch all ranks have been dealt: batches may have another size when a training goes on."""
        dealt = self._position * self._stride * self.world_size
        return {"epoch": self.epoch, "images": min(dealt, len(self.images))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        require_place(state)
        self._resume = state


def require_place(state: object) -> None:
    """Refuse what a checkpoint says of the place in the data, if that is none.

    Raises:
        CheckpointError: it is none; the message continues the checkpoint's name.

    >>> require_place({"epoch": 3, "images": 200})
    """
    place = state if isinstance(state, Mapping) else {}
    numbers = [place.get("epoch"), *(place[key] for key in ("images", "batch") if key in place)]
    if len(numbers) < 2 or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise CheckpointError(f"is damaged: its place in the data is {one_line(repr(state), 80)}")


class Batches(Iterator[Batch]):
    """The batches of one epoch of a `TensorLoader`, of which some can be passed over."""

    def __init__(self, loader: TensorLoader) -> None:
        self.loader = loader
        self._next: int | None = None

    def __next__(self) -> Batch:
        (number,) = self.pass_over(1)
        if number >= len(self.loader):
            raise StopIteration
        return self.loader.batch(number)

    def pass_over(self, count: int) -> range:
        """The numbers of the next `count` batches, which no images are selected for."""
        # looked up when the first batch is wanted, and not before
        first = self.loader.begin() if self._next is None else self._next
        self._next = min(first + count, len(self.loader))
        if first < len(self.loader):
            self.loader.goes_on_after(self._next)
        return range(first, first + count)


class _FixedOrder(SequentialSampler):
    """Tells Lightning of a loader that does not shuffle: for `overfit_batches`, it would say that it turned shuffling off."""

    def __init__(self, loader: TensorLoader) -> None:
        super().__init__(loader.images)
        self.loader = loader

    def set_epoch(self, epoch: int) -> None:
        self.loader.set_epoch(epoch)
