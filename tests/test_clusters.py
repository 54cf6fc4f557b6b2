"""Sweeps on real engines: Slurm, Ray, joblib. Each test is skipped, and says why, where its engine is missing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import slurm as slurm_of_tests

from vae_lightning.commands.tasks import cores

REPOSITORY = Path(__file__).resolve().parent.parent
TRAIN = [sys.executable, str(REPOSITORY / "train.py")]
SMALL = [
    *(
        "model.net.hidden=[16]",
        "model.latent_dim=2",
        "trainer.gpus=0",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
    ),
    *("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "logger=none", "trainer.compile=false"),
]
LONG = ["trainer.max_epochs=20", "trainer.limit_train_batches=40"]
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=3"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables of a command that uses a Slurm of one node."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'vae_lightning[slurm]'")
    if reason := slurm_of_tests.missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            environment = stack.enter_context(slurm_of_tests.slurm(tmp_path_factory.mktemp("slurm")))
        except slurm_of_tests.DoesNotStartError as error:
            pytest.skip(f"Slurm does not start on this machine: {error}")
        yield environment


@pytest.fixture
def started(mnist_root: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts a command of train.py in an empty folder."""
    processes = []

    def start(*words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [*TRAIN, *words, f"data.root={mnist_root}", *SMALL],
                cwd=tmp_path,
                env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 500) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)
    return found


