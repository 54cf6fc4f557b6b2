"""The record of a search, and what may be asked of one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.sweeps.search import SEARCH, Search, SearchSettings

SEARCHED = Search(SearchSettings(n_trials=7), "val/elbo", "max", {"model.latent_dim": "2 to 9 by 1"}, ("0", "1"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials=0: must be a whole number of at least 1"),
        ({"n_trials": 2.5}, "hydra.sweeper.n_trials=2.5: must be a whole number of at least 1"),
        ({"n_trials": True}, "hydra.sweeper.n_trials=True: must be a whole number of at least 1"),
        ({"n_trials": None}, "hydra.sweeper.n_trials=null: must be a whole number of at least 1"),
        ({"startup_trials": -1}, "hydra.sweeper.startup_trials=-1: must be a whole number of at least 0"),
        ({"warmup_validations": 0}, "hydra.sweeper.warmup_validations=0: must be a whole number of at least 1"),
        ({"reduction_factor": 1}, "hydra.sweeper.reduction_factor=1: must be a whole number of at least 2"),
        ({"seed": "a"}, "hydra.sweeper.seed=a: must be a whole number of at least 0"),
        ({"sampler": "tpa"}, "hydra.sweeper.sampler=tpa: unknown; did you mean tpe? choose from: tpe, random, qmc"),
        ({"pruner": "medain"}, "hydra.sweeper.pruner=medain: unknown; did you mean median? choose from: median, asha, none"),
        ({"pruner": None}, "hydra.sweeper.pruner=null: unknown; choose from: median, asha, none"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        SearchSettings(**settings).check()
    assert str(error.value).startswith(message)


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    SEARCHED.write(tmp_path)
    assert Search.read(tmp_path) == SEARCHED
    assert Search.read(tmp_path).settings.words()[:2] == ["hydra.sweeper.n_trials=7", "hydra.sweeper.sampler=tpe"]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"settings": SearchSettings(n_trials=9, sampler="random", pruner="none")}, None),
        (
            {"space": {"model.latent_dim": "2 to 5 by 1"}},
            "model.latent_dim: the search tries 2 to 9 by 1, and not 2 to 5 by 1",
        ),
        (
            {"space": {**SEARCHED.space, "model.beta": "1.0 to 2.0"}},
            "model.beta: the search tries one value, and not 1.0 to 2.0",
        ),
        ({"seeds": ()}, "seed: a trial of the search has the seeds 0,1, and not of the config"),
        ({"metric": "val/kl", "mode": "min"}, "monitor=val/kl: the search judges by val/elbo (max)"),
    ],
)
def test_searches_differ_in_what_they_try_and_judge_by(change: dict[str, Any], difference: str | None) -> None:
    assert SEARCHED.difference(replace(SEARCHED, **change)) == difference


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"format": 2}, "format 2, and this version of vae_lightning knows 1"),
        ({"mode": "up"}, "it is no record of a search"),
        ({"space": {"model.beta": 3}}, "it is no record of a search"),
        ({"space": []}, "has no attribute 'values'"),
        ({"settings": {}}, "'n_trials'"),
    ],
)
def test_damaged_record_is_refused_by_its_path(tmp_path: Path, damage: dict[str, Any], reason: str) -> None:
    SEARCHED.write(tmp_path)
    content = json.loads((tmp_path / SEARCH).read_text())
    (tmp_path / SEARCH).write_text(json.dumps(content | damage))
    with pytest.raises(CheckpointError) as error:
        Search.read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SEARCH}: is damaged (")
    assert reason in str(error.value)


def test_settings_of_a_record_are_held_to_what_a_command_may_say(tmp_path: Path) -> None:
    SEARCHED.write(tmp_path)
    content = json.loads((tmp_path / SEARCH).read_text())
    content["settings"]["n_trials"] = "3 hydra.sweep.dir=/"
    (tmp_path / SEARCH).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"search\.json: is damaged \(hydra\.sweeper\.n_trials="):
        Search.read(tmp_path)


def test_folder_without_a_record_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"search\.json: is missing"):
        Search.read(tmp_path)
