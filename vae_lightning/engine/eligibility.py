"""May this run take the fast path, and if not, why."""

import pytorch_lightning as L
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    Timer,
)
from pytorch_lightning.strategies import SingleDeviceStrategy

from vae_lightning.callbacks import FrameRecorder, LastCheckpoint, StopOnInterrupt, Timing
from vae_lightning.models.base import Module

__all__ = ["reason_against"]

STEP_HOOKS = (
    "backward",
    "configure_gradient_clipping",
    "on_after_backward",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
)
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
CHUNKED = (
    EarlyStopping,
    FrameRecorder,
    LastCheckpoint,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    StopOnInterrupt,
    Timer,
    Timing,
)
"""Callbacks that need not see every batch."""


def reason_against(trainer: L.Trainer, model: L.LightningModule) -> str | None:
    """Why `model` in `trainer` needs Lightning's own loop, in words; None where it does not."""
    if not isinstance(model, Module):
        return f"{type(model).__name__} is not one of this project's models"
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        return "several devices train"
    if trainer.accumulate_grad_batches != 1:
        return "trainer.accumulate_grad_batches is not 1"
    if trainer.precision not in ("32-true", "bf16-mixed"):
        return f"trainer.precision={trainer.precision}"
    if trainer._detect_anomaly:
        return "trainer.detect_anomaly=true"
    for hook in ("training_step", *STEP_HOOKS, *BATCH_HOOKS):
        if getattr(type(model), hook) is not getattr(Module, hook):
            return f"{type(model).__name__} has its own {hook}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint):
            if callback._every_n_train_steps == 0 and callback._train_time_interval is None:
                continue
            return f"{type(callback).__name__} saves between validations"
        for hook in STEP_HOOKS if isinstance(callback, CHUNKED) else (*STEP_HOOKS, *BATCH_HOOKS):
            if getattr(type(callback), hook, None) is not getattr(L.Callback, hook, None):
                return f"{type(callback).__name__} wants to see every step ({hook})"
    return None
