"""Several resolved configs to trained models and run folders at once: `commands.train` of each, the steps taken together."""

import functools
from collections import Counter
from collections.abc import Sequence

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

from omegaconf import DictConfig  # isort: skip

from vae_lightning.commands.train import Result, train
from vae_lightning.engine.stacked import run_stacked
from vae_lightning.errors import ConfigurationError

__all__ = ["train_stacked"]


def train_stacked(cfgs: Sequence[DictConfig], started: float | None = None) -> list[Result | Exception]:
    """Train what `cfgs` describe as one stack of models, each into its own run folder, as `train` would.

    The progress bar is that of the first training.

    Args:
        started: `time.time()` when the command was given, for the timings, which are those of the whole stack.

    Returns:
        The result of each training, or the error in which it ended.

    Raises:
        ConfigurationError: the models cannot be trained together; says which setting differs. Nothing was trained or written.
    """
    folder, count = max(Counter(str(cfg.run_dir) for cfg in cfgs).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ConfigurationError(f"run_dir={folder}: is that of {count} trainings of the stack; give each its own")
    outcomes = run_stacked([functools.partial(train, cfg, started) for cfg in cfgs])
    return [outcome.result if outcome.error is None else outcome.error for outcome in outcomes]
