"""Signals that ask a program to end: Ctrl-C, a closed terminal, and what schedulers send before they take a machine away.

Within `handled`, the first signal is noted where somebody said, by `noted`, that the program comes to a good end by itself, and is
an `Interruption` in the main thread everywhere else. A second one ends the program at once. What comes within half a second counts
as one signal: `timeout` and Ctrl-C in a terminal may reach a process twice.

A signal that was ignored when the program started stays so: `nohup` relies on it. Nor is another program's own handler replaced.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from types import FrameType

from vae_lightning.errors import Interruption
from vae_lightning.machine.files import remove_unfinished

__all__ = [
    "ENDING",
    "Interruption",
    "abortable",
    "aborted",
    "handled",
    "heed",
    "noted",
    "patient",
    "received",
    "status_of",
    "tell_main_thread",
]

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""The signals that ask a program to end; Slurm sends SIGUSR1 or SIGUSR2 before it preempts a job, if it is told so (`--signal`)."""
ONE = 0.5
"""Seconds within which several signals count as one."""

Tell = Callable[[int], None]


class _State:
    """What this process has been told; there is one."""

    def __init__(self) -> None:
        self.before: dict[int, object] = {}
        """The handlers that were there before; empty: signals are not handled."""
        self.at_once = False
        """Whether a second signal ends this process, and is not left to the handlers that were there before."""
        self.first: int | None = None
        self.since = 0.0
        self.tells: list[Tell] = []
        self.leaving: list[Callable[[], None]] = []
        self.says = ""
        self.abortable = self.patient = 0
        self.aborted = False
        self.watched: tuple[int, int] | None = None


_state = _State()


def status_of(signum: int) -> int:
    """The exit status of a program that a signal ended, by the convention of shells.

    >>> status_of(signal.SIGINT)
    130
    """
    return 128 + int(signum)


def tell_main_thread(signum: int) -> None:
    """Send a signal to this process's main thread, which it wakes; one to the process may be another thread's, and wake nobody.

    >>> tell_main_thread(0)  # no signal, which only asks whether one can be sent
    """
    signal.pthread_kill(threading.main_thread().ident or 0, signum)


def received() -> signal.Signals | None:
    """The signal that asked this process to end; None if there was none, or signals are not `handled`."""
    return None if _state.first is None else signal.Signals(_state.first)


@contextlib.contextmanager
def handled(*, at_once: bool = False) -> Iterator[None]:
    """A block in which signals are handled; within another such block, or outside of the main thread, it changes nothing.

    Args:
        at_once: whether a second signal ends the process there and then, as a command should; if not, the second signal does what
            it did before the block.
    """
    if _state.before or threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.first, _state.aborted, _state.at_once = None, False, at_once
    try:
        for number in ENDING:
            before = signal.getsignal(number)
            if before in (signal.SIG_DFL, signal.default_int_handler):
                _state.before[number] = before
                signal.signal(number, _handle)
        if at_once:
            _watch()
        yield
    finally:
        _unwatch()
        _restore()
        _state.first, _state.aborted = None, False


@contextlib.contextmanager
def noted(tell: Tell, leaving: Callable[[], None] | None = None, says: str = "training stops within 50 steps") -> Iterator[None]:
    """A block in which a first signal does not interrupt, but calls `tell` with its number; one that came before is told at once.

    Args:
        leaving: called before a second signal ends the process, to end other processes with it.
        says: what is said to come of the signal.
    """
    before, _state.says = _state.says, says
    _state.tells.append(tell)
    if leaving is not None:
        _state.leaving.append(leaving)
    try:
        if _state.first is not None:
            tell(_state.first)
        yield
    finally:
        _state.says = before
        _state.tells.remove(tell)
        if leaving is not None:
            _state.leaving.remove(leaving)


@contextlib.contextmanager
def abortable() -> Iterator[None]:
    """A block that a first signal interrupts also within `noted`: something long that the program can do without.

    Raises:
        Interruption: a signal came, before the block or within it; who is told has been told.
    """
    if _state.patient or not _state.before or threading.current_thread() is not threading.main_thread():
        yield
        return
    if _state.first is not None:
        _state.aborted = True
        raise Interruption(_state.first)
    _state.abortable += 1
    try:
        yield
    finally:
        _state.abortable -= 1


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """A block in which `abortable` interrupts nothing: what would be lost is worth the wait."""
    _state.patient += 1
    try:
        yield
    finally:
        _state.patient -= 1


def aborted() -> bool:
    """Whether a signal has interrupted an `abortable` block, so that what came after it is not what it would have been."""
    return _state.aborted


def heed() -> None:
    """Interrupt the program again if a signal came and a library has swallowed the interruption.

    torch does so while it looks for numpy as it is imported, and Python within callbacks and finalizers.

    Raises:
        Interruption: a signal came, and nothing was told of it that comes to a good end by itself.
    """
    if _state.first is not None and not _state.tells:
        raise Interruption(_state.first)


def _handle(signum: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.first is not None:
        if now - _state.since >= ONE:
            _again(signum)
        return
    _state.first, _state.since = signum, now
    for tell in list(_state.tells):
        tell(signum)
    if _state.tells:
        _say(signum)
    if _state.abortable or not _state.tells:
        _state.aborted = bool(_state.abortable)
        raise Interruption(signum)


def _again(signum: int) -> None:
    """What a second signal does."""
    if _state.at_once:
        _leave(signum)
    _restore()
    signal.raise_signal(signum)


def _leave(signum: int) -> None:
    """End this process, and what it started, without anything that may take time."""
    for leave in list(_state.leaving):
        with contextlib.suppress(Exception):
            leave()
    remove_unfinished()
    os._exit(status_of(signum))


def _say(signum: int) -> None:
    """Say, once for all processes of a training, what the signal does; written past Python's buffers, which may be in use."""
    if os.environ.get("LOCAL_RANK", "0") != "0" or parent_process() is not None:
        return
    name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
    again = "press it again to stop at once" if signum == signal.SIGINT else "a second one stops it at once"
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"\n{name}: {_state.says}; {again}\n".encode())


def _restore() -> None:
    for number, before in _state.before.items():
        signal.signal(number, before)  # type: ignore[arg-type]
    _state.before.clear()


# ---- a second signal ends the process also while its main thread is in a library that does not return for minutes


def _watch() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    _state.watched = (reading, writing)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watching, args=(reading,), name="signals", daemon=True).start()


def _watching(reading: int) -> None:
    first: float | None = None
    while True:
        signums = os.read(reading, 1)
        if not signums:
            os.close(reading)
            return
        if signums[0] not in ENDING:
            continue
        if first is not None and time.monotonic() - first >= ONE:
            _leave(signums[0])
        first = time.monotonic() if first is None else first


def _unwatch() -> None:
    if _state.watched is not None:
        signal.set_wakeup_fd(-1)
        os.close(_state.watched[1])
        _state.watched = None


def _in_a_child() -> None:
    """A process forked from this one, such as a loader's, ends when it is told to, and lets its parent answer Ctrl-C."""
    if not _state.before:
        return
    if _state.watched is not None:
        signal.set_wakeup_fd(-1)
    for number in _state.before:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    _state.before.clear()
    _state.tells.clear()
    _state.leaving.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_child)
