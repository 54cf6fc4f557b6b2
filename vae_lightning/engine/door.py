"""`install(trainer, model)`: the fast path in a Trainer, or why not."""

import pytorch_lightning as L

from vae_lightning.engine.eligibility import reason_against
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.engine.step import Step
from vae_lightning.models.base import Module

__all__ = ["install"]


def install(trainer: L.Trainer, model: L.LightningModule, compile: str | bool = "auto") -> str | None:
    """Give `trainer` the fast path for `model`; None, or why it stays on Lightning's own.

    Args:
        compile: True, False for Lightning's own loop, or "auto": compile from `COMPILE_FROM` steps on.
    """
    reason = "compile is False" if compile is False else reason_against(trainer, model)
    if reason is None:
        assert isinstance(model, Module)
        epoch_loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = ChunkLoop(trainer, Step(trainer, model, compile), epoch_loop.min_steps, epoch_loop.max_steps)
    return reason
