"""Lightning's private names that are read or set here, each behind a public one; what replaces a part of its loop is `engine.loop`.

When Lightning changes one of these names, this file and `engine/loop.py` are the only ones to change; `tests/test_private_names.py`
says which it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as L
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from pytorch_lightning.utilities import rank_zero_only

__all__ = [
    "BATCHES_THAT_STEPPED",
    "WritingCSVLogger",
    "after_each_batch",
    "allowed_seconds",
    "as_after_the_step",
    "batches_of_unfinished_epoch",
    "begins_an_epoch",
    "detects_anomaly",
    "ends_only",
    "has_trainer",
    "may_stop_now",
    "meets_at",
    "no_longer_after_batches",
    "purge_from",
    "purge_no_more",
    "saves_between_validations",
    "spawns",
    "tell_ranks",
    "validates_here",
    "without_signal_handlers",
]

BATCHES_THAT_STEPPED = "_batches_that_stepped"
"""The key in a checkpoint's loops of how many batches ended in an optimizer step."""


def has_trainer(model: L.LightningModule) -> bool:
    """Whether `model` is attached to a Trainer."""
    return model._trainer is not None


def detects_anomaly(trainer: L.Trainer) -> bool:
    """Whether `trainer` was given `detect_anomaly=True`."""
    return bool(trainer._detect_anomaly)


def may_stop_now(trainer: L.Trainer) -> bool:
    """Whether `trainer` has been told to stop, and the least that it has to train is trained."""
    return bool(trainer.should_stop and trainer.fit_loop._can_stop_early)


def after_each_batch(trainer: L.Trainer, function: Callable[[], None]) -> None:
    """Have `function` called after each batch that Lightning sees, until `no_longer_after_batches`.

    No hook of a callback is called there: everything that belongs to the batch is done, what is logged of it is logged, and a
    validation that follows it is over.
    """
    loop = trainer.fit_loop.epoch_loop
    whole = loop.on_advance_end

    def on_advance_end(data_fetcher: Any) -> None:
        whole(data_fetcher)
        function()

    loop.on_advance_end = on_advance_end  # type: ignore[method-assign]


def no_longer_after_batches(trainer: L.Trainer) -> None:
    """Take back all calls of `after_each_batch`."""
    trainer.fit_loop.epoch_loop.__dict__.pop("on_advance_end", None)


def validates_here(trainer: L.Trainer) -> bool:
    """Whether a validation belongs after the batch at which `trainer` stands, be it told to stop or not."""
    loop, fetcher, stops = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher, trainer.should_stop
    trainer.should_stop = False
    try:
        return fetcher is not None and loop._should_check_val_fx(fetcher)
    finally:
        trainer.should_stop = stops


@contextmanager
def as_after_the_step(trainer: L.Trainer) -> Iterator[None]:
    """A block in which `trainer` stands after a batch as Lightning wants it to in a checkpoint.

    A training that goes on from a checkpoint after whose batch a validation belongs, which has been done, counts the batch again.
    """
    loop, again = trainer.fit_loop.epoch_loop, int(validates_here(trainer))
    loop._batches_that_stepped -= again
    try:
        yield
    finally:
        loop._batches_that_stepped += again


def begins_an_epoch(trainer: L.Trainer) -> None:
    """Let `trainer`, which has restored a checkpoint, begin an epoch instead of going on within one."""
    trainer.fit_loop._restarting = False
    trainer.fit_loop.epoch_loop.restarting = False


def ends_only(trainer: L.Trainer) -> None:
    """Let `trainer`, which will restore a checkpoint of where training ended, do what comes after its last batch and validation.

    Hooks of the end of the epoch and of the end of training are called, and no batch is trained.
    """
    loop = trainer.fit_loop

    def run() -> None:
        loop.setup_data()
        loop.reset()
        loop.on_run_start()
        setattr(loop.epoch_loop, BATCHES_THAT_STEPPED, trainer.global_step)
        loop.on_advance_end()
        loop.on_iteration_done()
        loop._restarting = False
        loop.on_run_end()

    loop.run = run  # type: ignore[method-assign]


def batches_of_unfinished_epoch(trainer: L.Trainer) -> int | None:
    """How many batches of its last epoch `trainer` has trained on, if it ended within it; None if it came to the epoch's end."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return None if progress.is_last_batch else progress.current.ready or None


def saves_between_validations(callback: ModelCheckpoint) -> bool:
    """Whether `callback` saves by the number of steps or by the clock."""
    return bool(callback._every_n_train_steps) or callback._train_time_interval is not None


def allowed_seconds(callback: Timer) -> float | None:
    """How long `callback` lets a training take; None: as long as it likes."""
    return callback._duration


def purge_from(logger: TensorBoardLogger, step: int) -> None:
    """Have TensorBoard hide what `logger` wrote from `step` on, unless its user said from where."""
    logger._kwargs.setdefault("purge_step", step)


def purge_no_more(logger: TensorBoardLogger) -> None:
    """Have `logger` begin its next file without hiding anything: a file of another process has done so."""
    logger._kwargs.pop("purge_step", None)


class _NoSignals(_SignalConnector):
    def register_signal_handlers(self) -> None:
        """Leave signals to `machine.signals`: Lightning's handlers end training without a checkpoint, and talk to other ranks."""


def without_signal_handlers(trainer: L.Trainer) -> None:
    """Have `trainer` handle no signals, not even Slurm's."""
    trainer._signal_connector = _NoSignals(trainer)


def spawns(trainer: L.Trainer) -> bool:
    """Whether `trainer` trains in processes that it spawns or forks, and not in this one."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def meets_at(environment: LightningEnvironment, port: int) -> None:
    """Have the processes of `environment` meet at `port` of its main address."""
    environment._main_port = port


def tell_ranks(trainer: L.Trainer, signum: int) -> None:
    """Send a signal to the processes that `trainer` started, if it did."""
    if trainer.strategy.launcher is not None:
        trainer.strategy.launcher.kill(signum)


class _Writer(ExperimentWriter):
    def __init__(self, logger: "WritingCSVLogger") -> None:
        self.logger = logger
        super().__init__(log_dir=logger.log_dir)

    def _check_log_dir_exists(self) -> None:
        columns = self.logger.columns_of(Path(self.metrics_file_path))
        if columns:
            self.metrics_keys = columns


class WritingCSVLogger(CSVLogger):
    """Lightning's CSVLogger, for a subclass that says what becomes of a file that is there, which Lightning deletes."""

    def columns_of(self, path: Path) -> list[str]:
        """The columns of the file that rows are added to; none: it is begun."""
        raise NotImplementedError

    @property
    def experiment(self) -> Any:
        if self._experiment is None and getattr(rank_zero_only, "rank", 0) == 0:
            self._fs.makedirs(self.root_dir, exist_ok=True)
            self._experiment = _Writer(self)
        return super().experiment
