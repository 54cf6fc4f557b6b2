"""Stop the training of a trial of a search that is hopeless."""

import math
from collections.abc import Callable
from multiprocessing import parent_process
from typing import ClassVar

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

__all__ = ["Pruning", "is_pruned"]

PRUNED = "pruned"
"""The entry of Lightning's `callback_metrics` by which a spawned process says that training was stopped."""


class Pruning(Callback):
    """Reports a metric after each validation, and ends training in good order where the answer is that there is no hope.

    Of several ranks the first one reports, and all stop together. The last validation of a training is reported too, but stops
    nothing: the training is through.

    Args:
        metric: such as `val/elbo`.
        report: takes how many validations there were, and the metric; whether training is to stop.

    >>> pruning = Pruning("val/elbo", lambda step, value: value < -500)
    >>> pruning.pruned
    False
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, metric: str, report: Callable[[int, float], bool]) -> None:
        self.metric, self.report = metric, report
        self.pruned = False
        """Whether training was stopped."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or self.metric not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.metric])
        hopeless = trainer.is_global_zero and math.isfinite(value) and self.report(validations(trainer), value)
        if trainer.world_size > 1:
            told = torch.tensor(int(hopeless), device=trainer.strategy.root_device)
            hopeless = bool(trainer.strategy.reduce(told, reduce_op="max"))
        if hopeless and not _is_through(trainer):
            self.pruned = True
            # these hold back early stopping, not a search, which has waited for as many validations as it was asked to
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
            trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.pruned and parent_process() is not None:
            # these are what Lightning brings back to the process that started this one
            trainer.callback_metrics[PRUNED] = torch.tensor(1)


def is_pruned(trainer: L.Trainer) -> bool:
    """Whether the training of `trainer` was stopped because there was no hope."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return PRUNED in trainer.callback_metrics or any(isinstance(callback, Pruning) and callback.pruned for callback in callbacks)


def validations(trainer: L.Trainer) -> int:
    """How many validations of this training there were, this one included; of one every n-th epoch, n times as many."""
    every, batches = trainer.val_check_batch, trainer.fit_loop.total_batch_idx + 1
    if not isinstance(every, int | float) or not math.isfinite(every) or every <= 0:
        return trainer.current_epoch + 1
    return max(1, math.ceil(batches / every))


def _is_through(trainer: L.Trainer) -> bool:
    epochs, steps = trainer.max_epochs, trainer.max_steps
    last = epochs is not None and epochs > 0 and trainer.current_epoch + 1 >= epochs and trainer.is_last_batch
    return last or 0 < steps <= trainer.global_step
