"""Run folders have one owner each, the training that holds the lock; a command that is refused changes nothing in one.

Hydra makes the folder of a run before the program starts, and would write its config there. This module keeps Hydra from writing,
and writes the files in `.hydra` when everything has been checked and the lock is held.
"""

import contextlib
import functools
import itertools
import logging
import logging.handlers
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback as HydraCallback
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from vae_lightning.callbacks import BestCheckpoint, FrameRecorder, LastCheckpoint
from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.commands.moment import agree_on_now
from vae_lightning.commands.resuming import resumes
from vae_lightning.engine.turns import Own
from vae_lightning.errors import CheckpointError, ConfigurationError, DataError, StorageError
from vae_lightning.machine.files import write_bytes
from vae_lightning.machine.lightning import purge_from
from vae_lightning.machine.shell import path_setting
from vae_lightning.machine.signals import heed
from vae_lightning.runs.continuing import Continuation
from vae_lightning.runs.layout import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    CSV,
    EVENTS,
    FRAMES,
    HYDRA,
    LAST,
    LOCK,
    METRICS,
    OVERRIDES,
    PREVIOUS,
    PRODUCTS,
    TEST_PER_IMAGE,
)
from vae_lightning.runs.loggers import cut_events, set_aside

__all__ = ["EXISTING", "KeepFolders", "RunFolder", "note_folder"]

_existing: set[Path] | None = None
"""The folders that existed before Hydra made any."""


def note_folder(folder: Path) -> None:
    """Note which folders exist before those of the run in `folder`, in the place of those that were noted."""
    _note(folder)


def _set_existing(folders: set[Path] | None) -> None:
    global _existing
    _existing = folders


EXISTING = Own(lambda: _existing, _set_existing)
"""What is noted of folders, which belongs to one of several trainings in a process."""


class KeepFolders(HydraCallback):
    """Notes which folders exist before Hydra makes any, and refuses settings by which Hydra would write into a run folder."""

    # Hydra turns errors of callbacks into warnings, so errors have to end the program here

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        with one_line_errors():
            heed()  # torch has been imported, and no folder made
            agree_on_now(config)
            _note(_folder_of(config))
            _check_output_subdir(config)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        with one_line_errors():
            _check_output_subdir(config)


def _folder_of(config: DictConfig) -> Path:
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # the folder's name may interpolate from it
    try:
        return Path(str(OmegaConf.select(config, "hydra.run.dir")))
    finally:
        HydraConfig.instance().cfg = before


def _note(folder: Path) -> None:
    global _existing
    _existing = _present(folder)


def _check_output_subdir(config: DictConfig) -> None:
    subdir = config.hydra.output_subdir
    if subdir is not None:
        raise ConfigurationError(f"hydra.output_subdir={subdir}: leave it out; a run's config is in .hydra, where evaluation looks")


def _present(folder: Path) -> set[Path]:
    """The folders that exist among `folder` and the folders above it."""
    return {path for path in (folder.resolve(), *folder.resolve().parents) if path.is_dir()}


