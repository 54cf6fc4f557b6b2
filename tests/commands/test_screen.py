"""What a run looks like in a terminal."""

import shlex
from pathlib import Path

import pytest
from terminal import row

from vae_lightning.commands.screen import print_run


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def test_run_shows_each_metric_of_each_split(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"train/elbo": -100.123, "train/loss": 100.123, "val/elbo": -101.0, "val/accuracy": 0.5, "test/elbo": -102.456}
    print_run(Path("outputs/vae/now"), metrics)
    text = capsys.readouterr().out
    assert row(text, "train") == ["", "train", "val", "test"]
    assert row(text, "elbo") == ["elbo", "-100.12", "-101.00", "-102.46"]
    assert row(text, "loss") == ["loss", "100.12", "", ""]
    assert row(text, "accuracy") == ["accuracy", "", "0.5000", ""]
    assert "python evaluate.py run=outputs/vae/now" in text


def test_metrics_of_a_part_of_a_split_are_said_to_be_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    limits = {"train": 1.0, "val": 0.5, "test": 1}
    print_run(Path("outputs/vae/now"), {"train/elbo": -1.0, "test/elbo": -1.0}, limits=limits)
    assert capsys.readouterr().out.startswith("nats per image, mean over the split (test: 1 batch alone)\n")
    print_run(Path("outputs/vae/now"), {"val/elbo": -1.0}, limits=limits)
    assert capsys.readouterr().out.startswith("nats per image, mean over the split (val: 50 % of its batches alone)\n")
    print_run(Path("outputs/vae/now"), {"train/elbo": -1.0}, limits=limits)
    assert capsys.readouterr().out.startswith("nats per image, mean over the split\n")


def test_interrupted_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Path("outputs/vae/now/checkpoints/last.ckpt")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    print_run(Path("outputs/vae/now"), {"train/elbo": -100.0}, interrupted=True)
    text = capsys.readouterr().out
    assert "train.py resume=outputs/vae/now\n" in text
    assert "evaluate.py" not in text


def test_run_interrupted_before_its_first_step_has_nothing_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(Path("outputs/vae/now"), {}, interrupted=True)
    assert capsys.readouterr().out == "interrupted before the first step: outputs/vae/now holds nothing that was learned\n"


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
