"""Run a search: ask Optuna for trials, train each as jobs of a sweep, and tell Optuna what came out."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from vae_lightning.commands.commandline import WENT_WRONG
from vae_lightning.commands.config import Parts, monitor_of
from vae_lightning.commands.running import SweepRun
from vae_lightning.commands.space import Space
from vae_lightning.commands.sweeping import Wanted
from vae_lightning.commands.table import show_table
from vae_lightning.commands.tasks import JobLauncher, Task
from vae_lightning.commands.treatments import treatment_of
from vae_lightning.commands.trial import environment_of_trial
from vae_lightning.errors import ConfigurationError, printable
from vae_lightning.machine.screen import short
from vae_lightning.machine.shell import command, path_setting, setting, shell_quoted
from vae_lightning.machine.signals import status_of as status_of_signal
from vae_lightning.sweeps.claims import is_finished, require_own
from vae_lightning.sweeps.naming import labelled, short_keys
from vae_lightning.sweeps.record import JOBS, Asked, Job, Record, places_of
from vae_lightning.sweeps.search import JOURNAL, SEARCH, Search, SearchSettings, is_search
from vae_lightning.sweeps.status import DONE, State, Status, status_of, statuses
from vae_lightning.sweeps.study import Trials
from vae_lightning.sweeps.table import in_nats
from vae_lightning.treatment import Treatment
from vae_lightning.types import LatentVariableModel

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["SearchRun"]

ATTEMPTS = 2
"""How often the processes of a trial may be killed; the trial goes on where it stood after each but the last time."""
WAITING = 0.5
"""Seconds after which a trial is looked at again whose run another process is training."""


class SearchRun(SweepRun):
    """A command that searches.

    Args:
        config: of the sweep, with Hydra's below `hydra`.
        parser: of words.
        launcher: that runs the jobs.
        wanted: what the command says of the sweep that it is of.
        settings: how the search goes about it.
    """

    def __init__(
        self, config: DictConfig, parser: OverridesParser, launcher: JobLauncher, wanted: Wanted, settings: SearchSettings
    ) -> None:
        super().__init__(config, parser, launcher, wanted)
        self.settings = settings
        self.killed: set[str] = set()
        """Folders of jobs whose process was killed, and not by this command."""

    def run(self, words: Sequence[str]) -> int:
        """Run trials until there are as many as the search was asked for; return the exit status."""
        if self.wanted.everything and self.wanted.folder is not None:
            words = Record.read(self.wanted.folder).words
        self.words = words
        self.space = Space.of(words, self.parser)
        ends = [*self.space.ends()]
        try:
            asked = self._check(ends, range(len(ends)))
        except ConfigurationError as error:
            raise self.space.explained(error) from None
        search = self._wanted_search(ends[0])
        if in_nats(search.metric):
            self._require_one_treatment(ends, search.metric)
        folder, self.search = self._begun(asked, search)
        self.names = short_keys(Record.read(folder).axes)
        self.trials = Trials(folder, self.search)
        gpus = len(self._gpus())
        self.at_once, self.together = self.launcher.at_once(gpus), self.launcher.together(gpus)
        self._say(f"search {short(folder)}: {self._counted()}")
        self._count(folder)
        signum = self._search(folder)
        return self._told(folder, signum)

    # ---- which search

    def _wanted_search(self, words: Sequence[str]) -> Search:
        config, _ = self.configs.of(words)
        parts = Parts(config)
        metric, mode = monitor_of(config, parts.model(parts.data()))
        if config.trainer.fast_dev_run or config.trainer.limit_val_batches == 0:
            raise ConfigurationError(
                f"hydra/sweeper=optuna: judges by {metric}, so it needs validation, and runs that come to an end"
            )
        if metric.startswith("test/"):
            raise ConfigurationError(f"monitor={metric}: what is searched for on test images says nothing of new ones")
        seeds = tuple(word.partition("=")[2] for word in self.space.seeds)
        return Search(self.settings, metric, mode, {axis.key: str(axis) for axis in self.space.axes}, seeds)

    def _require_one_treatment(self, ends: Sequence[Sequence[str]], metric: str) -> None:
        """Refuse a search among nats of different things, whose best trial would be the best of none."""
        first: Treatment | None = None
        for words in ends:
            parts = Parts(self.configs.of(words)[0])
            data = parts.data()
            model = parts.model(data)
            if not isinstance(model, LatentVariableModel):
                continue
            treatment = treatment_of(model, data)
            first = first or treatment
            if treatment != first:
                word = next(word for word, other in zip(words, ends[0], strict=True) if word != other)
                raise ConfigurationError(
                    f"{word}: its {metric} is of {treatment.words_with_size}, and that of other trials of "
                    f"{first.words_with_size}, which do not compare; search each by itself, or sweep over them"
                )

    def _begun(self, asked: Sequence[Asked], search: Search) -> tuple[Path, Search]:
        """The folder of the search, which has its records then."""

        def is_same(other: Path) -> bool:
            """Whether the search in `other` tries the same, and has the other settings in common with this one."""
            same = Search.read(other).difference(search) is None
            return same and not Record.read(other).contradictions(asked, self.space.keys)

        with self._own_folder(asked, SEARCH, is_same) as folder:
            there = (folder / JOBS).is_file() or is_search(folder)
            if there and not is_search(folder):
                raise ConfigurationError(f"{path_setting('sweep', folder)}: is a sweep and no search; choose another folder")
            record = Record.read(folder) if there else Record.empty(str(Path.cwd()))
            before = Search.read(folder) if there else None
            difference = before.difference(search) if before is not None else None
            if difference is not None:
                raise ConfigurationError(f"{difference}; start another one: hydra.sweep.dir=<folder>")
            number = search.settings.n_trials
            if before is not None and number < before.settings.n_trials:
                known = Trials(folder, before).asked_for()
                if number < known:
                    raise ConfigurationError(
                        f"hydra.sweeper.n_trials={number}: there are {known} trials already; ask for as many or more"
                    )
            # the record's, but for the jobs: what all runs have in common follows from the ends, before there are runs
            whole = record.with_jobs(asked, self.space.keys, self.words, self.flags)
            search.write(folder)
            dataclasses.replace(whole, jobs=record.jobs).write(folder)
        return folder, search

    # ---- the trials

    def _search(self, folder: Path) -> int | None:
        """Run trials; return the signal that ended it before its time, or None."""
        while True:
            with self.trials.claimed(self.together) as trials:
                if not trials:
                    return None
                told, signum = self._batch(folder, trials)
            if signum is not None:
                return signum
            if not told:
                time.sleep(WAITING)

    def _batch(self, folder: Path, trials: Sequence["Trial"]) -> tuple[int, int | None]:
        """Run trials; how many came to their end, and the signal that ended it before its time."""
        jobs: dict[int, list[Job]] = {trial.number: [] for trial in trials}
        left, told = list(trials), 0
        runs = {trial.number: self.space.runs(self.trials.drawing(trial)) for trial in trials}
        for first, places in self._phases():
            for trial in [*left]:
                try:
                    jobs[trial.number] += self._recorded_jobs(folder, [runs[trial.number][place] for place in places])
                except ConfigurationError as error:
                    self._fail(trial, str(error))
                    left.remove(trial)
                    told += 1
                else:
                    self.trials.name(trial, [job.folder for job in jobs[trial.number]])
            signum = self._run_jobs(folder, [(job, trial, first) for trial in left for job in jobs[trial.number]])
            left = [trial for trial in left if not (self._tell(folder, trial, jobs[trial.number]) and (told := told + 1))]
            if signum is not None:
                return told, signum
        return told, None

    def _phases(self) -> list[tuple[bool, list[int]]]:
        """The runs of a trial that are trained together, by their places, and whether the first of them is among them.

        The first run of a trial reports for it, so the others wait until nothing stops it any more.
        """
        places = list(range(max(1, len(self.space.seeds))))
        return [(True, places)] if self.settings.pruner == "none" or len(places) == 1 else [(True, places[:1]), (False, places[1:])]

    def _recorded_jobs(self, folder: Path, runs: Sequence[Sequence[str]]) -> list[Job]:
        asked = self._check(runs, range(len(runs)))
        with self.trials.alone():
            record = Record.read(folder).with_jobs(asked, self.space.keys, self.words, self.flags)
            record.write(folder)
        return record.of(asked, self.space.keys)

    def _run_jobs(self, folder: Path, jobs: Sequence[tuple[Job, "Trial", bool]]) -> int | None:
        extra = self._threads(self.at_once)
        tasks: dict[str, Task] = {}
        by_log: dict[Path, Job] = {}
        reporting = set[int]()
        for job, trial, first in jobs:
            reports = first and trial.number not in reporting
            reporting.add(trial.number)
            require_own(folder, *places_of(folder / job.folder))
            if job.folder in tasks or status_of(folder, job).state in DONE:
                continue
            task = self._task(folder, job, extra)
            if reports:
                task = dataclasses.replace(task, environment={**task.environment, **environment_of_trial(trial.number)})
            tasks[job.folder], by_log[task.log] = task, job

        def ended(task: Task, code: int) -> None:
            job = by_log[task.log]
            if code < 0:
                self.killed.add(job.folder)
            self._ended(folder, job, code)

        gpus = self._gpus()
        return self.launcher.run([*tasks.values()], self.at_once, gpus if self.at_once > 1 else [], ended) if tasks else None

    def _ended(self, folder: Path, job: Job, code: int) -> None:
        """Say how a run ended: by the metric of the search, as who chooses by what a test says has no test any more."""
        status = status_of(folder, job, mine=True)
        if status.state not in DONE or self.search.metric not in status.metrics:
            super()._ended(folder, job, code)
            return
        self.done += 1
        stopped = ", stopped as hopeless" * (status.state is State.PRUNED)
        value = f"{self.search.metric} {status.metrics[self.search.metric]:.2f}"
        self._say(f"[{self.done}/{self.total}] {labelled(job.settings, self.names)}: {value}{stopped}")

    # ---- what came out of a trial

    def _tell(self, folder: Path, trial: "Trial", jobs: Sequence[Job]) -> bool:
        """Tell Optuna what came out of a trial; whether it is through."""
        found = [status_of(folder, job) for job in jobs]
        failed = next((status for status in found if status.state in (State.FAILED, State.CHANGED)), None)
        if failed is not None:
            if failed.job.folder in self.killed and self.trials.attempts(trial) < ATTEMPTS:
                self._say(f"trial {trial.number} goes on where it stood")
                self.done -= sum(status.state is State.FAILED for status in found)  # they will end once more
                return False
            self._fail(trial, failed.reason or "it failed")
        elif any(status.state is State.PRUNED for status in found):
            self.trials.prune(trial)
        elif len(found) == max(1, len(self.space.seeds)) and all(status.state is State.FINISHED for status in found):
            values = [status.metrics.get(self.search.metric) for status in found]
            numbers = [value for value in values if value is not None]
            if len(numbers) < len(values):
                self._fail(trial, f"{self.search.metric} is not among its metrics")
            else:
                self.trials.complete(trial, fmean(numbers))
                self._say_value(trial, fmean(numbers), found)
        else:
            return False
        return True

    def _fail(self, trial: "Trial", reason: str) -> None:
        self.trials.fail(trial, reason)
        self._say(f"trial {trial.number} failed: {printable(reason)}")

    def _say_value(self, trial: "Trial", value: float, found: Sequence[Status]) -> None:
        best = self.trials.best()
        mean = f", the mean of {len(found)} seeds" if len(found) > 1 else ""
        beside = (
            "the best so far"
            if best is None or best.number == trial.number
            else f"the best is trial {best.number}, {best.value:.2f}"
        )
        self._say(f"trial {trial.number}: {self.search.metric} {value:.2f}{mean}; {beside}")

    # ---- what came out of all

    def _count(self, folder: Path) -> None:
        self.total = self.settings.n_trials * max(1, len(self.space.seeds))
        self.done = sum(status.state in DONE for status in statuses(folder, Record.read(folder)))

    def _counted(self) -> str:
        counts = self.trials.counted()
        parts = [f"{count} {state}" for state, count in counts.items()]
        return ", ".join([f"{self.trials.asked_for()} of {self.settings.n_trials} trials", *parts])

    def _told(self, folder: Path, signum: int | None) -> int:
        """Say what came out; return the exit status."""
        if signum is None:
            show_table(folder, Record.read(folder))
        trusting = self._trusting()
        counts = self.trials.counted()
        self._say(f"search {short(folder)}: {self._counted()}")
        best = self.trials.best()
        if best is not None:
            runs: list[str] = best.user_attrs.get("runs") or []
            self._say(f"best:       trial {best.number}, {self.search.metric} {best.value:.2f}: {self._labelled(best.params)}")
            for run in [run for run in runs if is_finished(folder / run)]:
                self._say(f"evaluate:   {command('evaluate.py', path_setting('run', short(folder / run)), *trusting)}")
        words = {job.folder: job.words for job in Record.read(folder).jobs}
        gone = [name for name in self.trials.counting() if not is_finished(folder / name)]
        for name in gone:
            again = command("train.py", *self.flags, *words.get(name, ()), setting("hydra.run.dir", short(folder / name)))
            self._say(f"gone:       {short(folder / name)}, whose value still counts; train it again: {again}")
        self._say(f"look at it: optuna-dashboard {shell_quoted(str(short(folder / JOURNAL)))}")
        if signum is not None or counts.get("running", 0):
            self._say(f"go on with: {self._go_on(folder)}")
        if signum is not None:
            return status_of_signal(signum)
        return WENT_WRONG if gone or self.trials.failed_now() else 0

    def _labelled(self, params: Mapping[str, Any]) -> str:
        return labelled(params, self.names)