class RunFolder:
    """The folder of a run, as a context that lasts from before the training is checked until its end.

    If `take` was not called, the context ends with removing the empty folders that were made for the run. If the training was
    refused after `take` but before its first step, the context removes the whole folder, provided it was made for this run.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with RunFolder(Path(folder, "run")):
    ...         Path(folder, "run").mkdir()
    ...     Path(folder, "run").exists()
    False
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made_after = _present(path)
        self._taken = self._ready = False
        self._has_trained: Callable[[], bool] = lambda: False
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "RunFolder":
        if HydraConfig.initialized() and _existing is not None:
            self._made_after = _existing
        return self

    def check(self, trainer: L.Trainer, going_on: Continuation | None) -> None:
        """Refuse a folder that another training has locked, or that holds another run, without changing anything.

        Raises:
            ConfigurationError: the folder is in use; the message says by what, and what to do.
        """
        if not trainer.is_global_zero:
            return
        if (self.path / LOCK).is_file():
            with _locked(self.path):
                pass
        self._refuse_used(trainer, going_on)

    def _refuse_used(self, trainer: L.Trainer, going_on: Continuation | None) -> None:
        owned = self._owned(going_on)
        if self.path.resolve() in owned or resumes(self.path):
            lasts = any(isinstance(callback, LastCheckpoint) for callback in trainer.checkpoint_callbacks)
            if going_on is not None and not lasts:
                raise ConfigurationError(
                    "callbacks.last_checkpoint: is left out, so the checkpoints of a run that goes on in its folder would stay as "
                    "they were, and be evaluated in place of what is trained now; keep it, or go on in another folder by ckpt_path="
                )
            return
        for path in _products(self.path, trainer):
            if path.parent.resolve() not in owned:
                kept = any((self.path / name).is_file() for name in (LAST, PREVIOUS))
                on = f", or go on with that run: {path_setting('resume', str(self.path))}" if kept else ""
                raise ConfigurationError(f"hydra.run.dir={self.path}: {path} is of another run; choose another hydra.run.dir{on}")

    def take(self, cfg: DictConfig, trainer: L.Trainer, going_on: Continuation | None) -> None:
        """Lock the folder for this training, and write the config: at once, or when a run that goes on in its folder does so.

        Raises:
            ConfigurationError: as `check`.
        """
        self.check(trainer, going_on)
        if trainer.is_global_zero:
            _make(self.path)
            self._open.enter_context(_locked(self.path))
            self._refuse_used(trainer, going_on)  # once more, as a run that began at the same time may have come and gone
            self._taken = True
            write = functools.partial(_write_config, self.path, _config_files(cfg))
            logs = [Path(logger.log_dir) for logger in _file_loggers(trainer)]
            events = [path for log in logs for path in sorted(log.glob(Path(EVENTS).name))]
            if going_on is not None and self.path.resolve() in self._owned(going_on):
                going_on.begin = functools.partial(_begin_again, self.path, going_on, logs, events, write)
                _hide_later_events(trainer, going_on.progress.steps)
            else:
                if resumes(self.path):
                    _begin_anew(self.path, logs, events)
                write()
            self._open.enter_context(_logged_to(self.path))
        self._ready = True
        start = going_on.progress.steps if going_on is not None else 0
        self._has_trained = lambda: trainer.global_step > start

    def _owned(self, going_on: Continuation | None) -> set[Path]:
        """The folders that belong to the run that a training goes on with."""
        return set() if going_on is None else {_home(going_on.path), going_on.path.resolve().parent}

    def _was_refused(self, error: BaseException | None) -> bool:
        """Whether `error` refused a training before its first step, in a folder that was made for the run."""
        if self.path.resolve() in self._made_after:
            return False
        refused = isinstance(error, CheckpointError | ConfigurationError | DataError) or not self._ready
        return refused and not self._has_trained() and not any(self.path.glob(CHECKPOINTS))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()
        if self._taken and not self._was_refused(error):
            return
        if self._taken:
            shutil.rmtree(self.path, ignore_errors=True)
        for path in (self.path.resolve(), *self.path.resolve().parents):
            if path in self._made_after:
                return
            try:
                if path.exists():
                    path.rmdir()
            except OSError:  # another program has put something there
                return


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"hydra.run.dir={folder}: cannot be made ({error.strerror}); choose another hydra.run.dir") from error


def _home(checkpoint: Path) -> Path:
    """The run folder that holds `checkpoint`."""
    folders = checkpoint.resolve().parents
    return next((folder for folder in folders if (folder / CONFIG).is_file()), folders[0])


def _products(folder: Path, trainer: L.Trainer) -> Iterator[Path]:
    """Existing files that a training with `trainer` would overwrite, or add its own to."""
    for pattern in PRODUCTS:
        yield from sorted(folder.glob(pattern))
    for callback in trainer.checkpoint_callbacks:
        path = callback.path if isinstance(callback, LastCheckpoint | BestCheckpoint) else None
        if path is None:
            continue
        kept = [path.with_name(PREVIOUS.name)] if isinstance(callback, LastCheckpoint) else []
        yield from (product for product in (path, *kept) if product.is_file())
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, FrameRecorder) and callback.frames:
            yield from sorted(callback.folder.glob(Path(FRAMES).name))
    for logger in _file_loggers(trainer):
        for pattern in (Path(EVENTS).name, CSV.name):
            yield from sorted(Path(logger.log_dir).glob(pattern))


def _file_loggers(trainer: L.Trainer) -> list[TensorBoardLogger | CSVLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | CSVLogger)]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A block that holds the lock of `folder`; the system releases the lock if the process dies."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigurationError(
            f"hydra.run.dir={folder}: another training is writing into it; wait for its end, or choose another hydra.run.dir"
        ) from None
    except NotImplementedError:
        warnings.warn(f"{folder}: this file system has no locks, so make sure that no other training writes into it", stacklevel=2)
    try:
        yield
    finally:
        lock.release()


class _LogFile(logging.FileHandler):
    """The log of a run, without which the training goes on where the disk is full: that is said once."""

    lost = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.lost:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.lost:
            self.lost = True
            print(f"{self.baseFilename}: cannot be written any more ({error.strerror}); the training goes on", file=sys.stderr)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written before cannot be now
            super().close()


@contextlib.contextmanager
def _logged_to(folder: Path) -> Iterator[None]:
    """A block in which the program logs into the run folder, beginning with what it has logged so far."""
    held = [h for h in logging.getLogger().handlers if isinstance(h, logging.handlers.MemoryHandler) and h.target is None]
    if not held or not HydraConfig.initialized():
        yield
        return
    (memory, *_) = held
    file = _LogFile(folder / f"{HydraConfig.get().job.name}.log", encoding="utf-8", errors="surrogateescape")
    file.setFormatter(memory.formatter)
    memory.setTarget(file)
    memory.flush()
    memory.capacity = 1
    try:
        yield
    finally:
        memory.flush()
        memory.setTarget(None)
        file.close()


# ---- .hydra


def _config_files(cfg: DictConfig) -> dict[Path, bytes]:
    """The files of `.hydra`: the resolved config, which means the same anywhere, the overrides, and Hydra's own config."""
    files = {CONFIG: OmegaConf.to_yaml(cfg, resolve=True)}
    if HydraConfig.initialized():
        hydra_config = HydraConfig.instance().cfg
        files[OVERRIDES] = OmegaConf.to_yaml(HydraConfig.get().overrides.task)
        files[HYDRA] = OmegaConf.to_yaml(hydra_config)
    return {name: text.encode() for name, text in files.items()}


