"""A program run with a time limit, its lines as they come, and what ended it."""

import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ERROR = re.compile(r"^(error: |ERROR: |[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b)")
"""A line that says why a program failed: one of this project's own errors, or the last of a traceback."""


class Ended(NamedTuple):
    """A program that has ended, or was ended."""

    status: int
    lines: list[str]
    """What the program wrote, to either stream."""
    seconds: float
    cpu_seconds: float
    """Processor seconds of the program and of the programs it waited for."""
    timed_out: bool = False

    @property
    def why(self) -> str | None:
        """The first line of why it failed; None if it did not."""
        if self.timed_out:
            return f"took longer than {self.seconds:.0f} s"
        if not self.status:
            return None
        written = [line.strip() for line in self.lines if line.strip()]
        errors = [line for line in written if ERROR.match(line)]
        if errors:
            return errors[-1]
        if self.status < 0:
            return f"ended with signal {signal.Signals(-self.status).name}"
        return written[-1] if written else f"ended with status {self.status}"


def run(
    command: Sequence[str],
    limit: float,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    hear: Callable[[str], object] = lambda line: None,
) -> Ended:
    """`command` in a process group of its own, which is ended as a whole after `limit` seconds or when this program ends.

    Args:
        environment: variables that differ from this program's own.
        hear: called with each line as it is written.
    """
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            hear(lines[-1])

    started, before = time.perf_counter(), _cpu_seconds()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=folder,
        env=os.environ | dict(environment or {}),
        start_new_session=True,
    )
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    timed_out = False
    try:
        process.wait(max(limit, 0.1))
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        with suppress(ProcessLookupError):  # what is left of the group may hold the pipe, and a GPU's memory
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reader.join(5)
    return Ended(process.returncode, lines, time.perf_counter() - started, _cpu_seconds() - before, timed_out)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
