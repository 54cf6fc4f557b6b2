"""What a run and a report look like in a terminal."""

import math
import shlex
from pathlib import Path

import pytest

from vae_lightning.reports.document import to_json
from vae_lightning.reports.merging import merged
from vae_lightning.reports.table import print_report, print_run
from vae_lightning.types import Estimate


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def row(text: str, name: str) -> list[str]:
    """The cells of the first row one of whose cells is `name`."""
    rows = [[cell.strip() for cell in line.replace("┃", "│")[1:-1].split("│")] for line in text.splitlines()]
    return next(cells for cells in rows if name in cells)


def test_report_shows_value_error_images_and_samples(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {
        "nll": Estimate(86.7649, 0.1234, 10_000, 5000, "stochastic", "importance sampling"),
        "kl": Estimate(25.0, math.nan, 1, 0, "stochastic", "closed form"),
        "accuracy": Estimate(0.99216, 0.00088, 10_000, 0, "stochastic", "share"),
    }
    print_report(to_json("checkpoints/best.ckpt", {"val": figures, "test": {}}), Path("evaluation/report.json"))
    text = capsys.readouterr().out
    assert row(text, "nll") == ["val", "nll", "86.76", "0.12", "10000", "5000"]
    assert row(text, "kl") == ["val", "kl", "25.00", "", "1", ""]
    assert row(text, "accuracy") == ["val", "accuracy", "0.9922", "0.0009", "10000", ""]
    assert "binarization: stochastic" in text
    assert "checkpoint: checkpoints/best.ckpt" in text
    assert "report:     evaluation/report.json" in text


def test_report_warns_and_says_what_is_missing_and_what_is_too_much_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    many = {f"kl_per_dimension/{d:02}": Estimate(1.0, 0.1, 10, 0, "none", "", section="KL per dimension") for d in range(50)}
    many["acceptance/ais"] = Estimate(math.nan, math.inf, 10, 16, "none", "")
    left_out = {"quadrature": "needs [two] dimensions", "samples": "needs a classifier"}
    report = to_json("best.ckpt", {"test": many}, warnings=["test/nll is [odd]"], not_measured=left_out)
    print_report(report, Path("evaluation"))
    text = capsys.readouterr().out
    assert "kl_per_dimension/03" not in text
    assert "KL per dimension: 50 figures" in text
    assert "WARNING: test/nll is [odd]" in text
    assert row(text, "acceptance/ais") == ["test", "acceptance/ais", "not finite", "", "10", "16"]
    assert "not measured: quadrature: needs [two] dimensions" in text


def test_report_shows_every_split_and_every_binarization(capsys: pytest.CaptureFixture[str]) -> None:
    splits = {
        split: {"elbo": Estimate(value, 0.1, 10, 1, binarization, "")}
        for split, value, binarization in [("val", -91.0, "threshold"), ("test", -92.0, "none")]
    }
    print_report(to_json("best.ckpt", splits), Path("report.json"))
    text = capsys.readouterr().out
    assert row(text, "val")[:3] == ["val", "elbo", "-91.00"]
    assert row(text, "test")[:3] == ["test", "elbo", "-92.00"]
    assert "binarization: threshold, none" in text


def test_run_shows_each_metric_of_each_split(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"train/elbo": -100.123, "train/loss": 100.123, "val/elbo": -101.0, "val/accuracy": 0.5, "test/elbo": -102.456}
    print_run(Path("outputs/vae/now"), metrics)
    text = capsys.readouterr().out
    assert row(text, "train") == ["", "train", "val", "test"]
    assert row(text, "elbo") == ["elbo", "-100.12", "-101.00", "-102.46"]
    assert row(text, "loss") == ["loss", "100.12", "", ""]
    assert row(text, "accuracy") == ["accuracy", "", "0.5000", ""]
    assert "python evaluate.py run=outputs/vae/now" in text


def test_interrupted_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(Path("outputs/vae/now"), {"train/elbo": -100.0}, interrupted=True)
    text = capsys.readouterr().out
    assert "ckpt_path=outputs/vae/now/checkpoints/last.ckpt" in text
    assert "evaluate.py" not in text


def test_folder_is_quoted_for_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(Path("my runs/one"), {})
    assert "'run=my runs/one'" in capsys.readouterr().out


def test_folder_elsewhere_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(Path("/elsewhere/run"), {})
    assert "run=/elsewhere/run" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a[/b]", "tune[v2]", "[red]x", ":smile:"])
def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = Path("outputs") / name.replace("/", "_") / "now"
    for interrupted in (False, True):
        print_run(folder, {f"val/{name}": 1.0}, interrupted=interrupted)
        text = capsys.readouterr().out
        assert shlex.quote(str(folder)) in text
        assert row(text, name)
    estimates = {name: Estimate(1.0, 0.1, 10, 1, name, "", section=name)}
    print_report(to_json(str(folder / "best.ckpt"), {"test": estimates}, warnings=[name], not_measured={name: name}), folder)
    text = capsys.readouterr().out
    assert row(text, name)
    assert f"WARNING: {name}" in text
    assert f"{folder}/best.ckpt" in text


def test_report_of_several_evaluations_shows_the_rows_of_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (Estimate(90.0 + k, 0.1, 10, k, "none", "", measured=when) for k, when in ((7, "monday"), (3, "tuesday")))
    now = to_json("best.ckpt", {"test": {"nll": new}}, evaluated="tuesday", figures={})
    before = to_json("best.ckpt", {"test": {"nll": old, "kl": old}}, evaluated="monday", figures={"walk": {"file": "walk.gif"}})
    print_report(merged(before, now), Path("evaluation"))
    text = capsys.readouterr().out
    assert row(text, "nll") == ["test", "nll", "93.00", "0.10", "10", "3"]
    assert "97.00" not in text
    assert "what earlier evaluations found of the same weights (estimates: 2, figures: 1)" in text
