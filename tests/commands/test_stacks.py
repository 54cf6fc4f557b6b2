"""The launcher `stacked`: claims, what falls back, and real sweeps whose jobs come out as they would one by one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from vae_lightning.commands import stacking
from vae_lightning.commands.job import STACK, environment_of, jobs_of_stack, note_apart
from vae_lightning.commands.processes import Processes
from vae_lightning.commands.stacks import Stacks
from vae_lightning.commands.tasks import Task
from vae_lightning.errors import ConfigurationError

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., int | None]


class Sweep:
    """Tasks, of which others hold some, and what became of them."""

    def __init__(self, folder: Path, count: int, held: Sequence[int] = ()) -> None:
        self.ended: list[tuple[str, int]] = []
        self.tasks = [self._task(folder, number, number in held) for number in range(count)]

    def _task(self, folder: Path, number: int, held: bool) -> Task:
        @contextmanager
        def claim() -> Iterator[list[int]]:
            yield [] if held else [2]

        environment = environment_of(folder / f"job_{number}", folder / f"reason_{number}.json")
        words = (f"seed={number}",)
        return Task("train.py", words, environment, folder / f"job_{number}.log", claim, lambda: None, DictConfig({}).copy)

    def end(self, task: Task, code: int) -> None:
        self.ended.append((task.log.stem, code))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The jobs of each process that the launcher has started, none of which does anything."""
    started: list[list[str]] = []

    def run(self: Processes, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Callable[[Task, int], None]) -> None:
        for task in tasks:
            with task.claim() as mine:
                if not mine:
                    continue
                jobs = [task.words]
                if STACK in task.environment:
                    monkeypatch.setenv(STACK, task.environment[STACK])
                    jobs = [job.words for job in jobs_of_stack()]
                started.append([word for words in jobs for word in words])
                ended(task, 0)

    monkeypatch.setattr(Processes, "run", run)
    return started


def plan(monkeypatch: pytest.MonkeyPatch, *stacks: list[int], alone: dict[int, str] | None = None) -> None:
    monkeypatch.setattr(stacking, "grouped", lambda *_: stacking.Grouped([*stacks], alone or {}))


def test_stack_is_one_process_and_a_job_like_no_other_one_of_its_own_with_a_line_that_says_why(
    tmp_path: Path, processes: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path, 4)
    plan(monkeypatch, [0, 1, 3], alone={2: "model.net.hidden: [8] and [9]"})
    assert Stacks().run(sweep.tasks, 1, [], sweep.end) is None
    assert processes == [["seed=0", "seed=1", "seed=3"], ["seed=2"]]
    assert sweep.ended == [("job_0", 0), ("job_1", 0), ("job_3", 0), ("job_2", 0)]
    assert "one job trains alone, not stacked: model.net.hidden: [8] and [9] (job_2)" in capsys.readouterr().out


def test_jobs_that_another_process_runs_are_left_to_it(
    tmp_path: Path, processes: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, 4, held=[1])
    plan(monkeypatch, [0, 1, 2, 3])
    Stacks().run(sweep.tasks, 1, [], sweep.end)
    assert processes == [["seed=0", "seed=2", "seed=3"]]


def test_job_that_somebody_holds_for_a_moment_trains_alone(
    tmp_path: Path, processes: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, 3)
    plan(monkeypatch, [0, 1, 2])
    moments = iter([False])
    claim = sweep.tasks[1].claim

    @contextmanager
    def looked_at() -> Iterator[list[int]]:
        with claim() as files:
            yield files if next(moments, True) else []

    sweep.tasks[1] = dataclasses.replace(sweep.tasks[1], claim=looked_at)
    Stacks().run(sweep.tasks, 1, [], sweep.end)
    assert processes == [["seed=0", "seed=2"], ["seed=1"]]


def test_job_that_is_left_over_of_a_stack_trains_alone(
    tmp_path: Path, processes: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, 3, held=[0, 2])
    plan(monkeypatch, [0, 1, 2])
    Stacks().run(sweep.tasks, 1, [], sweep.end)
    assert processes == [["seed=1"]]


def test_jobs_that_turn_out_not_to_be_alike_as_they_start_train_alone(
    tmp_path: Path, processes: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path, 3)
    plan(monkeypatch, [0, 1, 2])
    for number in (0, 2):
        monkeypatch.setenv("VAE_LIGHTNING_REASON", sweep.tasks[number].environment["VAE_LIGHTNING_REASON"])
        note_apart("data: the training images differ")
    Stacks().run(sweep.tasks, 1, [], sweep.end)
    assert processes == [["seed=0", "seed=1", "seed=2"], ["seed=0"], ["seed=2"]]
    assert sweep.ended == [("job_1", 0), ("job_0", 0), ("job_2", 0)]
    assert "2 jobs train each alone, not stacked: data: the training images differ (job_0, job_2)" in capsys.readouterr().out
    assert not list(tmp_path.glob("reason_*")), "what is run again has no reason yet why it failed"


