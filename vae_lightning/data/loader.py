"""Batches by index selection from tensors in memory: no PIL, no workers, no work per image.

The order of images is a function of (seed, epoch), drawn on their device, and batches are dealt to the ranks of a
distributed run in turn, so that rank r of w gets batches r, r + w, ... A loader can stand in the middle of an epoch and
go on there after a restart.

Where few images have a label, uniform batches would hold hardly any of those; so each has some of them at its end ("Semi-supervised
learning with deep generative models", Kingma, Mohamed, Rezende and Welling, 2014, https://arxiv.org/abs/1406.5298).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from vae_lightning.errors import ConfigurationError
from vae_lightning.noise import generator
from vae_lightning.types import UNLABELLED, Batch

__all__ = ["TensorLoader"]


class TensorLoader:
    """Batches of `images` uint8 `(N, C, H, W)` and `labels` int64 `(N,)`.

    >>> loader = TensorLoader(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.arange(5), batch_size=2, seed=0)
    >>> sorted(torch.cat([batch.labels for batch in loader]).tolist())
    [0, 1, 2, 3, 4]

    Args:
        seed: shuffle afresh every epoch by it, and give every batch a key for its noise; None: in order, without keys.
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

    def __len__(self) -> int:
        batches = -(-len(self.images) // self._stride)
        if self.seed is None:
            return len(range(self.rank, batches, self.world_size))
        # in training the ranks must take the same number of steps
        return batches // self.world_size

    def __iter__(self) -> Iterator[Batch]:
        # a generator: the epoch and the place to resume from are looked up when the first batch is wanted, not before
        first = self._first_batch(self._resume) if self._resume and self._resume["epoch"] == self.epoch else 0
        self._resume = None
        order = None if self.seed is None else self._order(self.seed)
        for number in range(first, len(self)):
            self._position = number + 1
            yield self._batch(number * self.world_size + self.rank, order)

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
        chosen = slice(number * self._stride, (number + 1) * self._stride)
        if order is None or self.seed is None:
            return Batch(self.images[chosen], self.labels[chosen], None)
        index = self._index(number, order, self.seed)
        # four times as fast as self.images[index]
        images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        if self.labelled is not None:
            labels[: len(index) - self.labelled_batch_size] = UNLABELLED
        return Batch(images, labels, (self.seed, self._served_epoch, number))

    def image_numbers(self, batch_idx: int) -> Tensor:
        """Places in `images` of those in this process's batch `batch_idx` of the present epoch, `(B,)`."""
        number = batch_idx * self.world_size + self.rank
        if self.seed is None:
            return torch.arange(len(self.images))[number * self._stride : (number + 1) * self._stride]
        return self._index(number, self._order(self.seed), self.seed)

    def _order(self, seed: int) -> Tensor:
        device = self.images.device
        source = generator(seed, "order", self._served_epoch, device=device)
        return torch.randperm(len(self.images), generator=source, device=device)

    def _index(self, number: int, order: Tensor, seed: int) -> Tensor:
        index = order[number * self._stride : (number + 1) * self._stride]
        return index if self.labelled is None else torch.cat([index, self._some_labelled(self.labelled, seed, number)])

    def _some_labelled(self, labelled: Tensor, seed: int, number: int) -> Tensor:
        source = generator(seed, "labelled", self._served_epoch, number, device=labelled.device)
        drawn = torch.randperm(len(labelled), generator=source, device=labelled.device)[: self.labelled_batch_size]
        return labelled.index_select(0, drawn)

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
