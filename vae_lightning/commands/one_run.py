"""`evaluate.py -m`: refused before Hydra makes a folder for it, since an evaluation writes into the run it evaluates."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.errors import ConfigurationError

__all__ = ["OneRun"]


class OneRun(Callback):
    """Refuses a sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        # Hydra makes warnings of what a callback raises, so the error has to end the program here
        with one_line_errors():
            raise ConfigurationError(
                "-m: evaluate.py evaluates one run at a time; for several: for run in outputs/*/*/; do python evaluate.py "
                'run="$run"; done'
            )