def said(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    out, err = process.communicate(timeout=900)
    return out, err, process.returncode


def metrics(run: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((run / "metrics.json").read_text())["metrics"]
    return content


def trains(folder: Path, job: str) -> Callable[[], list[Path]]:
    """Whether a job of the sweep has a checkpoint."""
    return lambda: [*folder.glob(f"outputs/vae/sweep_*/{job}/checkpoints/last.ckpt")]


def asked_of(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


def test_jobs_that_slurm_requeues_go_on_where_they_were(
    slurm: dict[str, str], started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """An administrator's requeue, and the signal by which Slurm announces the end of the time limit."""
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.max_num_timeout=3"]
    sweep = started("-m", "seed=0,1", *LONG, *launcher, environment=slurm)
    first = wait_until(lambda: trains(tmp_path, "seed=0")() and trains(tmp_path, "seed=1")(), sweep)
    (array,) = {number.partition("_")[0] for number in asked_of(slurm, "squeue", "-h", "--array", "-o", "%i").split()}
    asked_of(slurm, "scontrol", "requeue", f"{array}_0")
    asked_of(slurm, "scancel", "--signal=USR2", f"{array}_1")
    folder = first[0].parents[2]
    for seed in (0, 1):
        alone = started(f"seed={seed}", *LONG, f"hydra.run.dir=alone/{seed}")
        assert said(alone)[2] == 0
    out, err, status = said(sweep)
    assert status == 0, (out, err)
    assert err == ""
    for seed in (0, 1):
        log = (folder / ".sweep" / "logs" / f"seed={seed}.log").read_text()
        assert "training stops" in log, "it was disturbed"
        assert metrics(folder / f"seed={seed}") == metrics(tmp_path / "alone" / str(seed))
        assert re.search(rf"seed={seed}: test/elbo", out)


def test_a_job_that_is_cancelled_ends_alone_and_goes_on_with_the_same_command(
    slurm: dict[str, str], started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    words = ["-m", "seed=0,1", *LONG, "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1"]
    sweep = started(*words, environment=slurm)
    wait_until(trains(tmp_path, "seed=1"), sweep)
    (array,) = {number.partition("_")[0] for number in asked_of(slurm, "squeue", "-h", "--array", "-o", "%i").split()}
    asked_of(slurm, "scancel", f"{array}_1")
    out, err, status = said(sweep)
    assert status == 1
    assert "seed=0: test/elbo" in out
    assert "seed=1: interrupted" in out
    assert err == ""
    out, err, status = said(started(*words, environment=slurm))
    assert (status, err) == (0, "")
    assert "1 finished, 1 interrupted" in out


def test_ctrl_c_cancels_what_slurm_has_and_says_so(
    slurm: dict[str, str], started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    words = ["-m", "seed=0,1,2", *LONG, "hydra/launcher=submitit_slurm", "hydra.launcher.array_parallelism=1"]
    sweep = started(*words, environment=slurm)
    wait_until(trains(tmp_path, "seed=0"), sweep)
    sweep.send_signal(signal.SIGINT)
    out, err, status = said(sweep)
    assert status == 130
    assert re.search(r"Ctrl-C: cancels Slurm's jobs \d+; those that run write a checkpoint first", err)
    assert "1 interrupted, 2 missing" in out
    assert asked_of(slurm, "squeue", "-h", "--states=PENDING,RUNNING") == ""


def test_what_slurm_refuses_is_one_line(slurm: dict[str, str], started: Callable[..., subprocess.Popen[str]]) -> None:
    words = ["-m", "seed=0,1", *SHORT, "hydra/launcher=submitit_slurm", "hydra.launcher.partition=nix"]
    _, err, status = said(started(*words, environment=slurm))
    assert status == 2
    *of_sbatch, line = err.splitlines()
    assert re.fullmatch(r"error: hydra/launcher=submitit_slurm: .*invalid partition.*", line)
    assert all(other.startswith("sbatch: error") for other in of_sbatch)


def test_slurms_signal_ends_a_training_with_a_checkpoint_from_which_it_goes_on(
    slurm: dict[str, str], started: Callable[..., subprocess.Popen[str]], mnist_root: Path, tmp_path: Path
) -> None:
    """What `sbatch --signal=USR1@60` sends to a job's steps."""
    words = [*LONG, f"data.root={mnist_root}", *SMALL]
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\nsrun {' '.join(TRAIN)} {' '.join(words)} hydra.run.dir=run\n")
    environment = {**slurm, "OMP_NUM_THREADS": "1"}
    told = subprocess.run(
        ["sbatch", "--signal=USR1@60", "--output=out.txt", script], cwd=tmp_path, env=environment, text=True, capture_output=True
    )
    number = re.findall(r"\d+", told.stdout)[0]
    until = time.monotonic() + 500
    while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < until, (tmp_path / "out.txt").read_text()
        time.sleep(0.1)
    asked_of(slurm, "scancel", "--signal=USR1", number)
    while asked_of(slurm, "squeue", "-h"):
        assert time.monotonic() < until
        time.sleep(0.5)
    assert "exit code 138" in (tmp_path / "out.txt").read_text()
    assert said(started("resume=run"))[2] == 0
    assert said(started("hydra.run.dir=alone", *LONG))[2] == 0
    assert metrics(tmp_path / "run") == metrics(tmp_path / "alone")


def training(folder: Path, job: str) -> int | None:
    """The number of the process that trains a job of the sweep; None if there is none."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().decode().split("\0")
            if any(word.startswith("hydra.run.dir=") and str(folder) in word and f"/{job}" in word for word in words):
                return int(file.parent.name)
    return None


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.exhaustive
def test_joblib_loses_a_killed_job_alone_and_a_killed_worker_to_the_next_command(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="pip install 'vae_lightning[joblib]'")
    words = ["-m", "seed=0,1", *LONG, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    sweep = started(*words)
    wait_until(trains(tmp_path, "seed=1"), sweep)
    os.kill(wait_until(lambda: training(tmp_path, "seed=1"), sweep), signal.SIGKILL)
    out, err, status = said(sweep)
    assert status == 1
    assert re.fullmatch(r"error: \[\d/2\] seed=1: its process was killed by SIGKILL.*\n", err)
    assert "seed=0: test/elbo" in out

    words[1] = "seed=1,2"
    sweep = started(*words)
    wait_until(trains(tmp_path, "seed=2"), sweep)
    os.kill(parent(wait_until(lambda: training(tmp_path, "seed=2"), sweep)), signal.SIGKILL)
    out, err, status = said(sweep)
    assert status == 1
    (line,) = err.splitlines()
    assert line.startswith("error: hydra/launcher=joblib: A worker process managed by the executor was unexpectedly terminated")
    assert "seed=2: interrupted" in out
    assert training(tmp_path, "seed=2") is None, "no training goes on without its sweep"
    out, err, status = said(started(*words[:-2]))
    assert (status, err) == (0, "")
    assert "2 interrupted" in out, "the worker's death took the other one with it, in good order"


def test_ray_runs_the_job_of_a_killed_worker_elsewhere(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="pip install 'vae_lightning[ray]'")
    words = ["-m", "seed=0,1", *LONG, "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]
    sweep = started(*words)
    wait_until(trains(tmp_path, "seed=0"), sweep)
    worker = parent(wait_until(lambda: training(tmp_path, "seed=0"), sweep))
    os.kill(worker, signal.SIGKILL)
    other = wait_until(lambda: (now := training(tmp_path, "seed=0")) and parent(now) not in (worker, 1) and parent(now), sweep)
    assert other != worker
    out, _, status = said(sweep)
    assert status == 0
    assert len(re.findall(r"(?m)^\[.*test/elbo", out)) == 2
    (log,) = tmp_path.glob("outputs/vae/sweep_*/.sweep/logs/seed=0.log")
    assert "SIGTERM: training stops" in log.read_text(), "the first attempt ended in good order"


def test_submitit_runs_jobs_on_this_machine_as_many_as_it_has_cores_for(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'vae_lightning[slurm]'")
    sweep = started("-m", "seed=0,1,2", *SHORT, "hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1")
    at_once = 0
    while sweep.poll() is None:
        at_once = max(at_once, sum(training(tmp_path, f"seed={seed}") is not None for seed in range(3)))
        time.sleep(0.2)
    out, err, status = said(sweep)
    assert (status, err) == (0, "")
    assert len(re.findall(r"(?m)^\[.*test/elbo", out)) == 3
    assert 1 <= at_once <= cores()


@pytest.mark.parametrize("launcher", ["joblib", "ray", "submitit"])
def test_ctrl_c_ends_the_jobs_on_this_machine_with_a_checkpoint(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path, launcher: str
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    name = "submitit_local" if launcher == "submitit" else launcher
    sweep = started("-m", "seed=0,1", *LONG, f"hydra/launcher={name}", "trainer.max_epochs=200")
    wait_until(trains(tmp_path, "seed=0"), sweep)
    sweep.send_signal(signal.SIGINT)
    out, err, status = said(sweep)
    assert status == 130
    assert "Ctrl-C: the jobs that run stop" in err
    assert "Traceback" not in err
    assert "seed=0: interrupted" in out
    assert "go on with" in out
    assert [training(tmp_path, f"seed={seed}") for seed in (0, 1)] == [None, None]
    (log,) = tmp_path.glob("outputs/vae/sweep_*/.sweep/logs/seed=0.log")
    assert "training stops" in log.read_text()


@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_jobs_on_this_machine_end_with_a_command_that_is_killed(
    started: Callable[..., subprocess.Popen[str]], tmp_path: Path, launcher: str
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    two = {"joblib": "hydra.launcher.n_jobs=2", "submitit": "hydra.launcher.cpus_per_task=1"}
    name = "submitit_local" if launcher == "submitit" else launcher
    words = ["-m", "seed=0,1,2", *LONG, f"hydra/launcher={name}", two[launcher], "trainer.max_epochs=200"]
    sweep = started(*words)
    wait_until(trains(tmp_path, "seed=0"), sweep)
    sweep.kill()
    sweep.wait()
    until = time.monotonic() + 60
    while any(training(tmp_path, f"seed={seed}") is not None for seed in range(3)):
        assert time.monotonic() < until, "a job goes on without its sweep"
        time.sleep(0.2)
    (folder,) = tmp_path.glob("outputs/vae/sweep_*")
    assert json.loads((folder / "seed=0/metrics.json").read_text())["interrupted"]
    time.sleep(3)
    assert not any(training(tmp_path, f"seed={seed}") for seed in range(3)), "nor does another one begin"
    assert not (folder / "seed=2" / "train.log").exists()
