"""A command that is a run of a trial of a search: the environment tells it which, and it reports to Optuna's journal."""

import os
from collections.abc import Mapping

from vae_lightning.callbacks import Pruning
from vae_lightning.commands.job import job_folder
from vae_lightning.sweeps.study import Reporter

__all__ = ["environment_of_trial", "pruning_of"]

TRIAL = "VAE_LIGHTNING_TRIAL"
"""An environment variable with the number of the trial that the job of this command is the reporting run of."""


def environment_of_trial(number: int) -> Mapping[str, str]:
    """The environment variables of the run that reports for the trial with this number."""
    return {TRIAL: str(number)}


def pruning_of(metric: str) -> list[Pruning]:
    """The callback that reports `metric`, and stops the training if that is hopeless; none if this command is no trial's run."""
    folder = job_folder()
    if folder is None or TRIAL not in os.environ:
        return []
    return [Pruning(metric, Reporter(folder.parent, int(os.environ[TRIAL])))]
