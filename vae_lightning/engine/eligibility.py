"""Whether a training may take the fast path, and if not, why.

The fast path leaves out hooks: those of callbacks between two batches that Lightning itself sees, and those of a step's parts. So a
training with such a hook keeps Lightning's own loop, unless the callback says by `sees_every_batch = False` that it can do without.
"""

from collections.abc import Iterator

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    RichModelSummary,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy

from vae_lightning.data.loader import TensorLoader
from vae_lightning.data.module import ImageDataModule
from vae_lightning.machine.lightning import detects_anomaly, saves_between_validations
from vae_lightning.models.base import Module

__all__ = ["own_data", "reason_against"]

STEP_HOOKS = (
    "backward",
    "clip_gradients",
    "configure_gradient_clipping",
    "on_after_backward",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
)
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
EPOCH_HOOKS = ("on_train_epoch_start", "on_train_epoch_end")
MOVING_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
LIGHTNINGS = {
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    RichModelSummary,
    RichProgressBar,
    TQDMProgressBar,
    Timer,
}
"""Lightning's own callbacks that change no step and need not see every batch."""


def reason_against(trainer: L.Trainer, model: L.LightningModule) -> str | None:
    """Why training `model` with `trainer` needs Lightning's own loop, in words; None where the fast path will do."""
    if not isinstance(model, Module):
        return f"{type(model).__name__} is not one of this project's models"
    reasons = (*_of_trainer(trainer), *_of_model(model), *_of_optimizers(trainer, model), *_of_callbacks(trainer))
    return next(iter(reasons), None)


def own_data(trainer: L.Trainer, model: Module) -> ImageDataModule | None:
    """The data module of `trainer`, if all that becomes of its batches before a step is this project's; else None."""
    data, loader = trainer.datamodule, trainer.train_dataloader  # type: ignore[attr-defined]
    if not isinstance(data, ImageDataModule) or type(loader) is not TensorLoader or loader.seed is None:
        return None
    for hook in (*MOVING_HOOKS, "prepared"):
        if hook in vars(data) or getattr(type(data), hook) is not getattr(ImageDataModule, hook):
            return None
    if any(hook in vars(model) or getattr(type(model), hook) is not getattr(Module, hook) for hook in MOVING_HOOKS):
        return None
    return data if loader.images.device == trainer.strategy.root_device else None


def _of_trainer(trainer: L.Trainer) -> Iterator[str]:
    strategy, plugin = trainer.strategy, trainer.precision_plugin
    if not isinstance(strategy, SingleDeviceStrategy):
        yield "several devices train"
    elif type(strategy) is not SingleDeviceStrategy:
        yield f"{type(strategy).__name__} has steps of its own"
    if trainer.accumulate_grad_batches != 1:
        yield "trainer.accumulate_grad_batches is not 1"
    if trainer.precision not in ("32-true", "bf16-mixed"):
        yield f"trainer.precision={trainer.precision}"
    elif type(plugin) not in (Precision, MixedPrecision):
        yield f"{type(plugin).__name__} has steps of its own"
    if detects_anomaly(trainer) or torch.is_anomaly_enabled():
        yield "trainer.detect_anomaly=true"
    profiler = trainer.profiler  # type: ignore[attr-defined]
    if type(profiler) is not PassThroughProfiler:
        yield f"{type(profiler).__name__} measures each of its parts"


def _of_model(model: Module) -> Iterator[str]:
    for hook in ("training_step", "functional_loss", *STEP_HOOKS, *BATCH_HOOKS):
        if hook in vars(model) or getattr(type(model), hook) is not getattr(Module, hook):
            yield f"{type(model).__name__} has its own {hook}"
    if not model.automatic_optimization:
        yield f"{type(model).__name__} optimizes by hand"


def _of_optimizers(trainer: L.Trainer, model: Module) -> Iterator[str]:
    """Reasons that are known once training has started, when Lightning makes the optimizers."""
    for optimizer in trainer.optimizers:
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) not in held for parameter in model.parameters() if parameter.requires_grad):
            yield "the optimizer does not hold every parameter"
    if any(config.reduce_on_plateau and config.interval == "step" for config in trainer.lr_scheduler_configs):
        yield "a schedule looks at a metric after every step"


def _of_callbacks(trainer: L.Trainer) -> Iterator[str]:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint) and saves_between_validations(callback):
            yield f"{type(callback).__name__} saves between validations"
        for hook in STEP_HOOKS:
            if hook in vars(callback) or getattr(type(callback), hook, None) is not getattr(L.Callback, hook, None):
                yield f"{type(callback).__name__} has a hook in every step ({hook})"
        for hook in (*BATCH_HOOKS, *EPOCH_HOOKS):
            if _is_undeclared(callback, hook):
                name = type(callback).__name__
                advice = f"; if it can do without most batches, say so by sees_every_batch = False in class {name}"
                yield f"{name} has {hook}" + ("" if type(callback).__module__.startswith("pytorch_lightning.") else advice)


def _is_undeclared(callback: L.Callback, hook: str) -> bool:
    """Whether `callback` has a `hook` and no declaration that the hook need not be called at every batch.

    A declaration holds for the class it stands in and for what that class inherits, not for what a subclass overrides.
    """
    family = type(callback).__mro__
    owner = -1 if hook in vars(callback) else next(place for place, kind in enumerate(family) if hook in vars(kind))
    if family[owner] is L.Callback and owner >= 0:
        return False
    if "sees_every_batch" in vars(callback):
        return bool(vars(callback)["sees_every_batch"])
    for place, kind in enumerate(family):
        if kind in LIGHTNINGS or "sees_every_batch" in vars(kind):
            return place > owner or bool(vars(kind).get("sees_every_batch", False))
    return True
