"""Real sweeps: one command to run folders, which goes on wherever it was stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from troubles import CRASHES, KILLED, WITHOUT_FILE

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = ("data=shapes2d", "data.train_size=256", "data.val_size=64", "data.test_size=64", "data.batch_size=32")
SMALL = (*SHAPES, "model.net.hidden=[16]", "model.latent_dim=2", "trainer.gpus=0", "trainer.max_epochs=1", "logger=none")


def started(cwd: Path, *words: str) -> subprocess.Popen[str]:
    where = os.environ | {"PYTHONPATH": str(REPOSITORY / "tests"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "train.py"), "-m", *words]
    return subprocess.Popen(command, cwd=cwd, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def swept(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    process = started(cwd, *words)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def metrics(folder: Path) -> dict[str, Any]:
    return {path.parent.name: json.loads(path.read_text())["metrics"] for path in folder.glob("*/metrics.json")}


@pytest.mark.slow
def test_same_command_goes_on_and_a_longer_one_adds_what_is_new(tmp_path: Path) -> None:
    once = swept(tmp_path, *SMALL, "seed=0,1")
    assert once.returncode == 0, once.stderr
    (folder,) = (tmp_path / "outputs" / "vae").glob("sweep_*")
    assert sorted(metrics(folder)) == ["seed=0", "seed=1"]
    written = {path: path.stat().st_mtime_ns for path in folder.glob("seed=*/metrics.json")}
    longer = swept(tmp_path, *SMALL, "seed=0,1,2")
    assert longer.returncode == 0, longer.stderr
    assert "3 jobs, 2 finished, 1 missing" in longer.stdout
    assert sorted(metrics(folder)) == ["seed=0", "seed=1", "seed=2"]
    assert {path: path.stat().st_mtime_ns for path in written} == written
    refused = swept(tmp_path, "sweep=latest", "model.optimizer.lr=0.1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: model.optimizer.lr=0.1: all jobs of the sweep have model.optimizer.lr=0.001; ")
    assert len(refused.stderr.splitlines()) == 1
    command = json.loads((folder / "seed=2" / "metrics.json").read_text())["provenance"]["command"]
    assert command.endswith("logger=none seed=2")


def slow(*case: object) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.latent_dim=2,abc", "seed=0"), "error: model.latent_dim='abc': "),
        slow(("model=vae,beta_vae", "model.beta=2"), "error: model.beta: belongs to model=beta_vae"),
        slow(("model.beta=interval(0,1)", "model=beta_vae"), "error: model.beta=interval(0,1): has no end of values"),
        slow(("sweep=nowhere",), "error: sweep=nowhere: there is no such folder"),
        slow(("seed=0,1", "hydra.launcher.jobs=0"), "error: hydra.launcher.jobs=0: must be auto, or at least 1"),
    ],
)
def test_what_is_wrong_with_any_job_is_said_before_the_first_one(tmp_path: Path, words: Sequence[str], message: str) -> None:
    result = swept(tmp_path, *SMALL, *words)
    assert result.returncode == 2
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
@pytest.mark.slow
def test_settings_that_only_some_options_have_are_no_obstacle(tmp_path: Path) -> None:
    result = swept(tmp_path, *SMALL[:-1], "logger=none", "model=vae,beta_vae", "model.kl_warmup_steps=3", "model/prior=mog,vamp")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "vae").glob("sweep_*")
    assert sorted(metrics(folder)) == [f"model={model},prior={prior}" for model in ("beta_vae", "vae") for prior in ("mog", "vamp")]


@pytest.mark.slow
def test_two_commands_share_the_jobs_of_a_sweep(tmp_path: Path) -> None:
    both = [started(tmp_path, *SMALL, "hydra.sweep.dir=s", "seed=range(0,6)") for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(metrics(tmp_path / "s")) == 6
    lines = [line for out, _ in said for line in out.splitlines() if "test/elbo" in line and line.startswith("[")]
    assert len(lines) == 6, "a job runs once"


@pytest.mark.slow
@pytest.mark.parametrize("signum", [pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive), signal.SIGKILL])
def test_sweep_that_is_stopped_goes_on_to_what_it_would_have_been(tmp_path: Path, signum: signal.Signals) -> None:
    long = (*SMALL, "trainer.max_epochs=20", "callbacks.last_checkpoint.every_minutes=0.01", "seed=0,1,2", "hydra.launcher.jobs=2")
    undisturbed = swept(tmp_path, *long, "hydra.sweep.dir=whole")
    assert undisturbed.returncode == 0, undisturbed.stderr
    process = started(tmp_path, *long, "hydra.sweep.dir=stopped")
    while not list((tmp_path / "stopped").glob("*/checkpoints/last.ckpt")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signum)
    out, err = process.communicate()
    if signum == signal.SIGINT:
        assert process.returncode == 130, err
        assert "train.py -m sweep=stopped hydra.launcher.jobs=2" in out
    assert len(metrics(tmp_path / "stopped")) < 3 or "interrupted" in out
    again = swept(tmp_path, "sweep=stopped")
    assert again.returncode == 0, again.stderr
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "whole")


@pytest.mark.slow
def test_fifty_jobs_of_which_eleven_go_wrong_are_whole_after_the_same_command_again(tmp_path: Path) -> None:
    """5 crash, 5 are killed, and 1 does not find its file; then each goes on where it stood."""
    (tmp_path / "marks").mkdir()
    troubles = ("+callbacks.troubles._target_=troubles.Troubles", f"+callbacks.troubles.folder={tmp_path / 'marks'}")
    command = (*SMALL, *troubles, "+callbacks.troubles.seed=${seed}", "seed=range(0,50)", "hydra.launcher.jobs=2")
    first = swept(tmp_path, *command, "hydra.sweep.dir=s")
    assert first.returncode == 1
    assert "50 jobs, 39 finished, 11 failed" in first.stdout
    reasons = {path.stem: json.loads(path.read_text())["reason"] for path in (tmp_path / "s/.sweep/reasons").iterdir()}
    expected = dict.fromkeys(CRASHES, "RuntimeError: a mistake of ours")
    expected |= dict.fromkeys(KILLED, "its process was killed by SIGKILL, as the system does where memory runs out")
    expected |= {seed: f"{tmp_path}/marks/{seed}.txt: there is no such file" for seed in WITHOUT_FILE}
    assert reasons == {f"seed={seed}": reason for seed, reason in expected.items()}
    assert len([line for line in first.stderr.splitlines() if line.startswith("error: [")]) == 11
    second = swept(tmp_path, *command, "hydra.sweep.dir=s")
    assert second.returncode == 0, second.stderr
    assert "50 jobs, 39 finished, 11 failed" in second.stdout, "what was finished is kept"
    troubled = sorted({*CRASHES, *KILLED, *WITHOUT_FILE})
    some = [*troubled, *(seed for seed in range(50) if seed not in troubled)][: len(troubled) + 4]
    again = [word for word in command if not word.startswith("seed=")]
    undisturbed = swept(tmp_path, *again, f"seed={','.join(map(str, some))}", "hydra.sweep.dir=whole")  # everybody has been here
    assert undisturbed.returncode == 0
    assert len(metrics(tmp_path / "s")) == 50
    whole = metrics(tmp_path / "whole")
    assert len(whole) == 15
    assert {name: metrics(tmp_path / "s")[name] for name in whole} == whole