def _write_config(folder: Path, files: dict[Path, bytes]) -> None:
    for name in (OVERRIDES, HYDRA, CONFIG):  # a folder with a config is a run, which the others belong to
        if name in files:
            write_bytes(folder / name, files[name])
        else:
            (folder / name).unlink(missing_ok=True)


def _begin_again(
    folder: Path, going_on: Continuation, logs: list[Path], events: list[Path], write: functools.partial[None]
) -> None:
    """Replace the records of the training so far, after copying them to `.hydra/until_step_<steps>`.

    Where the best so far is not the best of what comes, it is put there too.
    """
    steps = going_on.progress.steps
    kept = _keep_records(folder, steps)
    for path in (folder / METRICS, folder / TEST_PER_IMAGE):
        path.unlink(missing_ok=True)
    write()
    if going_on.best_anew and (folder / BEST).is_file():
        kept.mkdir(exist_ok=True)
        (folder / BEST).replace(kept / BEST.name)
    cut_events(events, steps, going_on.written)
    for log in logs:
        set_aside(log / CSV.name, steps)
        (log / "hparams.yaml").unlink(missing_ok=True)  # TensorBoardLogger does not replace an existing one


def _begin_anew(folder: Path, logs: list[Path], events: list[Path]) -> None:
    """Remove what a training logged that was killed before its first checkpoint: the same will be logged again."""
    _keep_records(folder, 0)
    of_loggers = (log / name for log in logs for name in (CSV.name, "hparams.yaml"))
    for path in (folder / METRICS, folder / TEST_PER_IMAGE, folder / BEST, *events, *of_loggers):
        path.unlink(missing_ok=True)


def _keep_records(folder: Path, steps: int) -> Path:
    """Copy the config and the metrics to `.hydra/until_step_<steps>`, or to one with a further number if that holds others.

    Returns:
        Where they are.
    """
    content = {
        path.name: path.read_bytes() for path in (*(folder / CONFIG.parent).glob("*.yaml"), folder / METRICS) if path.is_file()
    }
    numbers = (f"until_step_{steps}" + (f"_{number}" if number > 1 else "") for number in itertools.count(1))
    kept = next(path for name in numbers if _holds_no_others(path := folder / CONFIG.with_name(name), content))
    for name in sorted(content):
        if not (kept / name).exists():
            write_bytes(kept / name, content[name])
    return kept


def _holds_no_others(kept: Path, content: Mapping[str, bytes]) -> bool:
    """Whether each file of `content` that is in the folder `kept` is the same there."""
    return all((kept / name).read_bytes() == data for name, data in content.items() if (kept / name).is_file())


def _hide_later_events(trainer: L.Trainer, steps: int) -> None:
    """Let TensorBoard leave out what was logged after step `steps`, from which the training goes on."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            purge_from(logger, steps + 1)
