"""Jobs that submitit has submitted: wait for them without losing one, say what became of them, and cancel them.

submitit's own plugin stops waiting at the first job that ends without a result, such as one that somebody cancelled, and asks
`sacct`, which many clusters do not have. So the jobs wait here, by what is in their folders and in Slurm's queue.
"""

import functools
import getpass
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from signal import SIGHUP, Signals
from types import SimpleNamespace
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

__all__ = ["Submissions"]

SLURM, LOCAL = "submitit_slurm", "submitit_local"
OFTEN = 2.0
"""Seconds after which the folder of a job is looked at again."""
SELDOM = 15.0
"""Seconds after which Slurm is asked again for its queue."""
MISSED = 2
"""How many times in a row a job is not in the queue before it counts as ended."""
ENDS = ("BOOT_FAIL", "DEADLINE", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
"""States of Slurm in which a job has ended by no wish of anybody's."""


class Submissions:
    """The jobs that submitit submits within this context.

    Args:
        launcher: the name of the launcher; of one that is not submitit's there are none.
    """

    def __init__(self, launcher: str) -> None:
        self.launcher = launcher
        self.jobs: list[Any] = []
        self._restore: Callable[[], None] = lambda: None
        self._queued: dict[str, int] = {}
        self._asked = -SELDOM

    def __enter__(self) -> "Submissions":
        if self.launcher not in (SLURM, LOCAL):
            return self
        submitit: Any = import_module("submitit")  # which most environments do not have
        submissions, before = self, submitit.AutoExecutor

        class Executor(before):  # type: ignore[misc, valid-type]
            """submitit's, whose jobs are kept, and are waited for here."""

            def map_array(self, fn: Callable[..., Any], *iterables: Any) -> list["_Job"]:
                submissions.jobs = super().map_array(fn, *iterables)
                submissions._queued, submissions._asked = {}, time.monotonic()
                return [_Job(submissions, job) for job in submissions.jobs]

        submitit.AutoExecutor = Executor
        local: Any = import_module("submitit.local.local") if self.launcher == LOCAL else SimpleNamespace()
        # the process around each local job would die of a terminal's Ctrl-C, with the job, which is told otherwise to end
        local.subprocess = SimpleNamespace(Popen=functools.partial(subprocess.Popen, start_new_session=True))

        def restore() -> None:
            submitit.AutoExecutor, local.subprocess = before, subprocess

        self._restore = restore
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    # ---- waiting

    def wait_for(self, job: Any) -> None:
        """Wait for the end of `job`; of one that Slurm requeues, for the end of its last attempt."""
        while not self._is_over(job):
            time.sleep(OFTEN)

    def _is_over(self, job: Any) -> bool:
        if self.launcher == LOCAL:
            return bool(job.done())
        if job.paths.result_pickle.exists():
            return True
        if time.monotonic() - self._asked >= SELDOM:
            self._ask()
        return self._queued.get(job.job_id, 0) >= MISSED

    def _ask(self) -> None:
        """Count how often each job was not in Slurm's queue; where Slurm does not answer, nothing is known."""
        self._asked = time.monotonic()
        found = _said("squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}")
        if found is not None:
            there = set(found.split())
            self._queued = {job.job_id: 0 if job.job_id in there else self._queued.get(job.job_id, 0) + 1 for job in self.jobs}

    # ---- what became of them

    def reasons(self) -> list[str | None]:
        """Why each job was ended by Slurm; None where it was not, or Slurm does not know any more."""
        return [self._reason(job) for job in self.jobs] if self.launcher == SLURM else []

    def _reason(self, job: Any) -> str | None:
        if job.paths.result_pickle.exists():
            return None
        told = re.search(r"JobState=(\w+)", _said("scontrol", "show", "job", job.job_id) or "")
        return f"Slurm ended it as job {job.job_id}: {told[1]}" if told and told[1] in ENDS else None

    def leave(self, signum: int) -> bool:
        """Cancel the jobs, as a signal ends the sweep; one that says that the terminal is gone leaves them to Slurm.

        Returns:
            Whether they are Slurm's, so that nobody else has to stop them.
        """
        name = "Ctrl-C" if signum == Signals.SIGINT else Signals(signum).name
        if self.launcher != SLURM:
            _say(f"{name}: the jobs that run stop")
        if not self.jobs or self.launcher != SLURM:
            return False
        numbers = sorted({job.job_id.partition("_")[0] for job in self.jobs})
        if signum == SIGHUP:
            _say(f"{name}: Slurm's jobs {', '.join(numbers)} go on without this command")
            return True
        _say(f"{name}: cancels Slurm's jobs {', '.join(numbers)}; those that run write a checkpoint first")
        _said("scancel", *numbers)
        return True


class _Job:
    """A job as submitit's plugin asks for its result, which is None where it has none in the end."""

    def __init__(self, submissions: Submissions, job: Any) -> None:
        self.submissions, self.job = submissions, job

    def results(self) -> Sequence[Any]:
        self.submissions.wait_for(self.job)
        if not self.job.paths.result_pickle.exists():
            return [None]
        try:
            return list(self.job.results())
        except Exception as error:  # whatever it was that the job's process could not do
            failed = JobReturn(status=JobStatus.FAILED)
            failed.return_value = RuntimeError(_last_of_traceback(str(error)))
            return [failed]


def _last_of_traceback(message: str) -> str:
    """The error itself in submitit's account of a failed job, which is a traceback between two rulers."""
    lines = message.partition("\n---")[2].partition("\n---")[0].strip().splitlines()
    return lines[-1] if lines else message


def _said(*words: str) -> str | None:
    """What a command of Slurm's says; None if it fails."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr)
