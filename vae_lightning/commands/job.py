"""A command that is a job of a sweep, or several of them: the environment tells it so, and where to say why there is no result.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vae_lightning.machine.files import write_json
from vae_lightning.machine.signals import tell_main_thread

__all__ = [
    "JobOfStack",
    "end_with_worker",
    "environment_of",
    "environment_of_stack",
    "is_job",
    "is_stack",
    "job_folder",
    "jobs_of_stack",
    "note_apart",
    "note_reason",
    "note_start",
    "run_in",
    "started_with",
    "take_apart",
    "worker_environment",
]

JOB = "VAE_LIGHTNING_JOB"
"""An environment variable with the run folder of the job that this command is."""
REASON = "VAE_LIGHTNING_REASON"
"""An environment variable with the file for the reason of a failure."""
STACK = "VAE_LIGHTNING_STACK"
"""An environment variable with the jobs that this command is, where it is several."""
NOW = "VAE_LIGHTNING_NOW"
"""An environment variable with the moment of the training that a process was started for by Lightning."""
APART = "apart"
"""The key by which the reason of a job of a stack says that the job can be trained alone."""


@dataclass(frozen=True)
class JobOfStack:
    """A job that a command is together with others."""

    words: tuple[str, ...]
    """The words that would make a command the job alone."""
    environment: Mapping[str, str]
    """The environment variables that would."""
    log: str
    """The file for what the job prints."""


WORKER = "VAE_LIGHTNING_WORKER"
"""An environment variable with the number of the process that started this job, and ends with it."""


def environment_of(run: Path, reason: Path) -> dict[str, str]:
    """The environment variables of the job with the run folder `run`, which writes into `reason` why it failed."""
    return {JOB: str(run), REASON: str(reason)}


def run_in(environment: Mapping[str, str]) -> Path:
    """The run folder of the job with these environment variables."""
    return Path(environment[JOB])


def worker_environment() -> dict[str, str]:
    """The environment variables of a job that this process starts."""
    return {WORKER: str(os.getpid())}


def end_with_worker() -> None:
    """Ask this process to end, in good order, when the one has died that started it as a job."""
    worker = int(os.environ.pop(WORKER, "0"))

    def watch() -> None:
        while os.getppid() == worker:
            time.sleep(1)
        tell_main_thread(signal.SIGTERM)

    if worker:
        threading.Thread(target=watch, name="worker", daemon=True).start()


def is_job() -> bool:
    """Whether this command is a job of a sweep."""
    return JOB in os.environ


def job_folder() -> Path | None:
    """The run folder of the sweep's job that this command is; None if it is none."""
    return Path(os.environ[JOB]) if is_job() else None


def note_start(moment: str) -> None:
    """Note, for the processes that Lightning starts for this training, the moment that they have in common."""
    os.environ[NOW] = moment


def started_with() -> str | None:
    """The moment of the training that Lightning has started this process for; None if it is no such process."""
    return os.environ.get(NOW) if "LOCAL_RANK" in os.environ else None


def note_reason(message: str) -> None:
    """Note why this job ends without a result; of several processes the first one does, and a command that is no job does not."""
    if REASON in os.environ and os.environ.get("LOCAL_RANK", "0") == "0":
        write_json(Path(os.environ[REASON]), {"reason": message})


def environment_of_stack(jobs: Sequence[JobOfStack]) -> dict[str, str]:
    """The environment variable of a command that is all of `jobs` together."""
    return {STACK: json.dumps([asdict(job) for job in jobs])}


def is_stack() -> bool:
    """Whether this command is several jobs of a sweep."""
    return STACK in os.environ


def jobs_of_stack() -> list[JobOfStack]:
    """The jobs that this command is; forgotten by the environment, which other programs are started with."""
    return [JobOfStack(tuple(job["words"]), job["environment"], job["log"]) for job in json.loads(os.environ.pop(STACK))]


def note_apart(message: str) -> None:
    """Note that this job cannot be trained together with the others of its stack, and why."""
    write_json(Path(os.environ[REASON]), {"reason": message, APART: True})


def take_apart(environment: Mapping[str, str]) -> str | None:
    """Why the job with these environment variables has to be trained alone, of which the note is removed; None if it has not."""
    path = Path(environment[REASON])
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not (isinstance(content, dict) and content.get(APART)):
        return None
    path.unlink(missing_ok=True)
    return str(content.get("reason"))
