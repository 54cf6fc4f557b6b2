"""Evaluate the runs of a sweep: `python evaluate.py sweep=<folder>`, each as `evaluate.py run=...` would, in a process of its own.

What is evaluated already with the same settings and weights is left as it is, so the same command goes on where it was stopped:
each run has a file that says with which settings it was evaluated, and what came out of each that the run's report has to hold.
"""

import functools
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vae_lightning.arguments import require
from vae_lightning.commands.commandline import WENT_WRONG
from vae_lightning.commands.job import environment_of
from vae_lightning.commands.options import Options
from vae_lightning.commands.processes import Processes
from vae_lightning.commands.sweeping import sweep_folder
from vae_lightning.commands.table import show_table
from vae_lightning.commands.tasks import Task
from vae_lightning.errors import ConfigurationError, printable
from vae_lightning.machine.files import write_json
from vae_lightning.machine.reading import JSON, TEXT
from vae_lightning.machine.screen import console, short
from vae_lightning.machine.shell import setting
from vae_lightning.machine.signals import status_of as status_of_signal
from vae_lightning.plugins import load_declared
from vae_lightning.reports.document import splits_of
from vae_lightning.reports.merging import identity_of, is_report, with_others
from vae_lightning.runs.finding import tested
from vae_lightning.runs.layout import EVALUATION
from vae_lightning.sweeps.claims import due, read_json, require_own, was_stopped
from vae_lightning.sweeps.naming import labelled, short_keys
from vae_lightning.sweeps.record import Job, Record, log_of, places_of, reason_of
from vae_lightning.sweeps.status import State, status_of

__all__ = ["evaluate_sweep"]

NOT_BESIDE = ("run", "ckpt_path", "to")
"""Settings that are of one run."""
DONE_OTHERWISE = {State.PRUNED: "stopped by the search as hopeless", State.CHANGED: "gone on with by other settings"}
"""The states of jobs that are done and not evaluated, in words."""
DONE = Path(".sweep", "evaluated")
"""The folder of what was evaluated, a file a job."""


def evaluate_sweep(sweep: str, cfg: DictConfig, words: Sequence[str]) -> int:
    """Evaluate every finished run of a sweep; return the exit status.

    Args:
        sweep: its folder, or "latest".
        words: the settings of the command line, which `cfg` is composed of.

    Raises:
        ConfigurationError: a setting is wrong, or does not go with `sweep=`.
        CheckpointError: there is no such sweep.
    """
    for key in NOT_BESIDE:
        if cfg[key] is not None:
            raise ConfigurationError(f"{key}={cfg[key]}: is of one run; leave it out beside sweep=")
    require(isinstance(cfg.jobs, int) and cfg.jobs >= 1, "jobs", cfg.jobs, "at least 1")
    load_declared()
    Options.of(cfg)  # refuses what is wrong for every run
    rest = [word for word in words if word.partition("=")[0].lstrip("+") != "jobs"]
    return _Evaluations(sweep_folder(sweep), rest, cfg).run()


