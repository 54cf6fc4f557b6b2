"""Timing of a run, and a Ctrl-C that ends it in good order."""

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, ClassVar

import pytorch_lightning as L
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

__all__ = ["StopOnInterrupt", "Timing"]


class Timing(Callback):
    """Measures the time to the first optimizer step, and the training images a second, which `metrics.json` holds.

    Args:
        started: `time.time()` when the command was given.

    >>> timing = Timing(started=time.time())
    >>> timing.first_step_seconds, timing.images_per_second  # before training
    (None, None)
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, started: float) -> None:
        self.started = started
        self.first_step_seconds: float | None = None
        self.images = 0
        self._batches = self._full = 0
        self._logged = (0, 0.0)
        self.training_seconds = 0.0
        self._since: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.first_step_seconds is None:
            self.first_step_seconds = time.time() - self.started
        batches, size = trainer.fit_loop.epoch_loop.batch_progress.total.ready, len(batch[0]) * trainer.world_size
        if self._since is not None:
            # batches that this hook was not called for are full: only the last of an epoch is smaller
            self.images += (batches - self._batches - 1) * self._full + size
        else:  # the clock starts after the first batch, which is slower than all others
            self._since, self._full = time.perf_counter(), size
        self._batches = batches

    def _go_on(self) -> None:
        if self._since is None and self.first_step_seconds is not None:
            self._since = time.perf_counter()

    def _pause(self) -> None:
        if self._since is not None:
            self.training_seconds += time.perf_counter() - self._since
            self._since = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._go_on()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pause()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.is_last_batch:
            self._go_on()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pause()
        images, seconds = self.images - self._logged[0], self.training_seconds - self._logged[1]
        if seconds > 0:
            self._logged = (self.images, self.training_seconds)
            # not by Lightning's log(), whose metrics must be the same each time
            for logger in trainer.loggers:
                logger.log_metrics({"time/images_per_second": images / seconds}, step=trainer.global_step)

    @property
    def images_per_second(self) -> float | None:
        """Training images a second, without validation and start-up; None before the first pause for validation."""
        return self.images / self.training_seconds if self.training_seconds > 0 else None


class StopOnInterrupt(Callback):
    """Lets the first Ctrl-C end training in good order, within 50 steps; a second Ctrl-C ends training at once.

    >>> StopOnInterrupt().interrupted
    False
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self) -> None:
        self.interrupted = False
        self._before: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may handle signals

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            print("\nCtrl-C: stopping within 50 steps; press it again to stop at once", file=sys.stderr)

        self._before = signal.signal(signal.SIGINT, stop)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # asked here and not in the signal's handler, so that the last checkpoint is written between two optimizer steps
        if self.interrupted and (trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0):
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None  # these hold back early stopping, not a user
            trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
