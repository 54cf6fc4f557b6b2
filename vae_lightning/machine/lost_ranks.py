"""A process of a training that dies takes the others with it, in a minute and with a line that says so.

Of processes that train one model, none can go on without the others. Those of which one has died learn it in three ways: the
connection breaks (gloo), Lightning sees that a process which it started has ended, or such a process that its parent has
(`machine.parent`).
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from signal import Signals

from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

__all__ = ["lost_rank", "said_of_children"]

LAUNCHER = logging.getLogger("lightning_fabric.strategies.launchers.subprocess_script")
CHILD = re.compile(r"Child process with PID (\d+) terminated with code (-?\d+)")
BROKEN = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe", re.IGNORECASE)


def lost_rank(error: BaseException) -> str | None:
    """What has become of another process of the training, if `error` says that one has died; else None.

    >>> lost_rank(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2948"))
    'the connection to another process of this training broke, which has probably died, for want of memory perhaps'
    >>> lost_rank(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    """
    if isinstance(error, ProcessExitedException):
        return _said(error.error_pid, -Signals[error.signal_name] if error.signal_name else error.exit_code)
    told = isinstance(error, RuntimeError) or (isinstance(error, ProcessRaisedException) and "\nRuntimeError: " in str(error))
    if told and BROKEN.search(str(error).rpartition("\nRuntimeError: ")[2]):  # of a traceback, what was raised at its end
        return "the connection to another process of this training broke, which has probably died, for want of memory perhaps"
    return None


def _said(process: int, code: int) -> str:
    """
    >>> _said(123, -9)
    'process 123 of this training was ended by SIGKILL, for want of memory perhaps'
    """
    if code < 0:
        name = Signals(-code).name
        perhaps = ", for want of memory perhaps" if name == "SIGKILL" else ""
        return f"process {process} of this training was ended by {name}{perhaps}"
    return f"process {process} of this training ended with status {code}"


class _Says(logging.Filter):
    """Prints Lightning's message about a dead process, after which it kills this one, as an error of this project."""

    def filter(self, record: logging.LogRecord) -> bool:
        found = CHILD.search(record.getMessage())
        if found is not None:
            print(f"error: {_said(int(found[1]), int(found[2]))}; the others end with it", file=sys.stderr, flush=True)
        return found is None


@contextlib.contextmanager
def said_of_children() -> Iterator[None]:
    """A block in which the death of a process that Lightning has started is said before Lightning kills the others."""
    says, level = _Says(), LAUNCHER.level
    LAUNCHER.addFilter(says)
    LAUNCHER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LAUNCHER.removeFilter(says)
        LAUNCHER.setLevel(level)
