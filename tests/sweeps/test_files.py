"""The table as files: the same numbers in each, whole, and nothing in them that a name could smuggle in."""

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hand_made_sweeps import evaluated, fail, make_sweep, write_run
from PIL import Image

from vae_lightning.errors import StorageError
from vae_lightning.machine.files import write_json
from vae_lightning.sweeps.files import to_csv, to_json, write_table
from vae_lightning.sweeps.statistics import Spread
from vae_lightning.sweeps.table import Table, table_of


def values(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
    beta, seed = settings["model.beta"], settings["seed"]
    if (beta, seed) == (9, 1):
        return None
    return {"elbo": [-90.1 - beta / 3, -110.7 - beta / 7 + seed / 9, -95.0], "kl": [30 / beta, 20 / beta, 10.0]}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    record = make_sweep(tmp_path, {"model.beta": [1, 4, 9], "seed": [0, 1]}, values)
    fail(tmp_path, record.jobs[-1], "out of memory")
    evaluated(tmp_path / record.jobs[0].folder, nll=88.25)
    return table_of(tmp_path, record)


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_csv_reads_back_to_the_same_numbers(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    assert [row["model.beta"] for row in rows] == ["1", "4", "9"]
    assert [(row["seeds"], row["jobs"]) for row in rows] == [("2", "2"), ("2", "2"), ("1", "2")]
    for row, of in zip(rows, table.rows, strict=True):
        for key, spread in {**of.cells, **{f"difference {key}": value for key, value in of.differences.items()}}.items():
            read = [row[key], *(row[f"{key} {name}"] for name in ("n_seeds", "se_seeds", "ci95_seeds", "se_images", "n_images"))]
            found = [None if text == "" else float(text) for text in read]
            assert found == [
                spread.mean,
                spread.num_seeds,
                spread.standard_error,
                spread.half_width,
                spread.over_images,
                spread.num_images,
            ]
    assert rows[2]["test/elbo se_seeds"] == rows[2]["test/elbo ci95_seeds"] == "", "one seed says nothing of others"
    assert rows[1]["test/nll"] == ""


def test_json_is_strict_and_has_the_same_numbers(table: Table) -> None:
    write_table(table)
    content = strictly((table.folder / "sweep.json").read_text())
    assert content["format"] == 1
    assert content["jobs"] == {"finished": 5, "failed": 1}
    assert content["differences_from"] == "beta=1"
    for row, of in zip(content["rows"], table.rows, strict=True):
        assert row["settings"] == of.settings
        for key, spread in of.cells.items():
            assert row["metrics"][key]["mean"] == spread.mean
            assert row["metrics"][key]["half_width_95_over_seeds"] == spread.half_width
            assert row["metrics"][key]["values"] == list(spread.values)
        assert {key: value["mean"] for key, value in row["differences"].items()} == {k: v.mean for k, v in of.differences.items()}
    assert [(job["state"], job["reason"]) for job in content["rows"][2]["jobs"]] == [
        ("finished", None),
        ("failed", "out of memory"),
    ]
    assert content["metrics"]["test/nll"]["num_samples"] == 50
    assert content["metrics"]["test/elbo"]["higher_is_better"] is True


def test_numbers_that_are_not_finite_are_null(table: Table) -> None:
    table.rows[0].cells["test/elbo"] = Spread(float("nan"), 2, float("inf"))  # type: ignore[index]
    write_json(table.folder / "sweep.json", to_json(table))
    metric = strictly((table.folder / "sweep.json").read_text())["rows"][0]["metrics"]["test/elbo"]
    assert (metric["mean"], metric["standard_error_over_seeds"]) == (None, None)


def test_all_files_are_written_and_nothing_else(table: Table) -> None:
    before = {path.name for path in table.folder.iterdir()}
    page = write_table(table)
    assert page == table.folder / "sweep.html"
    added = {path.name for path in table.folder.iterdir()} - before
    assert added == {"sweep.csv", "sweep.json", "sweep.md", "sweep.html", "figures"}
    pictures = {path.stem for path in (table.folder / "figures").iterdir()}
    assert pictures == {"seeds", "differences"}
    for path in (table.folder / "figures").iterdir():
        assert Image.open(path).format == "PNG"


def test_plots_of_an_earlier_table_go_and_other_files_stay(table: Table) -> None:
    figures = table.folder / "figures"
    figures.mkdir()
    for name in ("rate_distortion.png", "heat_maps_a_b.png", "mine.png"):
        (figures / name).write_bytes(b"old")
    write_table(table)
    assert {path.name for path in figures.iterdir()} == {"seeds.png", "differences.png", "mine.png"}


def test_table_of_a_sweep_without_results_is_written_too(tmp_path: Path) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 4], "seed": [0]}, lambda settings: None)
    write_table(table_of(tmp_path, record))
    assert "No job has a result yet" in (tmp_path / "sweep.html").read_text()
    assert "No job has a result yet" in (tmp_path / "sweep.md").read_text()
    assert to_json(table_of(tmp_path, record))["metrics"] == {}
    assert (tmp_path / "sweep.csv").read_text().splitlines() == ["model.beta,seeds,jobs", "1,0,1", "4,0,1"]


def test_figures_that_are_a_link_are_not_written_through(table: Table, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (table.folder / "figures").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(StorageError, match="figures: is a link, which is not written through"):
        write_table(table)
    assert not list(elsewhere.iterdir())


def test_names_that_are_no_text_do_not_keep_the_files_from_being_written(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"sweep_\xff")
    record = make_sweep(folder, {"name": ["\ud800", "b"], "seed": [0]}, lambda settings: None)
    write_run(folder / record.jobs[1].folder, {"elbo": [1.0, 2.0]})
    page = write_table(table_of(folder, record))
    assert "name=b" in page.read_text()
    assert strictly((folder / "sweep.json").read_text())["rows"][0]["settings"] == {"name": "\ud800"}
