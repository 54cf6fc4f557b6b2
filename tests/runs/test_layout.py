"""What a run folder holds is written whole, in a form that other programs read."""

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from vae_lightning.runs import layout

Compose = Callable[..., DictConfig]


def test_configs_name_the_files_of_the_layout(compose: Compose) -> None:
    config = compose("run_dir=run")
    assert Path(config.callbacks.last_checkpoint.dirpath, "last.ckpt") == Path("run") / layout.LAST
    assert Path(config.callbacks.checkpoint.dirpath, f"{config.callbacks.checkpoint.filename}.ckpt") == Path("run") / layout.BEST
    assert Path(config.callbacks.animation.dirpath) == Path("run") / layout.ANIMATION
    assert Path(config.logger.tensorboard.save_dir, config.logger.tensorboard.name) == Path("run") / layout.TENSORBOARD
    logger = compose("run_dir=run", "logger=csv").logger.csv
    assert Path(logger.save_dir, logger.name, "metrics.csv") == Path("run") / layout.CSV
