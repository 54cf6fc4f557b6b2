"""What callbacks that look at the model have in common: fixed images, a model that is not disturbed, TensorBoard's writer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from vae_lightning.abilities import permutation_of

__all__ = ["fixed_images", "undisturbed", "unpermuted", "writer_of"]


def fixed_images(trainer: L.Trainer, split: str, count: int | None = None) -> tuple[Tensor, Tensor] | None:
    """`count` images of "val" or "test" and their labels, the same each time.

    None of a data module that does not give them, and where one process does not hold the whole model to show them to.
    """
    images = getattr(getattr(trainer, "datamodule", None), "evaluation_images", None)
    if images is None or not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        return None
    x, y = images(split, count)
    device = trainer.strategy.root_device
    return trainer.precision_plugin.convert_input(x.to(device)), y.to(device)


def unpermuted(trainer: L.Trainer, images: Tensor) -> Tensor:
    """Images `(*, C, H, W)` as one draws them: float32, on the CPU, in [0, 1], pixels in their places."""
    permutation = permutation_of(getattr(trainer, "datamodule", None))
    images = images.float().cpu()
    return (permutation.unpermute(images) if permutation else images).clamp(0, 1)


@contextmanager
def undisturbed(trainer: L.Trainer, model: L.LightningModule) -> Iterator[None]:
    """Without gradients and dropout, in the run's precision; afterwards each part of the model is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            yield
    finally:
        for module, training in modes:
            module.training = training


def writer_of(trainer: L.Trainer) -> Any | None:
    """TensorBoard's SummaryWriter; None where there is none to write to, as in all processes but the first."""
    boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return boards[0].experiment if boards and trainer.is_global_zero else None
