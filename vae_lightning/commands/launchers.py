"""Launchers of other projects as what runs the jobs of a sweep: joblib, submitit (Slurm), Ray, and every other plugin of Hydra.

A plugin is told to run `worker.run_job` for each job, in whatever process and on whatever machine it does so. How a job stands is
read from the sweep's folder, never from what the plugin says.
"""

import contextlib
import io
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from vae_lightning.commands.job import run_in
from vae_lightning.commands.processes import importable
from vae_lightning.commands.submitted import Submissions
from vae_lightning.commands.tasks import Task, cores
from vae_lightning.commands.worker import PLACES, Order, ask_to_stop, end_of, has_begun, launched, run_job
from vae_lightning.errors import ConfigurationError, Interruption, one_line
from vae_lightning.machine.shell import setting
from vae_lightning.machine.signals import received, status_of
from vae_lightning.sweeps.claims import claimed, is_finished, note_reason, require_own
from vae_lightning.sweeps.record import lock_of

__all__ = ["Launched"]

OFTEN = 1.0
"""Seconds after which it is looked again whether a job has ended."""
ENDING = 120.0
"""Seconds within which jobs are expected to have ended that were told to."""
HERE = ("joblib", "submitit_local")
"""Launchers whose processes are on this machine, and outlive the command."""
PASSED_ON = "VAE_LIGHTNING_"
"""The beginning of environment variables that jobs need on other machines too."""


