"""A search stops a training in good order, and the training goes on to what it would have been."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from vae_lightning.callbacks import Pruning
from vae_lightning.commands import trial
from vae_lightning.commands.resuming import is_finished
from vae_lightning.commands.train import Result, train
from vae_lightning.sweeps.record import Job
from vae_lightning.sweeps.status import State, status_of
from vae_lightning.sweeps.study import Reporter

Compose = Callable[..., DictConfig]
SHAPES = ("data=shapes2d", "data.train_size=256", "data.val_size=64", "data.test_size=64", "data.batch_size=32")
SMALL = (*SHAPES, "model.net.hidden=[16]", "model.latent_dim=2", "trainer.max_epochs=4", "logger=none", "callbacks.images=null")


@pytest.fixture
def small(compose_into: Callable[..., DictConfig], tmp_path: Path) -> Compose:
    def of(*words: str, folder: str = "run") -> DictConfig:
        return compose_into(tmp_path / folder, *SMALL, *words)

    return of


class Heard:
    """What a training reported; it is hopeless from the validation `until` on."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.values: dict[int, float] = {}

    def __call__(self, step: int, value: float) -> bool:
        self.values[step] = value
        return step >= self.until


def trained(monkeypatch: pytest.MonkeyPatch, cfg: DictConfig, heard: Heard | None) -> Result:
    callbacks = [] if heard is None else [Pruning("val/elbo", heard)]
    monkeypatch.setattr("vae_lightning.commands.train.pruning_of", lambda metric: callbacks)
    return train(cfg)


def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize("compiled", [False, True])
def test_stopped_training_says_so_and_goes_on_to_what_it_would_have_been(
    small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs_quickly_traced: None, compiled: bool
) -> None:
    fast = f"trainer.compile={str(compiled).lower()}"
    heard = Heard(until=2)
    stopped = trained(monkeypatch, small(fast), heard)
    assert stopped.trainer.current_epoch < 4
    assert list(heard.values) == [1, 2]
    record = content(tmp_path / "run")
    assert record["pruned"] is True
    assert record["metrics"]["val/elbo"] == pytest.approx(heard.values[2], rel=1e-6)
    assert not any(key.startswith("test/") for key in record["metrics"]), "nobody needs the test of what was given up"
    status = status_of(tmp_path, Job("run", (), {}, ""))
    assert status.state is State.PRUNED
    assert status.metrics == record["metrics"]
    assert not is_finished(tmp_path / "run")
    on = small(fast, f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt", folder="on")
    whole = Heard(until=99)
    assert trained(monkeypatch, small(fast, folder="whole"), whole).metrics == trained(monkeypatch, on, None).metrics
    assert {step: whole.values[step] for step in (1, 2)} == heard.values
    assert "pruned" not in content(tmp_path / "on")


def test_training_that_is_through_is_not_stopped(small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard(until=4)
    trained(monkeypatch, small("trainer.compile=false"), heard)
    assert list(heard.values) == [1, 2, 3, 4]
    record = content(tmp_path / "run")
    assert "pruned" not in record
    assert "test/elbo" in record["metrics"]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["trainer.val_check_interval=0.5"], [1, 2, 3, 4, 5, 6, 7, 8]),
        (["trainer.check_val_every_n_epoch=2"], [2, 4]),
        (["trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=3"], [1, 2, 3, 4, 5]),
        (["trainer.max_steps=8", "trainer.num_sanity_val_steps=1"], [1, 2]),
    ],
)
def test_validations_are_counted_whatever_their_distance(
    small: Compose, monkeypatch: pytest.MonkeyPatch, words: list[str], steps: list[int]
) -> None:
    heard = Heard(until=99)
    trained(monkeypatch, small("trainer.compile=false", *words), heard)
    assert list(heard.values) == steps


def test_minimal_epochs_hold_no_search_back(small: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(monkeypatch, small("trainer.compile=false", "trainer.min_epochs=4"), Heard(until=1))
    assert content(tmp_path / "run")["pruned"] is True


def test_only_the_run_of_a_trial_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAE_LIGHTNING_JOB", raising=False)
    assert trial.pruning_of("val/elbo") == []
    monkeypatch.setenv("VAE_LIGHTNING_JOB", str(tmp_path / "sweep" / "x=1"))
    assert trial.pruning_of("val/elbo") == [], "a job of a sweep is no trial"
    for name, value in trial.environment_of_trial(7).items():
        monkeypatch.setenv(name, value)
    (pruning,) = trial.pruning_of("val/elbo")
    assert isinstance(pruning.report, Reporter)
    assert (pruning.metric, pruning.report.folder, pruning.report.number) == ("val/elbo", tmp_path / "sweep", 7)
