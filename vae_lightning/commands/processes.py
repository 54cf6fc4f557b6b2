"""Hydra's launcher `basic`: the jobs of a sweep on this machine, each an ordinary command in a process of its own.

A process is forked from one that has imported everything and has done nothing else (`multiprocessing`'s fork server), so that a
job starts at once, and whatever becomes of it (a crash in a library, the system's killing it for its memory) ends that job alone.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, ClassVar, Literal

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lightning.arguments import require
from vae_lightning.commands.tasks import Task
from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.signals import ENDING, noted, tell_main_thread

__all__ = ["Processes", "fork_server", "importable"]

PRELOADED = ["vae_lightning.commands.preloaded"]
LOCKED = 0.5
"""Seconds after which a job that another process runs is looked at again."""


@dataclass
class _Running:
    """A task that runs."""

    task: Task
    process: BaseProcess
    place: int
    """The number of the process among those that run at once."""
    held: ExitStack = field(default_factory=ExitStack)


class Processes(Launcher):
    """Hydra's launcher that runs each job in a process of its own.

    Args:
        jobs: how many run at once; "auto": one a GPU, or one.
    """

    name: ClassVar[str] = "basic"

    def __init__(self, jobs: int | Literal["auto"] = "auto") -> None:
        whole = isinstance(jobs, int) and not isinstance(jobs, bool) and jobs >= 1
        require(jobs == "auto" or whole, "hydra.launcher.jobs", jobs, "auto, or at least 1")
        self.jobs = jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: a job is a command of its own."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refused: sweepers of other projects run their jobs one after the other."""
        raise ConfigurationError(
            f"hydra/launcher={self.name}: is of hydra/sweeper=basic; choose a launcher that your sweeper knows"
        )

    def at_once(self, gpus: int) -> int:
        """How many jobs run at once, where each may have one of `gpus`."""
        return max(1, gpus) if self.jobs == "auto" else self.jobs

    def together(self, gpus: int) -> int:
        """As many as run at once."""
        return self.at_once(gpus)

    def run(self, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Callable[[Task, int], None]) -> int | None:
        """Run tasks, `at_once` at a time; return the signal that ended it before its time, or None.

        Args:
            gpus: the names of the GPUs, of which each place has one; empty: all jobs see what there is.
            ended: called with each task that came to its end, and its exit status; negative: the signal that killed it.
        """
        return _Run(tasks, at_once, gpus, ended).result()


class _Run:
    """Tasks on their way through their processes."""

    def __init__(self, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Callable[[Task, int], None]) -> None:
        self.waiting, self.running = list(tasks), list[_Running]()
        self.at_once, self.gpus, self.ended = at_once, gpus, ended
        self.alone = at_once == 1
        self.signum: int | None = None

    def result(self) -> int | None:
        looked = False
        with noted(self._tell, leaving=self._kill, says="the jobs that run stop"):
            if self.waiting:
                fork_server()  # whose imports take seconds, in which a signal may come
            while self.running or (self.waiting and self.signum is None):
                started = self._start()
                if self.running:
                    looked = False
                    wait([each.process.sentinel for each in self.running], None if started else LOCKED)
                elif not started:
                    if looked:
                        break  # others run what is left
                    looked = True  # once more, as whoever only asks how a job stands has it for a moment
                    time.sleep(LOCKED)
                self._collect()
        return self.signum

    def _start(self) -> bool:
        """Start what there is room for; whether there is nothing left that another process might give free."""
        for task in list(self.waiting):
            if self.signum is not None or len(self.running) >= self.at_once:
                return True
            held = ExitStack()
            files = held.enter_context(task.claim())
            if not files:
                held.close()
                continue
            self.waiting.remove(task)
            place = min({*range(self.at_once)} - {each.place for each in self.running})
            new = _Running(task, self._process(task, place, files), place, held)
            self.running.append(new)
            if self.signum is not None:  # it came while the process was started, and was passed on to the others
                _send(new.process, self.signum)
        return bool(self.running) and not self.waiting

    def _process(self, task: Task, place: int, files: Sequence[int]) -> BaseProcess:
        environment = dict(task.environment)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        log = None if self.alone and sys.stdout.isatty() else task.log
        if log is None:
            task.begins()
        arguments = (task.script, task.words, environment, log, _Shared(files))
        process: BaseProcess = fork_server().Process(target=_command, args=arguments)
        process.start()
        return process

    def _collect(self) -> None:
        for each in [each for each in self.running if each.process.exitcode is not None]:
            self.running.remove(each)
            each.process.join()
            try:
                self.ended(each.task, each.process.exitcode or 0)
            finally:
                each.held.close()

    def _tell(self, signum: int) -> None:
        """Pass a signal on to all processes; each is in a group of its own, which a terminal's Ctrl-C does not reach."""
        self.signum = signum
        for each in self.running:
            _send(each.process, signum)

    def _kill(self) -> None:
        for each in self.running:
            _send(each.process, signal.SIGKILL)


def _send(process: BaseProcess, signum: int) -> None:
    if process.pid is not None and process.exitcode is None:
        try:
            os.killpg(process.pid, signum)
        except (ProcessLookupError, PermissionError):  # it has just ended, or has no group of its own yet
            process.kill() if signum == signal.SIGKILL else os.kill(process.pid, signum)


def fork_server() -> ForkServerContext:
    """The context whose processes are forked from one that has imported what a training needs; started by the first call.

    Signals that ask a program to end are blocked there, as `timeout`, a cluster or systemd sends them to every process of a sweep:
    multiprocessing takes its jobs for lost when the one dies that they were forked from.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # which the server starts otherwise, and which unblocks signals when it has been started
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        with importable():
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return context


@contextmanager
def importable() -> Iterator[None]:
    """A block in which a new Python finds what this one does: a checkout that is not installed, a user's own package."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


class _Shared:
    """Open files that the new process has too, so that its claims outlive whoever made them."""

    def __init__(self, files: Sequence[int]) -> None:
        self.files = files

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, ([DupFd(file) for file in self.files],)


def _taken(files: Sequence[Any]) -> _Shared:
    return _Shared([file.detach() for file in files])


def _command(script: str, words: Sequence[str], environment: Mapping[str, str], log: Path | None, claims: _Shared) -> None:
    """Be the command `script words`, in a process that has just been forked, and keep `claims` until it ends."""
    from vae_lightning.commands.commandline import whole_command

    os.setpgid(0, 0)
    os.environ.update(environment)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.close(file)
    with whole_command():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # blocked in the process that this one was forked from
        _end_with_the_sweep()
        sys.argv[:] = [script, *words]
        runpy.run_path(script, run_name="__main__")


def _end_with_the_sweep() -> None:
    """Ask this process to end when the one has died that runs the sweep."""
    sweep = multiprocessing.parent_process()

    def watch() -> None:
        if sweep is not None:
            sweep.join()
            tell_main_thread(signal.SIGTERM)

    threading.Thread(target=watch, name="sweep", daemon=True).start()