class Launched:
    """A launcher of another project, as one that runs the tasks of a sweep.

    Args:
        context: Hydra's, of the sweep.
        config: the sweep's, with Hydra's below `hydra`.
        plugin: the launcher as Hydra made it for that config.
    """

    def __init__(self, context: HydraContext, config: DictConfig, plugin: Launcher) -> None:
        self.context, self.config, self.plugin = context, config, plugin
        self.name = str(config.hydra.runtime.choices["hydra/launcher"])
        self._token = ""
        """What tells the running command from others of the same sweep."""
        self._failed: set[Path] = set()
        """The run folders of jobs that failed beside their command."""

    def at_once(self, gpus: int) -> int:
        """How many tasks run at once on this machine; 1 where the launcher deals out cores and GPUs itself, as on a cluster."""
        if self.name == "joblib":
            asked = int(getattr(self.plugin, "joblib", {}).get("n_jobs") or 1)
            return asked if asked > 0 else max(1, cores() + 1 + asked)
        if self.name == "submitit_local":
            each = getattr(self.plugin, "params", {}).get("cpus_per_task")
            return max(1, gpus or (cores() // each if each else 1))
        return 1

    def together(self, gpus: int) -> int:
        """As many as run at once."""
        return self.at_once(gpus)

    def run(self, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Callable[[Task, int], None]) -> int | None:
        """Run tasks; return the signal that ended it before its time, or None.

        Raises:
            ConfigurationError: the launcher failed before any task had begun.
        """
        if not tasks:
            return None
        self._token = secrets.token_hex(8)
        for task in tasks:
            run = run_in(task.environment)
            require_own(run.parent, self._of(task) / "order.json", run.parent / PLACES / "0")
        watch = _Watch(tasks, self._of, ended)
        with self._alive(run_in(tasks[0].environment).parent) as command, watch:
            for task in tasks:
                _order(task, at_once, gpus, command).write(self._of(task))
            signum, error = self._launch(tasks, at_once)
        if error is not None and not any(has_begun(self._of(task)) for task in tasks):
            raise ConfigurationError(f"hydra/launcher={self.name}: {error}")
        if error is not None:
            print(f"error: hydra/launcher={self.name}: {error}", file=sys.stderr)
        watch.rest(signum if signum is not None else signal.SIGTERM, self._failed)
        return signum

    def _of(self, task: Task) -> Path:
        """The folder with what the launcher has to know of a task."""
        return launched(run_in(task.environment), self._token)

    @contextlib.contextmanager
    def _alive(self, folder: Path) -> Iterator[str]:
        """A block with what this command claims while it lives, for jobs that end with it; empty where they do not.

        Processes of joblib go on without the command that began them, and take further jobs.
        """
        if self.name not in HERE:
            yield ""
            return
        command = folder / f".command_{self._token}"
        with claimed(command):
            yield str(command)
        lock_of(command).unlink(missing_ok=True)

    def _launch(self, tasks: Sequence[Task], at_once: int) -> tuple[int | None, str | None]:
        """Have the plugin run tasks; the signal that ended it, and what went wrong, in one line."""
        folder = run_in(tasks[0].environment).parent
        each = at_once if self.name == "submitit_local" else len(tasks)  # which begins with all of them at once
        with Submissions(self.name) as submissions:
            try:
                for start in range(0, len(tasks), each):
                    part = tasks[start : start + each]
                    with importable():
                        returns = self._returns(folder, [_words(folder, self._of(task)) for task in part], start)
                    for task, returned, reason in zip_longest(part, returns, submissions.reasons()):
                        self._note(task, _failure(returned) or reason)
            except (Interruption, KeyboardInterrupt, SystemExit) as error:
                signum = _signal_of(error)
                if not submissions.leave(signum):
                    self._stop(tasks)
                return signum, None
            except Exception as error:
                if not submissions.jobs:
                    self._stop(tasks)
                return received(), one_line(error, 300)
        return None, None

    def _returns(self, folder: Path, words: Sequence[Sequence[str]], start: int) -> Sequence[JobReturn]:
        """What the plugin gives back; it runs in a thread, as a signal would have it kill jobs, or would not reach it at all."""
        plugin = self._plugin(folder)
        return _aside(lambda: plugin.launch(words, start))

    def _stop(self, tasks: Sequence[Task]) -> None:
        """Have the jobs stop with a checkpoint, then what is left of Ray, which would have killed them."""
        for task in tasks:
            ask_to_stop(self._of(task))
        until = time.monotonic() + ENDING
        for task in tasks:
            if has_begun(self._of(task)):
                with _ended(run_in(task.environment), until):
                    pass
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            ray.shutdown()

    def _note(self, task: Task, reason: str | None) -> None:
        """Note why a job has no end, if that is so."""
        run = run_in(task.environment)
        if reason is not None and end_of(self._of(task)) is None and not is_finished(run):
            note_reason(run, reason)
            self._failed.add(run)

    def _plugin(self, folder: Path) -> Launcher:
        """The plugin anew, for a sweep in `folder`, with `run_job` for what it runs, and no callbacks of the sweep's."""
        config = deepcopy(self.config)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.sweep.dir = str(folder).replace("${", "\\${")
            config.hydra.callbacks = {}
            init = config.hydra.launcher.get("ray", {}).get("init")
            if init is not None and (init.get("address") or "RAY_ADDRESS" in os.environ):
                init.setdefault("object_store_memory", None)  # which the plugin sets, and Ray refuses for a cluster that is there
        context = HydraContext(config_loader=self.context.config_loader, callbacks=type(self.context.callbacks)())
        return Plugins.instance().instantiate_launcher(context, run_job, config)


def _aside(function: Callable[[], Sequence[JobReturn]]) -> Sequence[JobReturn]:
    """What `function` returns or raises in a thread of its own, while this one is open to signals."""
    returns: list[Sequence[JobReturn]] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            returns.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="launcher", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if errors:
        raise errors[0]
    return returns[0]


def _signal_of(error: BaseException) -> int:
    """The signal that ended a launcher by `error`; some launchers have handlers of their own, which say it by an exit status."""
    code = error.code if isinstance(error, SystemExit) else None
    return received() or (code if isinstance(code, int) and code in set(signal.Signals) else signal.SIGINT)


def _failure(returned: JobReturn | None) -> str | None:
    """What went wrong in a launcher's process beside the job's command; None if nothing did."""
    if returned is None or returned.status is not JobStatus.FAILED:
        return None
    with contextlib.redirect_stderr(io.StringIO()):  # where Hydra says that an error comes
        try:
            returned.return_value  # noqa: B018
        except Exception as error:
            return one_line(error, 300)
    return None


def _order(task: Task, at_once: int, gpus: Sequence[str], command: str) -> Order:
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    here = os.getcwd()  # noqa: PTH109
    run = str(run_in(task.environment))
    return Order(run, task.script, task.words, {**passed, **task.environment}, str(task.log), here, gpus, at_once, command)


def _words(folder: Path, order: Path) -> list[str]:
    """The words by which Hydra gives `worker.run_job` the folder of its order; the words of the job are in the order."""
    return [setting("hydra.sweep.dir", str(folder)), setting("hydra.sweep.subdir", str(order.relative_to(folder)))]


class _Watch:
    """Says of tasks that they have ended, as soon as they have, while a launcher runs them and says nothing."""

    def __init__(self, tasks: Sequence[Task], folder_of: Callable[[Task], Path], ended: Callable[[Task, int], None]) -> None:
        self.open, self.folder_of, self.ended = list(tasks), folder_of, ended
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="jobs", daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.over.wait(OFTEN):
            self._look()

    def _look(self) -> None:
        for task in list(self.open):
            code = end_of(self.folder_of(task))
            if code is not None:
                self.open.remove(task)
                self.ended(task, code)

    def rest(self, stopped: int, failed: Container[Path]) -> None:
        """Say of the other tasks how they ended, once they have.

        Args:
            stopped: the signal that ended those that had no end of their own.
            failed: the run folders of jobs that failed beside their command.
        """
        until = time.monotonic() + ENDING
        self._look()
        for task in self.open:
            run = run_in(task.environment)
            if not (has_begun(self.folder_of(task)) or is_finished(run) or run in failed):
                continue  # nothing has become of it
            with _ended(run, until) as over:
                if over:
                    self.ended(task, status_of(stopped))


@contextlib.contextmanager
def _ended(run: Path, until: float) -> Iterator[bool]:
    """A block after the end of a job that was told to end; False if it has not ended by the time `until`."""
    while True:
        with claimed(run) as free:
            if free or time.monotonic() > until:
                yield free
                return
        time.sleep(0.2)
