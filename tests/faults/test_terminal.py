"""Terminals that show little, pipes that nobody reads, users without a home or a name, and folders with any name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from vae_lightning.machine import screen

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = ("data=shapes2d", "data.train_size=64", "data.val_size=32", "data.test_size=32", "data.batch_size=32")
SMALL = (*SHAPES, "model.net.hidden=[8]", "model.latent_dim=2", "trainer.gpus=0", "trainer.max_epochs=1", "callbacks.latents=null")
FEW = (
    "evaluation.num_samples=2",
    "evaluation.num_images=20",
    "evaluation.train_images=20",
    "evaluation.figures=[samples]",
    "gpus=0",
)


def call(
    cwd: Path, script: str, *words: "str | bytes", before: tuple[str, ...] = (), **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "OMP_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR")}
    command = [*before, sys.executable, str(REPOSITORY / script), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False, env=kept | environment)


def table() -> Table:
    shown = Table("", "train", "test")
    shown.add_row("log_likelihood", "-541.41", "-538.58")
    shown.add_row("iwae_bound", "-541.41", "")
    return shown


@pytest.mark.parametrize("columns", [1, 20, 30])
def test_figures_are_whole_on_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen.print_table(screen.console(), table())
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["log_likelihood", "train -541.41", "test -538.58", "iwae_bound", "train -541.41"]


def test_figures_are_a_table_where_there_is_room(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    screen.print_table(screen.console(), table())
    assert "│ -541.41 │ -538.58 │" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_poor_terminal_of_a_user_without_home_or_name_shows_every_figure(tmp_path: Path, encoding: str) -> None:
    stranger = ("unshare", "--user", "--map-user=54321", "--")
    if subprocess.run([*stranger, "true"], capture_output=True, check=False).returncode:
        stranger = ()  # this system lets nobody be another user
    result = call(
        *(tmp_path, "train.py", *SMALL, "hydra.run.dir=run"),
        before=stranger,
        **{"PYTHONIOENCODING": encoding, "TERM": "dumb", "COLUMNS": "20", "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert result.returncode == 0, result.stderr
    out = result.stdout.decode(encoding)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    for split in ("train", "val", "test"):
        assert f"{split} {metrics[f'{split}/elbo']:.2f}" in out
    assert "run folder: run" in out
    assert "\x1b" not in out
    assert b"Traceback" not in result.stderr


@pytest.mark.slow
def test_pipe_that_nobody_reads_any_more_ends_no_training(tmp_path: Path) -> None:
    words = [sys.executable, str(REPOSITORY / "train.py"), *SMALL, "hydra.run.dir=run"]
    with (tmp_path / "err").open("wb") as err:
        training = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=err)
        assert training.stdout is not None
        assert training.stdout.readline()  # as `| head -1` does
        training.stdout.close()
        assert training.wait() == 0
    assert b"Traceback" not in (tmp_path / "err").read_bytes()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]["test/elbo"]


@pytest.mark.slow
def test_folders_with_any_name_and_another_working_directory(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/b\xff [x]=y, \xd0\xb6'"
    folder = Path(os.fsdecode(name))
    folder.mkdir()
    trained = call(folder, "train.py", *SMALL, "name=\u0438\u043c\u044f [1]", LANG="C.UTF-8")
    assert trained.returncode == 0, trained.stderr
    assert b"Traceback" not in trained.stderr
    assert trained.stderr.count(b"the training goes on without this logger") == 1, "TensorBoard writes to names in UTF-8 only"
    (run,) = (path.parent for path in folder.rglob("metrics.json"))
    assert run.parent == folder / "outputs" / "\u0438\u043c\u044f [1]"
    evaluated = call(tmp_path, "evaluate.py", b"run=" + os.fsencode(run), *FEW, LANG="C.UTF-8")
    assert evaluated.returncode == 0, evaluated.stderr
    report = json.loads((run / "evaluation" / "report.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert metrics["test/elbo"] < 0
    assert report["splits"]["test"]["elbo"]["num_images"] == 20
    assert (run / "evaluation" / "report.html").stat().st_size > 1000
