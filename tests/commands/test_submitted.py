"""Jobs that Slurm has are waited for until they have ended, whether or not anybody knows how."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobStatus

from vae_lightning.commands import submitted
from vae_lightning.commands.submitted import Submissions


class Job:
    """A job of submitit, as far as it is asked."""

    def __init__(self, number: str, folder: Path) -> None:
        self.job_id, self.paths = number, SimpleNamespace(result_pickle=folder / f"{number}.pkl")
        self.error: Exception | None = None

    def results(self) -> list[str]:
        if self.error is not None:
            raise self.error
        return ["the result"]


class Executor:
    """submitit's AutoExecutor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def map_array(self, _function: object, names: list[str]) -> list[Job]:
        return [Job(name, self.folder) for name in names]


class Slurm:
    """The commands of Slurm: its queue, whether it answers, and what it was asked to cancel."""

    def __init__(self) -> None:
        self.queue: list[list[str] | None] = []
        self.states: dict[str, str] = {}
        self.cancelled: list[str] = []

    def said(self, name: str, *words: str) -> str | None:
        if name == "squeue":
            answer = self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]
            return None if answer is None else "\n".join(answer)
        if name == "scancel":
            self.cancelled += words
            return ""
        return f"JobId=1 JobState={self.states[words[-1]]} Reason=None"


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    slurm, clock = Slurm(), SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(submitted, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    monkeypatch.setattr(submitted, "_said", slurm.said)
    monkeypatch.setitem(sys.modules, "submitit", SimpleNamespace(AutoExecutor=Executor))  # type: ignore[arg-type]
    return slurm


def submit(submissions: Submissions, folder: Path, *names: str) -> list[Any]:
    import submitit

    jobs: list[Any] = submitit.AutoExecutor(folder).map_array(None, [*names])
    assert [job.job_id for job in submissions.jobs] == [*names]
    return jobs


def test_submitit_is_as_it_was_afterwards(slurm: Slurm) -> None:
    import submitit

    with Submissions("submitit_slurm"):
        assert submitit.AutoExecutor is not Executor
    assert submitit.AutoExecutor is Executor
    with Submissions("ray"):
        assert submitit.AutoExecutor is Executor


def test_a_job_is_over_when_it_has_a_result_and_not_before(slurm: Slurm, tmp_path: Path) -> None:
    slurm.queue = [["1_0"], None, None, None, ["1_0"], []]
    with Submissions("submitit_slurm") as submissions:
        job, other = submit(submissions, tmp_path, "1_0", "1_1")
        (tmp_path / "1_1.pkl").touch()
        assert other.results() == ["the result"]
        assert slurm.queue[0] == ["1_0"], "nobody asked Slurm"
        assert job.results() == [None], "it left the queue without a result"
        assert slurm.queue == [[]], "where Slurm did not answer, the job was waited for"


def test_a_job_that_is_missed_once_while_it_is_requeued_is_waited_for(slurm: Slurm, tmp_path: Path) -> None:
    slurm.queue = [["1_0"], [], ["1_0"], [], []]
    with Submissions("submitit_slurm") as submissions:
        assert submit(submissions, tmp_path, "1_0")[0].results() == [None]
    assert slurm.queue == [[]]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("OUT_OF_MEMORY", "Slurm ended it as job 1_0: OUT_OF_MEMORY"),
        ("TIMEOUT", "Slurm ended it as job 1_0: TIMEOUT"),
        ("CANCELLED", None),
    ],
)
def test_why_slurm_ended_a_job_is_its_reason(slurm: Slurm, tmp_path: Path, state: str, reason: str | None) -> None:
    slurm.states = {"1_0": state}
    with Submissions("submitit_slurm") as submissions:
        submit(submissions, tmp_path, "1_0", "1_1")
        (tmp_path / "1_1.pkl").touch()
        assert submissions.reasons() == [reason, None]
    assert Submissions("ray").reasons() == []


def test_what_the_process_of_a_job_could_not_do_is_said_in_its_last_line(slurm: Slurm, tmp_path: Path) -> None:
    with Submissions("submitit_slurm") as submissions:
        (job,) = submit(submissions, tmp_path, "1_0")
        (tmp_path / "1_0.pkl").touch()
        ruler = "-" * 22
        trace = "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'vae_lightning'"
        job.job.error = RuntimeError(
            f"Job (task=0) failed during processing with trace:\n{ruler}\n{trace}\n{ruler}\nYou can check logs"
        )
        (returned,) = job.results()
    assert returned.status is JobStatus.FAILED
    with pytest.raises(RuntimeError, match=r"^ModuleNotFoundError: No module named 'vae_lightning'$"):
        returned.return_value  # noqa: B018


@pytest.mark.parametrize(
    ("signum", "line", "cancelled"),
    [
        (2, "Ctrl-C: cancels Slurm's jobs 1, 2; those that run write a checkpoint first", ["1", "2"]),
        (15, "SIGTERM: cancels Slurm's jobs 1, 2; those that run write a checkpoint first", ["1", "2"]),
        (1, "SIGHUP: Slurm's jobs 1, 2 go on without this command", []),
    ],
)
def test_a_signal_cancels_the_jobs_unless_only_the_terminal_is_gone(
    slurm: Slurm, tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: int, line: str, cancelled: list[str]
) -> None:
    with Submissions("submitit_slurm") as submissions:
        submissions.leave(signum)
        assert capsys.readouterr().err == "", "there is nothing to cancel"
        submit(submissions, tmp_path, "1_0", "1_1", "2")
        submissions.leave(signum)
    assert capsys.readouterr().err == f"\n{line}\n"
    assert slurm.cancelled == cancelled


def test_a_signal_leaves_other_launchers_jobs_to_be_told_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert not Submissions("joblib").leave(2)
    assert capsys.readouterr().err == "\nCtrl-C: the jobs that run stop\n"
