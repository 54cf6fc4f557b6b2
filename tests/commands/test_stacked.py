"""Stacked trainings leave run folders as `train` does."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
from omegaconf import DictConfig

from vae_lightning.callbacks import LastCheckpoint, Timing
from vae_lightning.commands.stacked import train_stacked
from vae_lightning.commands.train import Result, train
from vae_lightning.errors import ConfigurationError

Compose = Callable[..., DictConfig]
SMALL = ["model.net.hidden=[8]", "model.latent_dim=2", "trainer.limit_train_batches=8", "trainer.log_every_n_steps=4"]


def files(folder: Path) -> set[str]:
    """Paths in a run folder, without what is named after the time and the process."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {str(path.parent if "events.out" in path.name else path) for path in paths}


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_as_traced")
def test_a_training_goes_on_from_within_an_epoch_beside_one_that_begins(compose: Compose, tmp_path: Path) -> None:
    settings = [*SMALL, "callbacks.animation=null", "trainer.max_epochs=2"]
    whole = train(compose(*settings, "seed=1", folder="whole"))
    train(compose(*settings, "seed=1", "trainer.max_steps=5", folder="part"))
    on = [*settings, "seed=1", f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt"]
    first, second = train_stacked([compose(*on, folder="on"), compose(*settings, "seed=2", folder="new")])
    assert isinstance(first, Result), first
    assert isinstance(second, Result), second
    assert first.trainer.global_step == second.trainer.global_step == whole.trainer.global_step == 16
    assert first.metrics == pytest.approx(whole.metrics, rel=1e-3)
    assert second.metrics == pytest.approx(train(compose(*settings, "seed=2", folder="alone")).metrics, rel=1e-3)


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


@pytest.mark.slow
@pytest.mark.usefixtures("graphs_as_traced")
def test_signal_ends_every_run_of_a_stack_and_their_clocks_keep_checkpoints(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run stands at a step of its own, in a file that is no larger than that of a run alone."""
    steps: dict[str, list[int]] = {}
    save, whole = LastCheckpoint._save, Timing.on_train_batch_end

    def kept(self: LastCheckpoint, trainer: L.Trainer) -> None:
        save(self, trainer)
        steps.setdefault(self.path.parts[-3], []).append(trainer.global_step)

    def hook(self: Timing, trainer: L.Trainer, *rest: Any) -> None:
        whole(self, trainer, *rest)
        if trainer.global_step == 12:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(LastCheckpoint, "_save", kept)
    settings = (
        *SMALL,
        "trainer.limit_train_batches=20",
        "callbacks.last_checkpoint.every_minutes=1e-9",
        "trainer.log_every_n_steps=4",
    )
    train(compose(*settings, "trainer.max_epochs=1", folder="alone"))
    monkeypatch.setattr(Timing, "on_train_batch_end", hook)
    results = train_stacked([compose(*settings, f"seed={n}", "trainer.max_epochs=9", folder=f"run_{n}") for n in range(2)])
    for n, result in enumerate(results):
        assert isinstance(result, Result)
        assert result.signal == signal.SIGTERM
        assert json.loads((result.folder / "metrics.json").read_text())["signal"] == "SIGTERM"
        assert {4, 8, 12} <= set(steps[f"run_{n}"])
        last = Path("checkpoints", "last.ckpt")
        assert (result.folder / last).stat().st_size < 1.1 * (tmp_path / "alone" / last).stat().st_size
