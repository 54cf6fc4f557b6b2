"""The table of a sweep: rows, means, differences, and what is said where there are none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made_sweeps import evaluated, fail, make_sweep, record_of, write_run

from vae_lightning.errors import ConfigurationError
from vae_lightning.sweeps.record import Record
from vae_lightning.sweeps.status import State
from vae_lightning.sweeps.table import Row, Table, is_better_high, table_of
from vae_lightning.treatment import Treatment

AXES: Mapping[str, Sequence[Any]] = {"model.beta": [1, 4], "model.latent_dim": [2, 4], "seed": [0, 1, 2]}
HARD = np.array([0.0, 10.0, -5.0, 40.0])


def values(settings: Mapping[str, Any]) -> dict[str, list[float]]:
    """Images of different hardness; beta=1 and more latents are better; the seed counts, and alike for all settings."""
    noise = np.random.default_rng(settings.get("seed", 0)).normal(0, 0.1, 4)
    elbo = HARD - 100 - 3 * settings["model.beta"] + settings.get("model.latent_dim", 0) + 0.5 * settings.get("seed", 0) + noise
    return {"elbo": elbo.tolist(), "kl": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return table_of(tmp_path, make_sweep(tmp_path, AXES, values))


def row(table: Table, label: str) -> Row:
    (found,) = (row for row in table.rows if row.label == label)
    return found


def test_row_is_a_setting_with_the_mean_over_its_seeds(table: Table) -> None:
    assert [row.label for row in table.rows] == [f"beta={b} latent_dim={d}" for b in (1, 4) for d in (2, 4)]
    assert table.axes == ["model.beta", "model.latent_dim"]
    assert table.metrics == ["test/elbo", "test/kl", "val/elbo", "val/kl"]
    cell = row(table, "beta=4 latent_dim=2").cells["test/elbo"]
    means = [np.mean(values({"model.beta": 4, "model.latent_dim": 2, "seed": seed})["elbo"]) for seed in range(3)]
    assert cell.values == pytest.approx(means)
    assert (cell.mean, cell.num_seeds, cell.num_images) == (pytest.approx(np.mean(means)), 3, 4)
    of_val = row(table, "beta=4 latent_dim=2").cells["val/elbo"]
    assert of_val.mean == pytest.approx(cell.mean - 1)
    assert of_val.over_images is None, "no run keeps values of the images of validation"


def test_seed_that_was_trained_twice_counts_once(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1], "seed": [0, 1]}, values)
    again = replace(record.jobs[0], folder="again", digest="another")
    write_run(tmp_path / "again", {"elbo": [-1.0, -3.0]})
    table = table_of(tmp_path, replace(record, jobs=(*record.jobs, again)))
    cell = table.rows[0].cells["test/elbo"]
    assert sorted(cell.values) == pytest.approx(sorted([-2.0, np.mean(values({"model.beta": 1, "seed": 1})["elbo"])]))
    assert (cell.num_seeds, table.seeds, len(table.rows[0].results)) == (2, "2 seeds", 3)
    assert any("1 result left out: the same setting and seed, trained twice" in note for note in table.notes)


def test_differences_are_from_the_best_on_validation_and_know_no_hard_images(table: Table) -> None:
    assert table.chosen is not None
    assert (table.chosen.label, table.reason) == ("beta=1 latent_dim=4", "the best by val/elbo")
    assert table.chosen.differences == {}
    difference = row(table, "beta=4 latent_dim=2").differences["test/elbo"]
    assert difference.mean == pytest.approx(-11.0)
    assert difference.over_images == pytest.approx(0.0, abs=1e-9)
    assert difference.half_width == pytest.approx(0.0, abs=1e-9), "what the seed does is the same for both"
    assert row(table, "beta=4 latent_dim=2").cells["test/elbo"].half_width > 1  # type: ignore[operator]


@pytest.mark.parametrize(
    "to", ["beta=4 latent_dim=4", "model.beta=4,model.latent_dim=4", "latent_dim=4.0, beta=4", "  beta=4   latent_dim=4 "]
)
def test_row_to_compare_with_is_chosen_by_its_settings(tmp_path: Path, to: str) -> None:
    table = table_of(tmp_path, make_sweep(tmp_path, AXES, values), to)
    assert table.chosen is not None
    assert (table.chosen.label, table.reason) == ("beta=4 latent_dim=4", "as asked for")
    assert row(table, "beta=1 latent_dim=4").differences["test/elbo"].mean == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("beta=1", r"to=beta=1: names 2 rows; .* beta=1 latent_dim=2; beta=1 latent_dim=4"),
        ("beta=7 latent_dim=2", "to=beta=7 latent_dim=2: names no row; .* such as beta=1 latent_dim=2"),
        ("bta=1", r"bta is none of what the sweep varies \(beta, latent_dim\)"),
        ("seed=1", r"seed is none of what the sweep varies"),
        ("", "is no row; give its settings, such as"),
        ("best", "is no row; give its settings, such as"),
    ],
)
def test_row_that_is_none_is_refused_in_a_line(tmp_path: Path, to: str, said: str) -> None:
    record = make_sweep(tmp_path, AXES, values)
    with pytest.raises(ConfigurationError, match=said) as error:
        table_of(tmp_path, record, to)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a b", "a,b", "[32,16]", "x=y", "ü ñ", "<script>"])
def test_row_is_chosen_by_any_value(tmp_path: Path, text: str) -> None:
    record = make_sweep(tmp_path, {"name": ["other", text], "seed": [0]}, lambda settings: {"elbo": [1.0, 2.0]})
    chosen = table_of(tmp_path, record, f"name={text}").chosen
    assert chosen is not None
    assert chosen.settings == {"name": text}


def test_row_without_a_result_is_no_row_to_compare_with(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0]}, lambda s: values(s) if s["model.beta"] == 1 else None)
    with pytest.raises(ConfigurationError, match=r"to=beta=4: no job of this row has a result yet"):
        table_of(tmp_path, record, "beta=4")
    assert table_of(tmp_path, record).rows[1].no_differences == "no result yet"
    empty = tmp_path / "empty"
    with pytest.raises(ConfigurationError, match="to=beta=4: no job of the sweep has a result yet"):
        table_of(empty, make_sweep(empty, {"model.beta": [1, 4]}, lambda s: None), "beta=4")


def test_one_seed_has_no_error_over_seeds(tmp_path: Path) -> None:
    table = table_of(tmp_path, make_sweep(tmp_path, {"model.beta": [1, 4]}, values, {"seed": 0}))
    cell, difference = table.rows[1].cells["test/elbo"], table.rows[1].differences["test/elbo"]
    assert (cell.num_seeds, cell.standard_error, cell.half_width) == (1, None, None)
    assert cell.over_images == pytest.approx(np.std(values({"model.beta": 4})["elbo"], ddof=1) / 2)
    assert (difference.mean, difference.half_width) == (pytest.approx(-9.0), None)
    assert table.seeds == "1 seed"


def test_settings_that_are_the_same_number_are_one_row(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1], "seed": [0]}, values)
    asked = record_of({"model.beta": [1.0], "seed": [1]})
    more = Record(asked.words, (), ".", record.axes, {}, (*record.jobs, *asked.jobs))
    assert len(table_of(tmp_path, more).rows) == 1


def test_missing_seeds_are_missing_in_differences_too(tmp_path: Path) -> None:
    def some(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
        return None if (settings["model.beta"], settings["seed"]) in {(1, 0), (4, 2)} else values(settings)

    table = table_of(tmp_path, make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1, 2]}, some), "beta=1")
    assert [row.cells["test/elbo"].num_seeds for row in table.rows] == [2, 2]
    assert table.rows[1].differences["test/elbo"].num_seeds == 1, "seed 1, which both have"
    assert table.seeds == "2 seeds"


def test_no_seed_in_common_is_no_difference(tmp_path: Path) -> None:
    def some(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
        return values(settings) if settings["seed"] == (0 if settings["model.beta"] == 1 else 1) else None

    table = table_of(tmp_path, make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1]}, some), "beta=1")
    assert table.rows[1].differences == {}
    assert table.rows[1].no_differences == "no seed in common with beta=1"


def test_other_test_images_are_not_compared(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"data.binarization": ["dynamic", "static"], "seed": [0]}, lambda settings: None)
    for number, job in enumerate(record.jobs):
        write_run(tmp_path / job.folder, {"elbo": [1.0, 2.0]}, marks=[0.0, 1.0 + number])
    table = table_of(tmp_path, record, "binarization=dynamic")
    assert table.rows[1].no_differences == "tested on other images than binarization=dynamic"
    assert table.rows[1].differences == {}


THINGS = {
    "binarization": [Treatment("mnist", "dynamic", pixels=784), Treatment("mnist", "threshold", pixels=784)],
    "likelihood": [Treatment("mnist", "none"), Treatment("mnist", "none", binary=False)],
    "conditioning": [Treatment("mnist", "dynamic"), Treatment("mnist", "dynamic", conditional=True)],
    "data set": [Treatment("mnist", "dynamic"), Treatment("kmnist", "dynamic")],
    "size": [Treatment("folder", "dynamic", pixels=196), Treatment("folder", "dynamic", pixels=784)],
}


@pytest.mark.parametrize("kinds", THINGS.values(), ids=THINGS.keys())
def test_nats_of_different_things_are_not_compared(tmp_path: Path, kinds: Sequence[Treatment]) -> None:
    record = make_sweep(tmp_path, {"model.of": ["one", "two"], "model.beta": [1, 4], "seed": [0, 1]}, lambda settings: None)
    for job in record.jobs:
        treatment = kinds[job.settings["model.of"] == "two"]
        write_run(tmp_path / job.folder, values(job.settings) | {"accuracy": [1.0, 1.0, 0.0, 1.0]}, treatment=treatment)
    table = table_of(tmp_path, record, "of=one beta=1")
    assert [set(row.differences) for row in table.rows[1:]] == [
        {"test/elbo", "test/kl", "test/accuracy"},
        {"test/accuracy"},
        {"test/accuracy"},
    ]
    (note,) = table.notes
    assert note == (
        "nats of different things, which do not compare, so that no row is the best by them: "
        f"{kinds[0].words_with_size} (2 settings); {kinds[1].words_with_size} (2 settings)"
    )
    chosen = table_of(tmp_path, record)
    assert chosen.reason == "the best by val/accuracy"
    for job in record.jobs:
        write_run(tmp_path / job.folder, values(job.settings), treatment=kinds[job.settings["model.of"] == "two"])
    assert table_of(tmp_path, record).chosen is None
    assert table_of(tmp_path, record, "of=one beta=1").rows[2].no_differences == "nats of something else than of=one beta=1"


def test_runs_of_one_thing_and_of_earlier_versions_are_compared(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1]}, lambda settings: None)
    for job, treatment in zip(record.jobs, [None, None, THINGS["size"][0], THINGS["size"][0]], strict=True):
        write_run(tmp_path / job.folder, values(job.settings), treatment=treatment)
    table = table_of(tmp_path, record)
    assert (table.notes, set(table.rows[1].differences)) == ([], {"test/elbo", "test/kl"})
    path = tmp_path / record.jobs[0].folder / "metrics.json"
    path.write_text(path.read_text().replace('"treatment": null', '"treatment": {"dataset": [], "of": 1}'))
    assert table_of(tmp_path, record).notes == [], "a damaged one says nothing"


def test_runs_that_kept_nothing_of_single_images_have_means_and_no_differences(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1]}, lambda settings: None)
    for job in record.jobs:
        write_run(tmp_path / job.folder, values(job.settings), images=False)
    table = table_of(tmp_path, record)
    cell = table.rows[1].cells["test/elbo"]
    assert (cell.num_seeds, cell.over_images, cell.num_images) == (2, None, None)
    assert cell.half_width is not None
    assert table.rows[1].no_differences == "no values of single images were kept"


def test_jobs_without_a_result_are_listed_with_their_reasons(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4, 9], "seed": [0]}, lambda s: values(s) if s["model.beta"] == 1 else None)
    fail(tmp_path, record.jobs[1], "the loss of step 7 is not finite")
    table = table_of(tmp_path, record)
    assert table.counted() == {State.FINISHED: 1, State.FAILED: 1, State.MISSING: 1}
    (failed,) = table.of_state(State.FAILED)
    assert (table.job(failed), failed.status.reason) == ("beta=4 seed=0", "the loss of step 7 is not finite")


def test_jobs_that_were_not_tested_are_named(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1]}, values)
    path = tmp_path / record.jobs[1].folder / "metrics.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "metrics": {"val/elbo": -3.0}}))
    table = table_of(tmp_path, record)
    assert table.notes == ["no test metrics, so that means of test/... are without them: beta=1 seed=1"]
    assert (row(table, "beta=1").cells["test/elbo"].num_seeds, row(table, "beta=1").cells["val/elbo"].num_seeds) == (1, 2)


def test_empty_sweep_is_a_table_without_numbers(tmp_path: Path) -> None:
    table = table_of(tmp_path, make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0]}, lambda settings: None))
    assert (table.metrics, table.chosen, table.seeds) == ([], None, "no results yet")
    assert len(table.rows) == 2


def test_estimates_have_a_mean_over_seeds_and_the_mean_of_their_errors(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1]}, values)
    for job, nll in zip(record.jobs, (90.0, 92.0, 95.0, None), strict=True):
        if nll is not None:
            evaluated(tmp_path / job.folder, nll=nll)
    table = table_of(tmp_path, record)
    first, second = (row.cells["test/nll"] for row in table.rows)
    assert (first.mean, first.num_seeds, first.standard_error, first.over_images) == (91.0, 2, pytest.approx(1.0), 0.25)
    assert (second.mean, second.num_seeds, second.half_width) == (95.0, 1, None)
    assert table.main == ["test/elbo", "test/kl", "test/nll"]
    assert table.notes == ["1 finished run not evaluated, so missing in the means of nll, ..."]


def test_estimates_with_other_settings_are_not_averaged_with_the_rest(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0, 1]}, values)
    for number, job in enumerate(record.jobs):
        evaluated(tmp_path / job.folder, nll=90.0 + number)
    path = tmp_path / record.jobs[3].folder / "evaluation" / "report.json"
    path.write_text(path.read_text().replace('"num_samples": 50', '"num_samples": 5000'))
    table = table_of(tmp_path, record)
    assert [row.cells["test/nll"].values for row in table.rows] == [(90.0, 91.0), (92.0,)]
    assert table.notes == ["nll: 1 run left out, evaluated with other settings than most"]


def test_best_row_of_a_classifier_is_the_most_accurate_one(tmp_path: Path) -> None:
    record = make_sweep(
        tmp_path,
        {"model.optimizer.lr": [0.1, 0.01]},
        lambda s: {"accuracy": [1.0, 1.0 - s["model.optimizer.lr"]], "loss": [9.0, 9.0]},
    )
    chosen = table_of(tmp_path, record).chosen
    assert chosen is not None
    assert chosen.label == "lr=0.01"


def test_direction_of_a_metric_is_that_of_the_glossary() -> None:
    found = [is_better_high(f"test/{name}") for name in ("elbo", "loss", "kl", "accuracy", "something_of_ones_own")]
    assert found == [True, False, None, True, None]
