"""Stacked trainings leave run folders as `train` does."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from vae_lightning.commands.stacked import train_stacked
from vae_lightning.commands.train import Result, train
from vae_lightning.errors import ConfigurationError

Compose = Callable[..., DictConfig]
SMALL = ["model.net.hidden=[8]", "model.latent_dim=2", "trainer.limit_train_batches=8", "trainer.log_every_n_steps=4"]


def files(folder: Path) -> set[str]:
    """Paths in a run folder, without what is named after the time and the process."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {str(path.parent if "events.out" in path.name else path) for path in paths}


@pytest.mark.usefixtures("graphs_as_traced")
def test_run_folders_are_those_of_runs_alone(compose: Compose, tmp_path: Path) -> None:
    settings = [*SMALL, "callbacks.animation=null"]
    alone = train(compose(*settings, "seed=1", folder="alone"))
    stacked = train_stacked([compose(*settings, f"seed={seed}", folder=f"run_{seed}") for seed in (1, 2)])
    assert all(isinstance(result, Result) for result in stacked), stacked
    first, second = stacked
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert files(first.folder) == files(second.folder) == files(alone.folder)
    recorded, of_stack = (json.loads((result.folder / "metrics.json").read_text()) for result in (alone, first))
    assert recorded["metrics"].keys() == of_stack["metrics"].keys()
    assert of_stack["metrics"] == pytest.approx(recorded["metrics"], rel=1e-3)
    assert second.metrics["val/elbo"] != pytest.approx(first.metrics["val/elbo"], rel=1e-5)


def test_models_of_different_shapes_are_refused_and_leave_nothing(compose: Compose, tmp_path: Path) -> None:
    cfgs = [compose(*SMALL, folder="a"), compose(*SMALL, "model.net.hidden=[9]", folder="b")]
    with pytest.raises(ConfigurationError, match=r"^model\.net\.hidden: \[8\] and \[9\]"):
        train_stacked(cfgs)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_two_trainings_into_one_folder_are_refused(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^run_dir="):
        train_stacked([compose(*SMALL, f"seed={seed}", folder="a") for seed in (0, 1)])
    assert not (tmp_path / "a").exists()
