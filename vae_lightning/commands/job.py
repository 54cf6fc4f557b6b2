"""A command that is a job of a sweep: the environment tells it so, and where to say why it ended without a result.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from vae_lightning.machine.files import write_json

__all__ = ["end_with_worker", "environment_of", "is_job", "job_folder", "note_reason", "run_in", "worker_environment"]

JOB = "VAE_LIGHTNING_JOB"
"""An environment variable with the run folder of the job that this command is."""
REASON = "VAE_LIGHTNING_REASON"
"""An environment variable with the file for the reason of a failure."""

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
        os.kill(os.getpid(), signal.SIGTERM)

    if worker:
        threading.Thread(target=watch, name="worker", daemon=True).start()


def is_job() -> bool:
    """Whether this command is a job of a sweep."""
    return JOB in os.environ


def job_folder() -> Path | None:
    """The run folder of the sweep's job that this command is; None if it is none."""
    return Path(os.environ[JOB]) if is_job() else None


def note_reason(message: str) -> None:
    """Note why this job ends without a result; of several processes the first one does, and a command that is no job does not."""
    if REASON in os.environ and os.environ.get("LOCAL_RANK", "0") == "0":
        write_json(Path(os.environ[REASON]), {"reason": message})
