"""Timing of a run, and signals that end it in good order."""

import contextlib
import functools
import logging
import sys
import time
from contextlib import ExitStack
from multiprocessing import parent_process
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from vae_lightning.machine.lightning import after_each_batch, no_longer_after_batches
from vae_lightning.machine.signals import handled, noted

__all__ = ["StopOnInterrupt", "Timing", "is_interrupted"]

log = logging.getLogger(__name__)

STEPS = 50
"""Optimizer steps after which several ranks ask each other whether to stop."""
SIGNAL = "interrupted"
"""The entry of Lightning's `callback_metrics` by which a spawned process says which signal ended training."""


class Timing(Callback):
    """Measures the time to the first optimizer step, and the training images a second, which `metrics.json` holds.

    At the end of each epoch, a line in the log says how fast it was, and what its validation found if it had one. The line is
    printed too where standard output is no terminal, so that a progress bar would be drawn only at its end.

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
        self._validated = False

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
        self._validated = trainer.state.fn == TrainerFn.FITTING
        if self._validated and not trainer.is_last_batch:
            self._go_on()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._pause()
        images, seconds = self.images - self._logged[0], self.training_seconds - self._logged[1]
        if seconds > 0:
            self._logged = (self.images, self.training_seconds)
            # not by Lightning's log(), whose metrics must be the same each time
            for logger in trainer.loggers:
                logger.log_metrics({"time/images_per_second": images / seconds}, step=trainer.global_step)
        # asked for in every process, as they may have to agree on a metric of a model of one's own
        found = [f"{name} {value:.4g}" for name, value in trainer.callback_metrics.items() if name.startswith("val/")]
        if trainer.is_global_zero:
            speed = [f"{images / seconds:,.0f} images/s"] if seconds > 0 else []
            found = found if self._validated else []
            line = ", ".join([f"epoch {trainer.current_epoch + 1}", f"step {trainer.global_step}", *found, *speed])
            log.info("%s", line)
            if trainer.progress_bar_callback is not None and not sys.stdout.isatty():
                with contextlib.suppress(OSError):  # nobody reads on
                    print(line, flush=True)
        self._validated = False

    @property
    def images_per_second(self) -> float | None:
        """Training images a second, without validation and start-up; None before the first pause for validation."""
        return self.images / self.training_seconds if self.training_seconds > 0 else None


class StopOnInterrupt(Callback):
    """Ends training in good order, within 50 steps, after SIGINT (Ctrl-C), SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2.

    Training stops where it stands, without a validation and without what is logged at the end of an epoch, so that it goes on from
    last.ckpt as if it had never stopped. All ranks stop together, whichever of them got the signal.

    >>> stop = StopOnInterrupt()
    >>> stop.tell(2)
    >>> stop.interrupted  # but not yet: training has not come to an end
    False
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self) -> None:
        self.signal: int | None = None
        """The signal that ended training; None if none did."""
        self.told: int | None = None
        """The signal that reached this process."""
        self._open: ExitStack | None = None

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended training."""
        return self.signal is not None

    def tell(self, signum: int) -> None:
        """Have training end in good order because of signal `signum`; may be called at any time."""
        self.told = self.told or signum

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if parent_process() is not None:  # spawned for training: a signal may come while the ranks look for each other
            self._listen()

    def _listen(self) -> None:
        if self._open is None:
            self._open = ExitStack()
            self._open.enter_context(handled())
            self._open.enter_context(noted(self.tell))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        after_each_batch(trainer, functools.partial(self._after_batch, trainer))

    def _after_batch(self, trainer: L.Trainer) -> None:
        # between two optimizer steps; with several ranks only now and then, as they have to wait for each other
        stepped = (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches == 0
        asks = trainer.world_size == 1 or trainer.global_step % STEPS == 0
        if stepped and asks and not trainer.is_last_batch and self.settle(trainer):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.interrupted and self.settle(trainer):
            self._stop(trainer)
        elif self.interrupted and not trainer.is_last_batch:
            raise StopIteration  # Lightning takes it as the end; the epoch has not ended, whatever Lightning calls this hook

    def _stop(self, trainer: L.Trainer) -> None:
        trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None  # these hold back early stopping, not a user
        trainer.should_stop = True

    def settle(self, trainer: L.Trainer) -> bool:
        """Whether a signal has reached any of the ranks, all of which have to call this method at once."""
        told = self.told or self.signal or 0
        if trainer.world_size > 1:
            told = int(trainer.strategy.reduce(torch.tensor(told, device=trainer.strategy.root_device), reduce_op="max"))
            told = told or int(trainer.callback_metrics.get(SIGNAL, 0))
        self.signal = told or None
        return self.interrupted

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.interrupted and parent_process() is not None:
            # these are what Lightning brings back to the process that started this one
            trainer.callback_metrics[SIGNAL] = torch.tensor(self.signal)
        self._close(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close(trainer)

    def _close(self, trainer: L.Trainer) -> None:
        no_longer_after_batches(trainer)
        if self._open is not None:
            self._open.close()
            self._open = None


def is_interrupted(trainer: L.Trainer) -> bool:
    """Whether a signal ended the training of `trainer`, which goes on some other time."""
    return any(isinstance(c, StopOnInterrupt) and c.interrupted for c in trainer.callbacks)  # type: ignore[attr-defined]
