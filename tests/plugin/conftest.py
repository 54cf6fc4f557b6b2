"""A foreign package, beside this project and unknown to it, and its own configs."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from vae_lightning.commands.commandline import CONF, register_resolvers

collect_ignore = ["foreign_vae"]

PROJECT = Path(__file__).resolve().parent / "foreign_vae"
TINY = ["gpus=0", "evaluation.num_samples=3", "evaluation.num_images=16", "evaluation.train_images=16"]
QUIET = ["trainer.gpus=0", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]

Compose = Callable[..., DictConfig]


def forget(package: str) -> None:
    """Let the next import of `package`, or of a module, read it anew."""
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def foreign() -> Iterator[Path]:
    """The foreign package's project, whose code can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROJECT / "src"))
        yield PROJECT
    forget("foreign_vae")


@pytest.fixture(scope="module")
def compose_foreign(foreign: Path) -> Compose:
    """The config of a run into `folder` with the foreign package's configs, as `--config-dir` gives it."""
    register_resolvers()

    def of(folder: Path, *overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            where = [f"hydra.searchpath=[file://{foreign / 'conf'}]", f"run_dir={folder}"]
            return hydra.compose("train", [*where, *QUIET, *overrides])

    return of


def compose_evaluation(folder: Path, *overrides: str) -> DictConfig:
    """The config of a quick evaluation of the run in `folder`."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("evaluate", [f"run={folder}", *TINY, *overrides])
