"""What a run folder holds is written whole, in a form that other programs read."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from vae_lightning import runs
from vae_lightning.runs import layout

Compose = Callable[..., DictConfig]


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    content = {"metrics": {"val/elbo": math.nan, "val/kl": 3.0}, "steps": [math.inf, (-math.inf, 1)]}
    runs.write_json(tmp_path / "metrics.json", content)
    read = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert read == {"metrics": {"val/elbo": None, "val/kl": 3.0}, "steps": [None, [None, 1]]}


def test_configs_name_the_files_of_the_layout(compose: Compose) -> None:
    config = compose("run_dir=run")
    assert Path(config.callbacks.last_checkpoint.dirpath, "last.ckpt") == Path("run") / layout.LAST
    assert Path(config.callbacks.checkpoint.dirpath, f"{config.callbacks.checkpoint.filename}.ckpt") == Path("run") / layout.BEST
    assert Path(config.callbacks.animation.dirpath) == Path("run") / layout.ANIMATION
    assert Path(config.logger.tensorboard.save_dir, config.logger.tensorboard.name) == Path("run") / layout.TENSORBOARD
    logger = compose("run_dir=run", "logger=csv").logger.csv
    assert Path(logger.save_dir, logger.name, "metrics.csv") == Path("run") / layout.CSV
