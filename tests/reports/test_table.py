"""What a report looks like in a terminal."""

import math
from pathlib import Path

import pytest
from terminal import row

from vae_lightning.reports.document import to_json
from vae_lightning.reports.merging import merged
from vae_lightning.reports.table import print_report
from vae_lightning.reports.yardsticks import beside
from vae_lightning.treatment import Treatment
from vae_lightning.types import Estimate


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def test_report_shows_value_error_images_and_samples(capsys: pytest.CaptureFixture[str]) -> None:
    estimates = {
        "nll": Estimate(86.7649, 0.1234, 10_000, 5000, "stochastic", "importance sampling"),
        "kl": Estimate(25.0, math.nan, 1, 0, "stochastic", "closed form"),
        "accuracy": Estimate(0.99216, 0.00088, 10_000, 0, "stochastic", "share"),
    }
    print_report(to_json("checkpoints/best.ckpt", {"val": estimates, "test": {}}), Path("evaluation/report.json"))
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
    assert "KL per dimension: 50 estimates" in text
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


@pytest.mark.parametrize("name", ["a[/b]", "tune[v2]", "[red]x", ":smile:"])
def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = Path("outputs") / name.replace("/", "_") / "now"
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


def test_report_says_what_errors_cover_and_where_the_nll_stands(capsys: pytest.CaptureFixture[str]) -> None:
    estimates = {
        "nll": Estimate(88.0, 0.2, 10_000, 50, "dynamic", ""),
        "effective_sample_size": Estimate(3.5, 0.1, 10_000, 50, "dynamic", ""),
    }
    treatment = Treatment("mnist", "dynamic").plain
    print_report(to_json("best.ckpt", {"test": estimates}, treatment=treatment), Path("evaluation"))
    text = capsys.readouterr().out
    assert "covers neither the seed of the training nor" in text
    numbers = len(beside("nll", Treatment("mnist", "dynamic")))
    assert f"test/nll 88.00 ± 0.20 beside {numbers} comparable numbers" in text
    assert "next better: 86.76 VAE, k = 1 (Burda et al., 2016)" in text
    assert "next worse: 88.06 VAE with a VampPrior, 50 epochs (this project)" in text
    assert "note: effective_sample_size is 3.5 of 50, below 10" in text


def test_report_compares_nothing_where_the_data_are_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(to_json("best.ckpt", {"test": {"nll": Estimate(88.0, 0.2, 10, 50, "dynamic", "")}}), Path("evaluation"))
    assert "comparable" not in capsys.readouterr().out
