"""Tasks in processes of their own: so many at once, each with its environment, and what becomes of one is its own."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig

from vae_lightning.commands.processes import Processes
from vae_lightning.commands.tasks import Task, cores
from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.signals import handled
from vae_lightning.sweeps.claims import descriptor_of_claim, due

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
word, = sys.argv[1:]
print("says", word, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["MINE"], flush=True)
print("to stderr", file=sys.stderr)
if word == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if word == "raises":
    raise RuntimeError("broken")
if word.startswith("waits"):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Path(word).write_text(str(os.getpid()))
    for _ in range(1200):
        time.sleep(0.05)  # a signal that comes just before a sleep is heard only after it
sys.exit(int(word) if word.isdigit() else 0)
"""


COMMAND = """
import functools, sys
from pathlib import Path
from omegaconf import DictConfig
from vae_lightning.commands.processes import Processes
from vae_lightning.commands.tasks import Task
from vae_lightning.machine.signals import handled
from vae_lightning.sweeps.claims import due

job = Path(sys.argv[1])
claim = functools.partial(due, job)
task = Task(str(job.parent / "script.py"), ("waits-a",), {"MINE": ""}, job.parent / "log", claim, lambda: None, DictConfig)
with handled():
    Processes().run([task], 1, (), lambda _, code: print(code, flush=True))
"""


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Task]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)

    @contextlib.contextmanager
    def claim() -> Iterator[list[int]]:
        with (tmp_path / "claim").open("w") as file:
            yield [file.fileno()]

    def make(word: str, claimed: Callable[[], contextlib.AbstractContextManager[Sequence[int]]] = claim) -> Task:
        mine = {"MINE": f"of {word}", "CUDA_VISIBLE_DEVICES": "none"}  # the fork server has what there was when it started
        return Task(str(tmp_path / "script.py"), (word,), mine, tmp_path / "logs" / word, claimed, lambda: None, DictConfig)

    return make


def run(tasks: list[Task], at_once: int = 1, gpus: tuple[str, ...] = ()) -> tuple[int | None, dict[str, int]]:
    ended: dict[str, int] = {}
    signum = Processes().run(tasks, at_once, gpus, lambda task, code: ended.update({task.words[0]: code}))
    return signum, ended


@pytest.mark.slow
def test_what_becomes_of_a_task_is_its_own(task: Callable[..., Task], tmp_path: Path) -> None:
    signum, ended = run([task("killed"), task("3"), task("raises"), task("well")])
    assert (signum, ended) == (None, {"killed": -signal.SIGKILL, "3": 3, "raises": 1, "well": 0})
    assert (tmp_path / "logs" / "well").read_text() == "says well none of well\nto stderr\n"
    assert "RuntimeError: broken" in (tmp_path / "logs" / "raises").read_text()
    assert "MINE" not in os.environ


def test_each_that_runs_at_once_has_a_gpu_of_its_own(task: Callable[..., Task], tmp_path: Path) -> None:
    assert run([task(word) for word in "abcd"], at_once=2, gpus=("5", "GPU-x"))[0] is None
    seen = [(tmp_path / "logs" / word).read_text().split()[2] for word in "abcd"]
    assert {*seen[:2]} == {"5", "GPU-x"}
    assert {*seen} == {"5", "GPU-x"}


def test_what_another_process_has_claimed_is_left_to_it(task: Callable[..., Task]) -> None:
    @contextlib.contextmanager
    def taken() -> Iterator[list[int]]:
        yield []

    assert run([task("a"), task("b", taken), task("c")], at_once=2) == (None, {"a": 0, "c": 0})


def test_a_job_that_somebody_only_asks_about_is_not_left_alone(task: Callable[..., Task]) -> None:
    asked: Iterator[list[int]] = iter([[], [2]])

    @contextlib.contextmanager
    def claim() -> Iterator[list[int]]:
        yield next(asked)

    assert run([task("a", claim)]) == (None, {"a": 0})


def test_signal_while_a_process_is_started_stops_that_one_too(task: Callable[..., Task], tmp_path: Path) -> None:
    @contextlib.contextmanager
    def claim() -> Iterator[list[int]]:
        signal.raise_signal(signal.SIGTERM)
        yield [2]

    with handled():
        assert run([task("waits-a", claim), task("b")]) == (signal.SIGTERM, {"waits-a": 143})
    assert (tmp_path / "logs" / "waits-a").read_text() == "error: interrupted by SIGTERM\n"


def test_claim_lasts_as_long_as_the_task_and_what_is_done_at_its_end(task: Callable[..., Task]) -> None:
    held = []

    @contextlib.contextmanager
    def claim() -> Iterator[list[int]]:
        held.append(True)
        yield [2]
        held.pop()

    at_end: list[bool] = []
    Processes().run([task("a", claim), task("b", claim)], 1, (), lambda *_: at_end.extend(held))
    assert at_end == [True, True]
    assert not held


@pytest.mark.slow
def test_claim_outlives_a_command_that_is_killed(task: Callable[..., Task], tmp_path: Path) -> None:
    job = tmp_path / "job"
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(job)])
    while not (tmp_path / "waits-a").exists() or not (tmp_path / "waits-a").read_text():
        assert command.poll() is None
        time.sleep(0.05)
    process = int((tmp_path / "waits-a").read_text())
    os.kill(process, signal.SIGSTOP)  # which has a checkpoint to write, say
    command.kill()
    command.wait()
    with due(job) as mine:
        assert not mine
    os.kill(process, signal.SIGCONT)
    with descriptor_of_claim(job, patience=30) as descriptor:
        assert descriptor is not None


@pytest.mark.slow
def test_signal_to_every_process_of_a_command_ends_its_jobs_in_good_order(task: Callable[..., Task], tmp_path: Path) -> None:
    """As `timeout` and clusters send it, so that it reaches the process too that jobs are forked from."""
    words = [sys.executable, "-c", COMMAND, str(tmp_path / "job")]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "waits-a").exists() or not (tmp_path / "waits-a").read_text():
        assert command.poll() is None
        time.sleep(0.05)
    os.killpg(command.pid, signal.SIGTERM)
    said, _ = command.communicate(timeout=60)
    assert said == "143\n"


def test_signal_ends_what_runs_and_starts_no_more(task: Callable[..., Task], tmp_path: Path) -> None:
    def send() -> None:
        while not all((tmp_path / word).exists() for word in ("waits-a", "waits-b")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with handled():
        threading.Thread(target=send).start()
        signum, ended = run([task("waits-a"), task("waits-b"), task("waits-c")], at_once=2)
    assert (signum, ended) == (signal.SIGTERM, {"waits-a": 143, "waits-b": 143})
    assert not (tmp_path / "waits-c").exists()


@pytest.mark.parametrize("jobs", [0, -1, 1.5, True, "two"])
def test_wrong_number_of_jobs_is_refused(jobs: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^hydra\.launcher\.jobs="):
        Processes(jobs)  # type: ignore[arg-type]


def test_jobs_at_once() -> None:
    assert [Processes().at_once(gpus) for gpus in (0, 1, 4)] == [1, 1, 4]
    assert Processes(3).at_once(0) == 3
    assert 1 <= cores() <= (os.cpu_count() or 1)
