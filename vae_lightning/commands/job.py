"""A command that is a job of a sweep: the environment tells it so, and where to say why it ended without a result.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

import os
from pathlib import Path

from vae_lightning.machine.files import write_json

__all__ = ["environment_of", "is_job", "job_folder", "note_reason"]

JOB = "VAE_LIGHTNING_JOB"
"""An environment variable with the run folder of the job that this command is."""
REASON = "VAE_LIGHTNING_REASON"
"""An environment variable with the file for the reason of a failure."""


def environment_of(run: Path, reason: Path) -> dict[str, str]:
    """The environment variables of the job with the run folder `run`, which writes into `reason` why it failed."""
    return {JOB: str(run), REASON: str(reason)}


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
