"""A look at the first batches, for models that are trained by their own steps."""

from typing import Any

import pytorch_lightning as L

from vae_lightning.batches import check_batch, check_labels
from vae_lightning.models.base import Module
from vae_lightning.types import ImageData

__all__ = ["FirstBatch"]


class FirstBatch(L.Callback):
    """Checks the first batch of each split once, where neither the model nor anything else would.

    A `models.base.Module` checks its batches itself. Data that are no `types.ImageData` promise no form of their batches.

    Raises:
        DataError: a batch is not what `types.ImageData` says; the message says what it is.

    >>> FirstBatch().seen
    set()
    """

    sees_every_batch = False

    def __init__(self) -> None:
        self.seen: set[str] = set()
        """The splits of which a batch has been checked."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self._check(trainer, pl_module, batch, "train")

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._check(trainer, pl_module, batch, "val")

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._check(trainer, pl_module, batch, "test")

    def _check(self, trainer: L.Trainer, model: L.LightningModule, batch: Any, split: str) -> None:
        data: Any = getattr(trainer, "datamodule", None)
        if split in self.seen or isinstance(model, Module) or not isinstance(data, ImageData):
            return
        self.seen.add(split)
        _, y = check_batch(batch, split, image_shape=tuple(data.image_shape))
        if data.num_classes:
            check_labels(y, 0, data.num_classes)
