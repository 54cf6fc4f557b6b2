"""Shared by callbacks that look at the model: fixed images, a model that training finds as it was, TensorBoard's writer."""

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
    """`count` images of "val" or "test" and their labels, the same each time, on the model's device.

    None if the data module has no `evaluation_images`, or if no process holds the whole model.
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
    """A block in evaluation mode, without gradients, in the run's precision; afterwards all parts are in the mode as before."""
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
