"""The record of a sweep: which jobs are one, how a sweep is extended, and what contradicts it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.sweeps.record import JOBS, Asked, Record, identity

FIXED = {
    "model._target_": "VAE",
    "model.latent_dim": 20,
    "model.optimizer.lr": 0.001,
    "seed": 0,
    "model": "vae",
    "experiment": None,
}


def asked(**settings: Any) -> Asked:
    """A job with these settings, whose keys have `__` for dots."""
    flat = FIXED | {key.replace("__", "."): value for key, value in settings.items()}
    digest = identity({key: value for key, value in flat.items() if key not in ("model", "experiment", "logger")})
    return Asked(tuple(f"{key.replace('__', '.')}={value}" for key, value in settings.items()), flat, digest)


def swept(*jobs: Asked, axes: tuple[str, ...], before: Record | None = None) -> Record:
    return (before or Record.empty("/here")).with_jobs(jobs, axes, ("words",), ())


def test_jobs_are_one_by_what_may_change_a_result() -> None:
    flat = {"seed": 1, "model.beta": 4, "run_dir": "a", "trainer.threads": 1, "logger.csv._target_": "x"}
    same = {"seed": 1.0, "model.beta": 4.0, "run_dir": "b", "trainer.threads": 2, "logger.csv._target_": "y"}
    assert identity(flat) == identity(same)
    assert identity(flat) != identity({**flat, "model.beta": True})
    assert identity(flat) != identity({**flat, "model.beta": 5})


def test_the_same_command_adds_nothing_and_a_longer_one_what_is_new() -> None:
    two = swept(asked(seed=0), asked(seed=1), axes=("seed",))
    assert [job.folder for job in two.jobs] == ["seed=0", "seed=1"]
    assert swept(asked(seed=0), asked(seed=1), axes=("seed",), before=two) == two
    three = swept(asked(seed=1), asked(seed=2), axes=("seed",), before=two)
    assert [job.folder for job in three.jobs] == ["seed=0", "seed=1", "seed=2"]
    assert three.jobs[:2] == two.jobs


def test_what_is_varied_later_had_the_common_value_before() -> None:
    seeds = swept(asked(seed=0), asked(seed=1), axes=("seed",))
    both = swept(
        asked(seed=0, model__latent_dim=20), asked(seed=0, model__latent_dim=2), axes=("seed", "model.latent_dim"), before=seeds
    )
    assert [dict(job.settings) for job in both.jobs] == [
        {"seed": 0, "model.latent_dim": 20},
        {"seed": 1, "model.latent_dim": 20},
        {"seed": 0, "model.latent_dim": 2},
    ]
    assert both.jobs[0].folder == "seed=0", "a folder keeps its name"
    assert both.jobs[2].folder == "seed=0,latent_dim=2"
    assert "model.latent_dim" not in both.shared


@pytest.mark.parametrize(("key", "one", "two"), [("trainer__threads", 1, 2), ("logger", "none", "csv")])
def test_what_changes_no_result_tells_jobs_apart_while_it_is_varied(key: str, one: Any, two: Any) -> None:
    axis = key.replace("__", ".")
    seeds = swept(asked(seed=0, **{key: one}), asked(seed=1, **{key: one}), axes=("seed",))
    assert swept(asked(seed=0, **{key: two}), axes=("seed",), before=seeds).jobs == seeds.jobs
    jobs = [asked(seed=seed, **{key: value}) for seed in (0, 1) for value in (one, two)]
    both = swept(*jobs, axes=("seed", axis), before=seeds)
    assert [(job.settings["seed"], job.settings[axis]) for job in both.jobs] == [(0, one), (1, one), (0, two), (1, two)]
    assert [job.settings[axis] for job in both.of(jobs, ("seed", axis))] == [one, two, one, two]
    again = swept(asked(seed=0), asked(seed=1), axes=("seed",), before=both)
    assert again.jobs == both.jobs, "without a word about it, either will do"
    assert [job.settings["seed"] for job in again.of([asked(seed=0), asked(seed=1)], ("seed",))] == [0, 1]


def test_what_followed_a_varied_setting_and_is_varied_later_had_its_values_before() -> None:
    two = swept(asked(seed=0, data__seed=0), asked(seed=1, data__seed=1), axes=("seed",))
    jobs = [asked(seed=seed, data__seed=other) for seed in (0, 1) for other in (0, 1)]
    both = swept(*jobs, axes=("seed", "data.seed"), before=two)
    assert [(job.settings["seed"], job.settings["data.seed"]) for job in both.jobs] == [(0, 0), (1, 1), (0, 1), (1, 0)]
    assert both.jobs[0].folder == "seed=0"


def test_a_value_of_an_axis_may_be_fixed_later() -> None:
    two = swept(asked(model__latent_dim=2), asked(model__latent_dim=10), axes=("model.latent_dim",))
    more = swept(asked(model__latent_dim=50, seed=1), asked(model__latent_dim=50, seed=0), axes=("seed",), before=two)
    assert [dict(job.settings) for job in more.jobs[2:]] == [
        {"model.latent_dim": 50, "seed": 1},
        {"model.latent_dim": 50, "seed": 0},
    ]


def test_contradiction_is_refused_by_name_with_the_ways_out() -> None:
    two = swept(asked(seed=0), asked(seed=1), axes=("seed",))
    with pytest.raises(ConfigurationError) as error:
        swept(asked(seed=0, model__optimizer__lr=0.1), axes=("seed",), before=two)
    assert str(error.value) == (
        "model.optimizer.lr=0.1: all jobs of the sweep have model.optimizer.lr=0.001; vary it, model.optimizer.lr=0.001,0.1, "
        "or start another one: sweep=new"
    )
    with pytest.raises(ConfigurationError, match=r"^model=beta_vae: all jobs of the sweep have model=vae; "):
        swept(asked(model="beta_vae", model___target_="BetaVAE"), axes=("seed",), before=two)


def following(seed: int, **settings: Any) -> Asked:
    """A job whose data have its seed without a word about it."""
    job = asked(seed=seed, **{"data__seed": seed, **settings})
    return replace(job, words=tuple(word for word in job.words if not word.startswith("data.seed") or "data__seed" in settings))


def test_what_follows_a_varied_setting_is_no_contradiction() -> None:
    one = swept(following(0), axes=())
    both = swept(following(0), following(1), axes=("seed",), before=one)
    assert [dict(job.settings) for job in both.jobs] == [{"seed": 0}, {"seed": 1}]


def test_what_follows_a_varied_setting_and_is_named_contradicts() -> None:
    two = swept(following(0), following(1), axes=("seed",))
    flats = {job.words: job.flat for job in (following(0), following(1))}
    with pytest.raises(ConfigurationError, match=r"^data.seed=7: a job of the sweep has data.seed=0; vary it, data.seed=0,7, or "):
        two.with_jobs([following(2, data__seed=7)], ("seed",), (), (), lambda words: flats[tuple(words)])


@pytest.mark.parametrize("group", ["model", "experiment", "recipe"])
def test_what_is_named_contradicts_under_varied_options_too(group: str) -> None:
    """Jobs of other settings would count as further seeds of the same option."""

    def job(option: str, seed: int, size: int) -> Asked:
        return asked(**{group: option, "model___target_": option, "seed": seed, "model__latent_dim": size})

    jobs = [job(option, seed, 20) for option in ("a", "b") for seed in (0, 1)]
    silent = [replace(job, words=tuple(word for word in job.words if "latent" not in word)) for job in jobs]
    other = [job(option, 2, 2) for option in ("a", "b")]
    for before in (jobs, silent):
        record = swept(*before, axes=(group, "seed"))
        with pytest.raises(ConfigurationError, match=r"^model.latent_dim=2: all jobs of the sweep have model.latent_dim=20; "):
            swept(*other, axes=(group,), before=record)
    assert len(swept(job("c", 0, 20), axes=("seed",), before=record).jobs) == 5


def test_what_only_new_options_have_may_be_named() -> None:
    two = [replace(asked(model=option, model___target_=option), words=(f"model={option}",)) for option in ("vae", "iwae")]
    flats = {job.words: job.flat for job in two}
    beta = replace(asked(model="beta", model___target_="beta", model__beta=4), words=("model=beta", "model.beta=4"))
    more = swept(*two, axes=("model",)).with_jobs([beta], (), (), (), lambda words: flats[tuple(words)])
    assert [job.folder for job in more.jobs] == ["model=vae", "model=iwae", "model=beta"]


def test_both_words_of_one_setting_are_kept() -> None:
    """`+key=...` brings a setting in, and a later `key=...` changes it."""
    words = ("+model.optimizer.eps=1e-6", "model.optimizer.eps=1e-7", "seed=0,1")
    record = Record.empty("/here").with_jobs([asked(seed=0), asked(seed=1)], ("seed",), words, ())
    assert record.words == words
    assert record.with_jobs([asked(seed=2)], (), (*words[:2], "seed=2"), ()).words == (*words[:2], "seed=0,1,2")


def test_words_have_the_values_of_all_commands() -> None:
    seeds = Record.empty("/here").with_jobs([asked(seed=0), asked(seed=1)], ("seed",), ("seed=0,1", "data.batch_size=64"), ())
    third = seeds.with_jobs([asked(seed=2)], (), ("seed=2", "data.batch_size=64"), ())
    assert third.words == ("seed=0,1,2", "data.batch_size=64")
    wide = third.with_jobs([asked(seed=0, model__latent_dim=2)], ("model.latent_dim",), ("seed=0", "model.latent_dim=2,20"), ())
    assert wide.words == ("seed=0,1,2", "data.batch_size=64", "model.latent_dim=2,20")


def test_options_that_are_varied_bring_their_settings_along() -> None:
    pair = swept(asked(model="vae"), asked(model="beta", model___target_="Beta", model__beta=4), axes=("model",))
    again = swept(asked(model="beta", model___target_="Beta", model__beta=4, seed=1), axes=("model", "seed"), before=pair)
    assert [job.folder for job in again.jobs] == ["model=vae", "model=beta", "model=beta,seed=1"]


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = swept(asked(seed=0), asked(seed=1), axes=("seed",))
    record.write(tmp_path)
    assert Record.read(tmp_path) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is no folder of a sweep"),
        ("", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "is of format 2, and this version of vae_lightning knows 1"),
        ({"jobs": 3}, "is damaged"),
        ({"start": None}, "is damaged"),
        ({"jobs": [{"folder": "../elsewhere", "words": [], "settings": {}, "digest": ""}]}, "is no name of a folder"),
        ({"jobs": [{"folder": ".sweep", "words": [], "settings": {}, "digest": ""}]}, "is no name of a folder"),
        ({"jobs": [{"folder": "a", "words": [3], "settings": {}, "digest": ""}]}, "3 is no text"),
    ],
)
def test_damaged_record_is_one_line_that_names_it(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / JOBS
    if change is not None:
        swept(asked(seed=0), axes=("seed",)).write(tmp_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | change) if isinstance(change, dict) else change)
    with pytest.raises(CheckpointError, match=message) as error:
        Record.read(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