def _left(states: Sequence[State]) -> str:
    """How many jobs are not evaluated, and why, in words; empty if there are none."""
    why = Counter(DONE_OTHERWISE.get(state, "without a result") for state in states if state is not State.FINISHED)
    return "".join(f"; {count} {words}" for words, count in why.items())


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class _Evaluations:
    """The evaluations of the runs of a sweep."""

    def __init__(self, folder: Path, words: Sequence[str], cfg: DictConfig) -> None:
        self.folder, self.words, self.cfg, self.at_once = folder, list(words), cfg, cfg.jobs
        record = Record.read(folder)
        self.names = short_keys(record.axes)
        states = [status_of(folder, job).state for job in record.jobs]
        self.jobs = [job for job, state in zip(record.jobs, states, strict=True) if state is State.FINISHED]
        for job in self.jobs:
            require_own(folder, self.folder / job.folder, self._mark(job), *places_of(self._of(job)))
        self.left = _left(states)
        self.done = self.failed = 0
        self.terminal = console()

    def run(self) -> int:
        todo = [job for job in self.jobs if not self._is_done(job)]
        self.done = len(self.jobs) - len(todo)
        self._say(
            f"sweep {short(self.folder)}: {len(self.jobs)} runs to evaluate, {self.done} of them evaluated already{self.left}"
        )
        tasks = {log_of(self._of(job)): job for job in todo}
        signum = Processes().run(
            [self._task(job) for job in todo], self.at_once, [], lambda t, code: self._ended(tasks[t.log], code)
        )
        if signum is not None:
            return status_of_signal(signum)
        if self.jobs:
            show_table(self.folder, Record.read(self.folder))  # which has the estimates now
        return WENT_WRONG if self.failed else 0

    def _task(self, job: Job) -> Task:
        run, evaluation = self.folder / job.folder, self._of(job)
        words = (*self.words, setting("run", str(run)))
        claim, begins = functools.partial(due, self._of(job), lambda _: self._is_done(job)), functools.partial(self._begins, job)
        script = os.path.abspath(sys.argv[0])  # noqa: PTH100
        environment = environment_of(run, reason_of(evaluation))
        return Task(script, words, environment, log_of(evaluation), claim, begins, lambda: self.cfg)

    def _begins(self, job: Job) -> None:
        self._say(f"[{self.done + 1}/{len(self.jobs)}] {labelled(job.settings, self.names)}")

    def _ended(self, job: Job, code: int) -> None:
        self.done += 1
        name = f"[{self.done}/{len(self.jobs)}] {labelled(job.settings, self.names)}"
        if code == 0:
            latest = [digest for digest, is_latest in self._estimates(job).items() if is_latest]
            write_json(self._mark(job), {**self._known(job), self._wanted(job): latest})
            self._say(f"{name}: {short(self.folder / job.folder / EVALUATION / 'report.html')}")
            return
        self.failed += 1
        otherwise = "interrupted" if was_stopped(code) else f"its process ended with status {code}"
        said = read_json(reason_of(self._of(job)), self.folder, TEXT).get("reason", otherwise)
        print(f"error: {name}: {printable(str(said))} ({short(log_of(self._of(job)))})", file=sys.stderr)

    def _is_done(self, job: Job) -> bool:
        came_out = self._known(job).get(self._wanted(job))
        return came_out is not None and set(came_out) <= self._estimates(job).keys()

    def _known(self, job: Job) -> dict[str, list[str]]:
        """What came out of each evaluation of the job's run, by the digest of what was wanted."""
        content = read_json(self._mark(job), self.folder, JSON)
        return {
            wanted: came_out
            for wanted, came_out in content.items()
            if came_out and isinstance(came_out, list) and all(isinstance(digest, str) for digest in came_out)
        }

    def _estimates(self, job: Job) -> dict[str, bool]:
        """A digest of each estimate in the report of the job's run, and whether the latest evaluation made it."""
        report: Mapping[str, Any] = read_json(self.folder / job.folder / EVALUATION / "report.json", self.folder, JSON)
        if not is_report(report):
            return {}
        weights, latest = report["weights"].get("sha256"), report.get("evaluated")
        return {
            _digest([weights, split, name, identity_of(estimate)]): estimate.get("measured") == latest
            for split in splits_of(report)
            for name, estimates in with_others(report, split).items()
            for estimate in estimates
        }

    def _wanted(self, job: Job) -> str:
        """A digest of the settings and of which weights are evaluated."""
        run = self.folder / job.folder
        weights = tested(run)
        stat = (weights if weights.is_file() else run).stat()
        asked = [sorted(self.words), weights.name, stat.st_size, stat.st_mtime_ns]
        return _digest(asked)

    def _mark(self, job: Job) -> Path:
        return self.folder / DONE / f"{job.folder}.json"

    def _of(self, job: Job) -> Path:
        """What stands for the evaluation of a job among the run folders that `sweeps.record` has places for."""
        return self.folder / f"{job.folder}.evaluation"

    def _say(self, line: str) -> None:
        self.terminal.print(line, soft_wrap=True)