@pytest.mark.parametrize("stack", [1, 0, -3, 2.5, True, "all"])
def test_size_of_a_stack_that_is_none_is_refused(stack: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^hydra\.launcher\.stack="):
        Stacks(stack=stack)


# ---- real sweeps


QUICK = (
    *("model.net.hidden=[8]", "model.latent_dim=2", "trainer.limit_train_batches=12", "trainer.limit_val_batches=1"),
    *("trainer.limit_test_batches=1", "trainer.log_every_n_steps=4", "callbacks.animation=null"),
)


NO_COMPILER = {**os.environ, "CXX": "/bin/false"}
"""Without a C++ compiler, which would take half a minute, a stack computes its steps as they were traced."""


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "train.py"), "-m", f"data.root={root}", *QUICK, *words]


def swept(folder: Path, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(root, *words), cwd=folder, env=NO_COMPILER, capture_output=True, text=True, check=False)


def only_sweep(folder: Path) -> Path:
    (sweep,) = folder.glob("outputs/*/sweep_*")
    return sweep


def files(run: Path) -> set[str]:
    paths = (path.relative_to(run) for path in run.rglob("*"))
    return {str(path.parent if "events.out" in path.name else path) for path in paths}


@pytest.mark.slow
def test_jobs_of_a_stack_leave_what_they_leave_one_by_one_and_one_that_fails_leaves_the_others(
    tmp_path: Path, mnist_root: Path
) -> None:
    jobs = ("model.optimizer.lr=0.001,0.002,1e30", "seed=0", "trainer.max_epochs=1")
    folders = {}
    for launcher in ("basic", "stacked"):
        (tmp_path / launcher).mkdir()
        result = swept(tmp_path / launcher, mnist_root, *jobs, f"hydra/launcher={launcher}")
        assert result.returncode == 1, result.stderr
        assert result.stderr.count("error: ") == 1, "the third job"
        folders[launcher] = only_sweep(tmp_path / launcher)
    for name in ("lr=0.001", "lr=0.002"):
        alone, stacked = (folders[launcher] / name for launcher in ("basic", "stacked"))
        assert files(alone) == files(stacked)
        records = [json.loads((run / "metrics.json").read_text()) for run in (alone, stacked)]
        assert records[1]["metrics"] == pytest.approx(records[0]["metrics"], rel=1e-3)
        assert records[1]["provenance"]["command"] == records[0]["provenance"]["command"]
        for file in ("overrides", "hydra", "config"):
            texts = [(run / ".hydra" / f"{file}.yaml").read_text().replace(str(run), "<run>") for run in (alone, stacked)]
            mine, theirs = (text.replace(str(tmp_path / each), "<here>") for text, each in zip(texts, folders, strict=True))
            assert yaml.safe_load(mine) == yaml.safe_load(theirs)
        assert "max_epochs=1` reached" in (stacked / "train.log").read_text()
        assert f"/{name}/" in (stacked / "train.log").read_text()
    assert "not finite" in json.loads((folders["stacked"] / ".sweep" / "reasons" / "lr=1e+30.json").read_text())["reason"]


@pytest.mark.slow
def test_stack_that_is_killed_goes_on_where_each_job_stood(tmp_path: Path, mnist_root: Path) -> None:
    words = ("seed=0,1", "trainer.max_epochs=2000", "callbacks.last_checkpoint.every_minutes=1e-9", "hydra/launcher=stacked")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(mnist_root, *words), cwd=tmp_path, env=NO_COMPILER, **quiet)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("outputs/*/*/*/checkpoints/last.ckpt"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    (sweep,) = tmp_path.glob("outputs/*/sweep_*")
    stack = next(pid for pid in descendants(process.pid) if holds(pid, sweep / "seed=1" / ".lock"))
    os.kill(stack, signal.SIGKILL)
    assert process.wait(60) == 1
    reasons = [json.loads((sweep / ".sweep" / "reasons" / f"seed={n}.json").read_text())["reason"] for n in (0, 1)]
    assert all("SIGKILL" in reason for reason in reasons)
    stood = [(sweep / f"seed={n}" / "checkpoints" / "last.ckpt").is_file() for n in (0, 1)]
    assert stood == [True, True]
    again = [sys.executable, str(REPOSITORY / "train.py"), "-m", f"sweep={sweep}", "hydra/launcher=stacked"]
    process = subprocess.Popen(again, cwd=tmp_path, env=NO_COMPILER, **quiet)
    deadline = time.monotonic() + 240
    while len(list(sweep.glob("*/.hydra/until_step_*"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    for n in (0, 1):
        record = json.loads((sweep / f"seed={n}" / "metrics.json").read_text())
        assert record["signal"] == "SIGTERM"
        assert record["provenance"]["continued_from"]["steps"] > 0


def descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*found, *(below for child in found for below in descendants(child))]


def holds(pid: int, file: Path) -> bool:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return any(os.path.realpath(link) == str(file.resolve()) for link in links)
