"""The command `vae-sweep`: a table of any sweep at any time, or one clear line."""

import configparser
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK, REPOSITORY
from filelock import FileLock
from hand_made_sweeps import make_sweep

from vae_lightning.commands.table import main
from vae_lightning.sweeps.record import Record


def values(settings: Mapping[str, Any]) -> dict[str, list[float]] | None:
    return {"elbo": [-90.0 - settings["model.beta"], -100.0 + settings["seed"]], "kl": [20.0, 10.0]}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished sweep below `outputs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    folder = tmp_path / "outputs" / "beta_vae" / "sweep_1"
    make_sweep(folder, {"model.beta": [1, 4], "seed": [0, 1]}, values)
    return folder


@pytest.mark.parametrize("word", ["latest", "outputs/beta_vae/sweep_1", "outputs/beta_vae/sweep_1/beta=1,seed=0"])
def test_table_is_printed_and_written(sweep: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"sweep={word}"])
    text = capsys.readouterr().out
    assert "mean over 2 seeds" in text
    assert "table: outputs/beta_vae/sweep_1/sweep.html" in text
    assert json.loads((sweep / "sweep.json").read_text())["differences_from"] == "beta=1"
    assert {path.name for path in sweep.glob("sweep.*")} == {"sweep.html", "sweep.md", "sweep.csv", "sweep.json"}


def test_row_to_compare_with_is_chosen(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sweep=latest", "to=beta=4"])
    assert "difference: from beta=4 (as asked for)" in capsys.readouterr().out
    assert json.loads((sweep / "sweep.json").read_text())["differences_from"] == "beta=4"


def test_table_of_a_sweep_that_runs_says_what_runs(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "beta=4,seed=1" / "metrics.json").unlink()
    (sweep / ".sweep" / "locks").mkdir()
    with FileLock(sweep / ".sweep" / "locks" / "beta=4,seed=1"):
        main(["sweep=latest"])
    text = capsys.readouterr().out
    assert "running:     beta=4 seed=1" in text
    assert "1 of 2" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "sweep: give the sweep's folder, sweep=<folder> or sweep=latest"),
        (["sweep="], "sweep: give the sweep's folder"),
        (["sweep=nowhere"], "sweep=nowhere: there is no such folder"),
        (["sweep=outputs"], "sweep=outputs: is no folder of a sweep (it has no .sweep/jobs.json)"),
        (["sweep=latest", "sweep=latest"], "sweep=latest: sweep is given twice"),
        (["swep=latest"], "swep=latest: no such key; did you mean sweep="),
        (["latest"], "latest: is not understood"),
        (["sweep=latest", "to=beta=7"], "to=beta=7: names no row"),
    ],
)
def test_wrong_command_is_a_line_and_status_2(sweep: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {said}")
    assert not list(sweep.glob("sweep.*"))


def test_damaged_record_is_a_line(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / ".sweep" / "jobs.json").write_text("[")
    with pytest.raises(SystemExit):
        main([f"sweep={sweep}"])
    assert "jobs.json: is damaged" in capsys.readouterr().err


def test_folder_that_cannot_be_written_to_costs_the_files_alone(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "sweep.csv").mkdir()  # as permissions do not count for root
    with pytest.raises(SystemExit) as ended:
        main(["sweep=latest"])
    output = capsys.readouterr()
    assert ended.value.code == 2
    assert "sweep.csv: could not be written" in output.err
    assert "mean over 2 seeds" in output.out
    assert "sweep.html" not in output.out


def test_help_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert "sweep=latest" in text
    assert "to=" in text


def test_installed_command_is_this_one() -> None:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    commands = dict(line.split(" = ") for line in parser["options.entry_points"]["console_scripts"].split("\n")[1:])
    module, _, function = commands["vae-sweep"].partition(":")
    assert getattr(importlib.import_module(module), function) is main


@pytest.mark.slow
def test_real_sweep_ends_in_its_table(tmp_path: Path, mnist_root: Path) -> None:
    swept = [
        "model=beta_vae",
        "model.beta=1,4",
        "seed=0,1",
        "model.net.hidden=[8]",
        "model.latent_dim=2",
        f"data.root={mnist_root}",
    ]
    swept += ["trainer.compile=false"]
    command = [sys.executable, str(REPOSITORY / "train.py"), "-m", *swept, *QUICK]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    assert "mean over 2 seeds ± half of the 95 % interval over seeds" in run.stdout
    (folder,) = (tmp_path / "outputs" / "beta_vae").glob("sweep_*")
    content = json.loads((folder / "sweep.json").read_text())
    assert [row["label"] for row in content["rows"]] == ["beta=1", "beta=4"]
    for row in content["rows"]:
        for job in row["jobs"]:
            metrics = json.loads((folder / job["folder"] / "metrics.json").read_text())["metrics"]
            assert job["metrics"] == {key: value for key, value in metrics.items() if not key.startswith("train/")}
        metric = row["metrics"]["test/elbo"]
        assert (metric["num_seeds"], metric["num_images"]) == (2, 100)
        assert metric["standard_error_over_images"] > 0
    (other,) = (row for row in content["rows"] if row["differences"])
    assert other["differences"]["test/elbo"]["num_images"] == 100
    before = (folder / "sweep.csv").read_text()
    again = [sys.executable, "-m", "vae_lightning.commands.table", "sweep=latest"]
    shown = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(REPOSITORY)}, check=False)
    assert shown.returncode == 0, shown.stderr
    assert (folder / "sweep.csv").read_text() == before
    assert Record.read(folder).axes == ("model.beta", "seed")
