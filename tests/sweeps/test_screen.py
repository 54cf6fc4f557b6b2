"""The table in a terminal, wide and narrow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hand_made_sweeps import evaluated, fail, make_sweep, write_run
from terminal import row

from vae_lightning.sweeps.screen import print_sweep
from vae_lightning.sweeps.search import SEARCH
from vae_lightning.sweeps.table import Table, table_of


def values(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
    beta, seed = settings["model.beta"], settings["seed"]
    return None if (beta, seed) == (9, 1) else {"elbo": [-90.0 - beta, -100.0 - beta + seed], "kl": [20.0, 10.0]}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.chdir(tmp_path)
    record = make_sweep(tmp_path, {"model.beta": [1, 4, 9], "seed": [0, 1]}, values)
    fail(tmp_path, record.jobs[-1], "out of memory \x1b[31m")
    (tmp_path / ".sweep" / "logs").mkdir()
    (tmp_path / ".sweep" / "logs" / record.jobs[-1].folder).with_suffix(".log").write_text("")
    return table_of(tmp_path, record)


def shown(table: Table, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_sweep(table, table.folder / "sweep.html")
    return capsys.readouterr().out


def test_wide_terminal_has_means_errors_and_differences(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(table, 160, monkeypatch, capsys)
    assert row(text, "beta") == ["beta", "seeds", "test/elbo", "images", "difference", "images", "test/kl"]
    # seeds -96 and -95.5: half a difference of 0.5 times 12.706; images -91 and -100.5
    assert row(text, "1") == ["1", "2", "-95.75 ± 3.18", "± 4.75", "", "", "15.00"]
    assert row(text, "4") == ["4", "2", "-98.75 ± 3.18", "± 4.75", "-3.00 ± 0.00", "± 0.00", "15.00"]
    assert row(text, "9") == ["9", "1 of 2", "-104.00", "± 5.00", "-8.00", "± 0.00", "15.00"], "one seed, and no interval"
    lines = text.splitlines()
    assert lines[0].startswith(
        "mean over 1 to 2 seeds ± half of the 95 % interval over seeds (Student's t); where there is one seed"
    )
    assert lines[1].startswith("difference: from beta=1 (the best by val/elbo), of the same seeds and test images")
    assert lines[2] == "images: standard error over test images, of these very models"
    assert lines[-1] == "table: sweep.html, and beside it sweep.md, sweep.csv, sweep.json"


def test_what_failed_is_a_line_with_its_log(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(table, 160, monkeypatch, capsys)
    (line,) = (line for line in text.splitlines() if line.startswith("failed:"))
    assert "\x1b" not in line
    assert line.startswith(r"failed:      beta=9 seed=1: out of memory \x1b[31m (.sweep/logs/")


def test_what_a_search_chose_is_shown_by_what_it_was_chosen_by(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job, *_) = (result for result in table.results if result.seed == 1)
    path = table.folder / job.status.job.folder / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pruned": True}))
    (table.folder / SEARCH).write_text("{}")
    text = shown(table_of(table.folder, table.record), 160, monkeypatch, capsys)
    assert row(text, "beta") == ["beta", "seeds", "val/elbo", "val/kl"]
    assert row(text, "1") == ["1", "1 of 2", "-97.00", "14.00"]
    assert "test/" not in text
    assert "difference" not in text
    assert "1 job stopped by the search as hopeless, which no row counts" in text


@pytest.mark.parametrize("columns", [20, 45, 60, 80])
def test_narrow_terminal_cuts_no_number(
    table: Table, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(table, columns, monkeypatch, capsys)
    for number in ("-95.75 ± 3.18", "-98.75 ± 3.18", "-104.00", "-3.00 ± 0.00", "-8.00"):
        assert number in text
    assert "…" not in text
    if columns < 60:
        assert "\nbeta=4\n  seeds 2\n  test/elbo -98.75 ± 3.18\n" in text
    else:
        assert all(len(line) <= columns for line in text.splitlines() if line.startswith(("│", "┃")))


def test_nll_is_left_out_last_and_what_is_left_out_is_said(
    table: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for result in table.results:
        if result.finished:
            evaluated(result.run, nll=90.0)
    again = table_of(table.folder, table.record)
    assert row(shown(again, 160, monkeypatch, capsys), "beta")[-2:] == ["test/kl", "test/nll"]
    text = shown(again, 82, monkeypatch, capsys)
    assert row(text, "beta") == ["beta", "seeds", "test/elbo", "images", "difference", "images", "test/nll"]
    assert "the page has besides, for which this terminal is too narrow: test/kl\n" in text
    assert "for which this terminal is too narrow: test/kl, test/nll\n" in shown(again, 60, monkeypatch, capsys)


def test_sweep_over_seeds_alone_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_sweep(tmp_path, {"seed": [0, 1]}, lambda settings: values({**settings, "model.beta": 1}))
    text = shown(table_of(tmp_path, record), 120, monkeypatch, capsys)
    assert row(text, "test/elbo") == ["setting", "seeds", "test/elbo", "images", "test/kl"]
    assert row(text, "2")[1:3] == ["2", "-95.75 ± 3.18"]
    assert "difference" not in text


def test_sweep_without_results_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_sweep(tmp_path, {"model.beta": list(range(30)), "seed": [0]}, lambda settings: None)
    lines = shown(table_of(tmp_path, record), 120, monkeypatch, capsys).splitlines()
    assert lines[0] == "no job has a result yet"
    assert lines[1] == "missing:     beta=0 seed=0"
    assert "and 10 more without a result, in the page" in lines


def test_why_there_are_no_differences_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_sweep(tmp_path, {"data.binarization": ["dynamic", "static"], "seed": [0]}, lambda settings: None)
    for number, job in enumerate(record.jobs):
        write_run(tmp_path / job.folder, {"elbo": [1.0 - number, 2.0]}, marks=[0.0, 1.0 + number])
    text = shown(table_of(tmp_path, record), 120, monkeypatch, capsys)
    assert "1 setting without a difference: tested on other images than binarization=dynamic\n" in text
    assert "difference: from" not in text


def test_long_reason_is_cut_as_the_page_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_sweep(tmp_path, {"seed": [0]}, lambda settings: None)
    fail(tmp_path, record.jobs[0], "why " * 100)
    (line,) = (line for line in shown(table_of(tmp_path, record), 120, monkeypatch, capsys).splitlines() if "failed" in line)
    assert line.endswith("why  ...")
    assert len(line) < 200
