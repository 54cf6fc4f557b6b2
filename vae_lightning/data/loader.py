"""Batches by index selection from tensors in memory: no PIL, no workers, no work per image.

The order of images is a function of (seed, epoch), the same on every device. The ranks of a distributed run share each batch in
equal parts, so that w ranks with batches of B images take the steps of one process with batches of w B; images that are too few
for equal parts at the end of an epoch are left out. A loader can stand in the middle of an epoch and go on there after a restart.

Where few images have a label, uniform batches would hold hardly any of those; so each has some of them at its end ("Semi-supervised
learning with deep generative models", Kingma, Mohamed, Rezende and Welling, 2014, https://arxiv.org/abs/1406.5298).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from vae_lightning.errors import ConfigurationError
from vae_lightning.noise import Source, generator, key_of
from vae_lightning.types import UNLABELLED, Batch

__all__ = ["TensorLoader"]


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
    ) -> None:
        self.images, self.labels, self.seed = images, labels, seed
        self.labelled, self.labelled_batch_size = labelled, 0 if labelled is None else labelled_batch_size
        self.batch_size = batch_size + self.labelled_batch_size
        """How many images a full batch holds, those with labels among them."""
        self._stride = batch_size
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.same_every_epoch = False
        """Serve the batches of epoch 0 in every epoch, in order and with noise, as `trainer.overfit_batches` wants it."""
        self._position = 0
        self._resume: dict[str, Any] | None = None
        self._ordered: tuple[tuple[int, int], Tensor] | None = None

    def __len__(self) -> int:
        if self.seed is None:
            return len(range(self.rank, -(-len(self.images) // self._stride), self.world_size))
        # in training the ranks must take the same number of steps
        full, rest = divmod(len(self.images), self._stride * self.world_size)
        return full + (rest >= self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        # a generator: the epoch and the place to resume from are looked up when the first batch is wanted, not before
        first = self._first_batch(self._resume) if self._resume and self._resume["epoch"] == self.epoch else 0
        self._resume = None
        order = None if self.seed is None else self._order(self.seed)
        for number in range(first, len(self)):
            self._position = number + 1
            yield self._batch(number, order)

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

    def _batch(self, number: int, order: Tensor | None) -> Batch:
        if order is None or self.seed is None:
            chosen = self._evaluated(number)
            return Batch(self.images[chosen], self.labels[chosen], None)
        index = self._index(number, order, self.seed)
        # four times as fast as self.images[index]
        images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        if self.labelled is not None:
            labels[: len(index) - self.labelled_batch_size] = UNLABELLED
        return Batch(images, labels, Source(self.key(), self._places(number, index)))

    def _evaluated(self, number: int) -> slice:
        start = (number * self.world_size + self.rank) * self._stride
        return slice(start, start + self._stride)

    def key(self) -> Tensor:
        """The key of the present epoch's noise of augmentation and binarization, int32 `(2,)`."""
        assert self.seed is not None, "images in order have no noise"
        return key_of("images", self.seed, self._served_epoch, device=self.images.device)

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
        if self._ordered is None or self._ordered[0] != (seed, self._served_epoch):
            order = torch.randperm(len(self.images), generator=generator(seed, "order", self._served_epoch))
            self._ordered = (seed, self._served_epoch), order.to(self.images.device)
        return self._ordered[1]

    def _index(self, number: int, order: Tensor, seed: int) -> Tensor:
        together = self._stride * self.world_size
        batch = order[number * together : (number + 1) * together]
        each = len(batch) // self.world_size
        index = batch[self.rank * each : (self.rank + 1) * each]
        return index if self.labelled is None else torch.cat([index, self._some_labelled(self.labelled, seed, number)])

    def _some_labelled(self, labelled: Tensor, seed: int, number: int) -> Tensor:
        """This rank's share of the images that all ranks draw, without replacement as long as there are as many."""
        source = generator(seed, "labelled", self._served_epoch, number)
        size = self.labelled_batch_size
        rounds = -(-size * self.world_size // len(labelled))
        drawn = torch.cat([torch.randperm(len(labelled), generator=source) for _ in range(rounds)])
        return labelled.index_select(0, drawn[self.rank * size : (self.rank + 1) * size].to(labelled.device))

    @property
    def _served_epoch(self) -> int:
        return 0 if self.same_every_epoch else self.epoch

    # Lightning tells a loader's sampler the epoch, and keeps a loader's state in checkpoints

    batch_sampler = None

    @property
    def sampler(self) -> "TensorLoader | _FixedOrder":
        return _FixedOrder(self) if self.seed is None or self.same_every_epoch else self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """How many images of the epoch all ranks have been dealt: batches may have another size when a training goes on."""
        dealt = self._position * self._stride * self.world_size
        return {"epoch": self.epoch, "images": min(dealt, len(self.images))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._resume = state


class _FixedOrder(SequentialSampler):
    """Tells Lightning of a loader that does not shuffle: for `overfit_batches`, it would say that it turned shuffling off."""

    def __init__(self, loader: TensorLoader) -> None:
        super().__init__(loader.images)
        self.loader = loader

    def set_epoch(self, epoch: int) -> None:
        self.loader.set_epoch(epoch)
