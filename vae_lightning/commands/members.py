"""A command that is several jobs of a sweep: each trains in a thread of its own, and all take their steps together.

Each job comes out as the command of it alone would: with that command in its provenance, Hydra's own configs, its own log. What the
process has once, and a job would find there, each has for itself while it has the turn (`engine.turns`).
"""

import functools
import logging
import logging.handlers
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vae_lightning.commands.commandline import one_line_errors, words_of_a_job
from vae_lightning.commands.job import JobOfStack, jobs_of_stack, note_apart
from vae_lightning.commands.ownership import EXISTING, note_folder
from vae_lightning.commands.train import train
from vae_lightning.engine.stacked import run_stacked
from vae_lightning.engine.turns import Own
from vae_lightning.errors import StackError
from vae_lightning.machine.signals import received, status_of

__all__ = ["train_members"]

FAILED = 1
"""Exit status where a job has failed."""


def train_members(started: float) -> int:
    """Train the jobs that this command is; return the exit status.

    Args:
        started: `time.time()` when the command was given.
    """
    jobs = jobs_of_stack()
    streams = _Streams()
    own = [HYDRA, ENVIRONMENT, EXISTING, LOGGING, EXCEPTIONS, Own(streams.get, streams.set)]
    try:
        outcomes = run_stacked([functools.partial(_train, job, started, streams) for job in jobs], own)
    except StackError:  # each has noted it
        return FAILED
    signum = received()
    if signum is not None:
        return status_of(signum)
    return max((FAILED if outcome.error is not None else outcome.result for outcome in outcomes), default=0)


def _train(job: JobOfStack, started: float, streams: "_Streams") -> int:
    """Be `job`, as a command of its own would; the exit status that it would have."""
    os.environ.update(job.environment)
    streams.open(Path(job.log))
    try:
        with one_line_errors():
            _log_apart()
            cfg = _composed(job)
            try:
                result = train(cfg, started)
            except StackError as error:
                note_apart(str(error))
                return FAILED
        return 0 if result.signal is None else status_of(result.signal)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else FAILED
    except Exception:
        traceback.print_exc()
        return FAILED


def _composed(job: JobOfStack) -> DictConfig:
    """The config of `job`, as Hydra would give it to the job's own command; Hydra's own config is put where it is asked for."""
    words = words_of_a_job(job.words, Path(job.environment["VAE_LIGHTNING_JOB"]))
    config = hydra.compose(HydraConfig.get().job.config_name, [*words, "hydra.mode=RUN"], return_hydra_config=True)
    hydras = HydraConfig.instance()
    before = Path(HydraConfig.get().runtime.output_dir)
    hydras.set_config(config)  # the folder's name may interpolate from it
    folder = Path(str(OmegaConf.select(config, "hydra.run.dir"))).absolute()
    if before != folder:  # the folder that Hydra has made for this process is noted
        note_folder(folder)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder)
    hydras.set_config(config)
    cfg = deepcopy(config)
    with read_write(cfg), open_dict(cfg):
        del cfg["hydra"]
    return cfg


# ---- what each job has for itself


HYDRA = Own(lambda: HydraConfig.instance().cfg, lambda cfg: setattr(HydraConfig.instance(), "cfg", cfg))
EXCEPTIONS = Own(lambda: threading.excepthook, lambda hook: setattr(threading, "excepthook", hook))


def _variables() -> dict[str, str]:
    """Environment variables that say what a job is, and Lightning's own, such as its seed."""
    return {name: value for name, value in os.environ.items() if name.startswith(("VAE_LIGHTNING_", "PL_"))}


def _set_variables(variables: dict[str, str]) -> None:
    for name in _variables().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


ENVIRONMENT = Own(_variables, _set_variables)


def _handlers() -> list[logging.Handler]:
    return list(logging.getLogger().handlers)


def _set_handlers(handlers: Sequence[logging.Handler]) -> None:
    logging.getLogger().handlers[:] = handlers


LOGGING = Own(_handlers, _set_handlers)


def _log_apart() -> None:
    """Have what is logged from now on, and what was logged before, kept for a log of this job alone."""
    handlers = logging.getLogger().handlers
    for place, handler in enumerate(handlers):
        if isinstance(handler, logging.handlers.MemoryHandler):
            own = logging.handlers.MemoryHandler(handler.capacity, handler.flushLevel)
            own.setFormatter(handler.formatter)
            own.setLevel(handler.level)
            own.buffer = list(handler.buffer)
            handlers[place] = own


class _Streams:
    """Where standard output and standard error go, of this process as a whole; a terminal is for all jobs."""

    def __init__(self) -> None:
        self._redirects = not sys.stdout.isatty()
        self._present: tuple[int, int] = (os.dup(1), os.dup(2))

    def open(self, log: Path) -> None:
        """Have all that is printed go into the file `log`."""
        if self._redirects:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self.set((file, file))

    def get(self) -> tuple[int, int]:
        return self._present

    def set(self, files: tuple[int, int]) -> None:
        if files == self._present:
            return
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, file in zip((1, 2), files, strict=True):
            os.dup2(file, number)
        self._present = files
