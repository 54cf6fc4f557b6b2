"""A process of a launcher runs a job's command: once, with what it was ordered, and what a scheduler says reaches the command."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vae_lightning.commands.job import environment_of
from vae_lightning.commands.worker import Order, ask_to_stop, end_of, has_begun, launched, run_ordered
from vae_lightning.sweeps.claims import claimed
from vae_lightning.sweeps.record import lock_of, log_of, reason_of

REPOSITORY = Path(__file__).resolve().parents[2]
STAND_IN = str(Path(__file__).with_name("stand_in.py"))
WORKER = """
import os, signal, sys
from pathlib import Path
from vae_lightning.commands.worker import run_ordered

def requeue(signum, frame):
    Path(sys.argv[2]).touch()
    sys.exit(77)

signal.signal(signal.SIGUSR2, requeue)
run_ordered(Path(sys.argv[1]))
"""


def place(run: Path) -> Path:
    """The folder of the order of the job with this run folder."""
    return launched(run, "a")


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that orders a job, and returns its run folder."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    def ordered(name: str, *words: str, **more: object) -> Path:
        run = tmp_path / "sweep" / name
        Order(str(run), STAND_IN, words, environment_of(run, reason_of(run)), str(log_of(run)), str(tmp_path), **more).write(  # type: ignore[arg-type]
            place(run)
        )
        return run

    return ordered


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """A function that starts a process of a launcher for an ordered job."""
    processes = []

    def start(run: Path) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-c", WORKER, str(place(run)), str(tmp_path / "requeued")]))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def seen(run: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((run / "seen.json").read_text())
    return content


def test_the_command_is_run_with_its_words_where_the_sweep_was_started(order: Callable[..., Path], tmp_path: Path) -> None:
    run = order("seed=0", "seed=0", "name='a b'")
    run_ordered(place(run))
    assert end_of(place(run)) == 0
    assert seen(run) == {**seen(run), "words": ["seed=0", "name='a b'"], "cwd": str(tmp_path)}
    assert log_of(run).read_text() == "words: seed=0 name='a b'\n"
    assert not reason_of(run).exists()


@pytest.mark.parametrize(("word", "code", "reason"), [("wrong", 3, "status 3 and no word"), ("killed", -9, "killed by SIGKILL")])
def test_a_command_without_a_result_has_a_reason(order: Callable[..., Path], word: str, code: int, reason: str) -> None:
    run = order("seed=0", word)
    run_ordered(place(run))
    assert end_of(place(run)) == code
    assert reason in json.loads(reason_of(run).read_text())["reason"]


def test_a_job_that_has_a_result_or_that_somebody_else_runs_is_left_alone(
    order: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_lightning.commands.worker.MOMENT", 0.1)
    finished, taken = order("finished"), order("taken")
    finished.mkdir()
    (finished / "metrics.json").write_text('{"metrics": {"test/elbo": -1}}')
    run_ordered(place(finished))
    with claimed(taken):
        run_ordered(place(taken))
    assert (has_begun(place(finished)), has_begun(place(taken))) == (True, False), "the other one was left to whoever has it"
    for run in (finished, taken):
        assert end_of(place(run)) is None
        assert not (run / "seen.json").exists()


def test_what_an_earlier_launcher_left_is_not_the_end_of_this_one(order: Callable[..., Path]) -> None:
    run = order("seed=0", "wrong")
    run_ordered(place(run))
    later = launched(run, "b")
    dataclasses.replace(Order.read(place(run)), words=[]).write(later)
    assert (end_of(place(run)), end_of(later)) == (3, None)
    run_ordered(later)
    assert end_of(later) == 0
    assert not reason_of(run).exists()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_reaches_the_command_first_and_then_the_launcher(
    order: Callable[..., Path], worker: Callable[[Path], subprocess.Popen[bytes]], tmp_path: Path, signum: signal.Signals
) -> None:
    run = order("seed=0", "waits")
    process = worker(run)
    wait_until((run / "waits").exists, "the command has not begun")
    process.send_signal(signum)
    code = process.wait(30)
    assert (run / "told").read_text() == signum.name, "the command came to its own end before the launcher did anything"
    assert code == (77 if signum == signal.SIGUSR2 else -signum)
    assert (tmp_path / "requeued").exists() is (signum == signal.SIGUSR2)
    assert end_of(place(run)) is None, "a scheduler may begin the job again"
    assert not reason_of(run).exists()


@pytest.mark.slow
def test_a_command_outlives_a_killed_launcher_only_to_end_in_good_order_and_is_claimed_until_then(
    order: Callable[..., Path], worker: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    run = order("seed=0", "waits")
    first = worker(run)
    wait_until((run / "waits").exists, "the command has not begun")
    first.kill()
    first.wait()
    with claimed(run) as free:
        assert not free, "the command still runs"
    order_again = json.loads((place(run) / "order.json").read_text())
    (place(run) / "order.json").write_text(json.dumps({**order_again, "words": []}))
    second = worker(run)  # as a scheduler does that begins the job again
    assert second.wait(30) == 0
    assert (run / "told").read_text() == "SIGTERM"
    assert end_of(place(run)) == 0


def test_a_sweep_asks_its_jobs_to_stop_wherever_they_are(
    order: Callable[..., Path], worker: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    run, other = order("seed=0", "waits"), order("seed=1")
    process = worker(run)
    wait_until((run / "waits").exists, "the command has not begun")
    for each in (run, other):
        ask_to_stop(place(each))
    assert process.wait(30) == 0, "the launcher is told that this is the end of the job"
    assert (run / "told").read_text() == "SIGTERM"
    assert end_of(place(run)) == 128 + signal.SIGTERM
    assert not reason_of(run).exists()
    run_ordered(place(other))
    assert not (other / "seen.json").exists(), "what has not begun does not begin"


@pytest.mark.slow
def test_job_stops_when_the_command_of_its_sweep_is_no_more(
    order: Callable[..., Path], worker: Callable[[Path], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    command = tmp_path / "sweep" / ".command"
    with claimed(command):
        run, other = order("seed=0", "waits", command=str(command)), order("seed=1", command=str(command))
        process = worker(run)
        wait_until((run / "waits").exists, "the command has not begun")
        time.sleep(1)
        assert process.poll() is None
    assert process.wait(30) == 0
    assert (run / "told").read_text() == "SIGTERM"
    run_ordered(place(other))
    assert not (other / "seen.json").exists(), "what has not begun does not begin"
    lock_of(command).unlink(missing_ok=True)
    run_ordered(place(order("seed=2", command=str(command))))
    assert not (tmp_path / "sweep" / "seed=2" / "seen.json").exists(), "nor after the command has ended well"


@pytest.mark.slow
def test_jobs_at_once_on_a_machine_see_a_gpu_each(
    order: Callable[..., Path], worker: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    runs = [order(f"seed={seed}", "slow", gpus=["3", "5"], places=2) for seed in range(3)]
    processes = [worker(run) for run in runs]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    gpus = [seen(run)["CUDA_VISIBLE_DEVICES"] for run in runs]
    assert {*gpus} == {"3", "5"}
    order("seed=0", "slow")
    (runs[0] / "metrics.json").unlink()
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    run_ordered(place(runs[0]))
    assert seen(runs[0])["CUDA_VISIBLE_DEVICES"] == before, "a cluster deals them out itself"


def test_threads_are_as_many_as_slurm_gave_cores(order: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = order("seed=0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    run_ordered(place(run))
    assert seen(run)["OMP_NUM_THREADS"] == "3"
    (run / "metrics.json").unlink()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run_ordered(place(run))
    assert seen(run)["OMP_NUM_THREADS"] == "2"


def test_the_claim_is_of_the_file_that_sweeps_lock(order: Callable[..., Path]) -> None:
    run = order("seed=0")
    run_ordered(place(run))
    assert lock_of(run).exists()
