"""Refuse `evaluate.py -m`, which would make a folder of its own: an evaluation writes into the run that it evaluates."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.errors import ConfigurationError

__all__ = ["OneRun"]


class OneRun(Callback):
    """Hydra's callback that refuses a sweep of evaluations."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        # Hydra turns errors of callbacks into warnings, so the error has to end the program here
        with one_line_errors():
            raise ConfigurationError(
                "-m: the runs of a sweep are evaluated with sweep=<folder>; others: for run in outputs/*/*/; do python evaluate.py "
                'run="$run"; done'
            )
