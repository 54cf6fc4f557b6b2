"""Run a sweep: find or make its folder, check its jobs, run those without a result, and show what came out."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import torch  # isort: skip
from filelock import FileLock

from vae_lightning.commands.asking import Configs, checked_places, expanded
from vae_lightning.commands.commandline import WENT_WRONG
from vae_lightning.commands.config import check_config
from vae_lightning.commands.devices import gpu_places, gpus_of
from vae_lightning.commands.job import environment_of
from vae_lightning.commands.sweeping import Wanted
from vae_lightning.commands.table import show_table
from vae_lightning.commands.tasks import JobLauncher, Task, cores
from vae_lightning.commands.trusted import only_trusted
from vae_lightning.commands.typed import to_trust, typed_flags
from vae_lightning.errors import ConfigurationError, VAELightningError, printable
from vae_lightning.machine.screen import console, short
from vae_lightning.machine.shell import command, path_setting, setting
from vae_lightning.machine.signals import status_of as status_of_signal
from vae_lightning.sweeps.claims import due, note_end, require_own
from vae_lightning.sweeps.naming import labelled, short_keys
from vae_lightning.sweeps.record import JOBS, Asked, Job, Record, log_of, places_of, reason_of
from vae_lightning.sweeps.search import is_search
from vae_lightning.sweeps.status import DONE, State, Status, status_of

__all__ = ["SweepRun"]

OF_THE_SWEEP = ("hydra.sweep", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher", "hydra.mode", "hydra.run")
"""Beginnings of words for Hydra that are the sweep's, and not its jobs'."""


class SweepRun:
    """A command that runs jobs of a sweep.

    Args:
        config: of the sweep, with Hydra's below `hydra`.
        parser: of words.
        launcher: that runs the jobs.
        wanted: what the command says of the sweep that it is of.
    """

    def __init__(self, config: DictConfig, parser: OverridesParser, launcher: JobLauncher, wanted: Wanted) -> None:
        self.config, self.parser, self.launcher, self.wanted = config, parser, launcher, wanted
        hydra = config.hydra
        told = [*hydra.overrides.hydra]
        self.of_hydra = [word for word in told if not word.lstrip("+~").startswith(OF_THE_SWEEP)]
        self.flags = [*typed_flags(hydra), *self.of_hydra]
        of_sweep = [word for word in told if word.lstrip("+").startswith("hydra.sweep.dir=")]
        self.chosen = bool(of_sweep)
        self.launched_by = [word for word in told if word.startswith(("hydra/launcher=", "hydra.launcher.", "+hydra.launcher."))]
        self.configs = Configs(hydra.job.config_name, [*self.of_hydra, *of_sweep], parser, hydra.runtime.choices)
        self.terminal = console()
        self.trust: set[str] = set()
        self.gpus_each = 0

    def run(self, words: Sequence[str]) -> int:
        """Run the jobs that `words` ask for; return the exit status."""
        if self.wanted.everything and self.wanted.folder is not None:
            folder, record = self.wanted.folder, Record.read(self.wanted.folder)
            mine = [*record.jobs]
            self._check([list(job.words) for job in mine], range(len(mine)))
        else:
            jobs, axes = expanded(words, self.parser)
            counts = _counts(jobs)
            asked = self._check(jobs, [*checked_places(counts)])
            folder, record = self._recorded(asked, axes, words)
            wanted = {job.folder for job in record.of(asked, axes)}
            mine = [job for job in record.jobs if job.folder in wanted]
        return self._jobs(folder, record, mine)

    def _check(self, jobs: Sequence[Sequence[str]], places: Sequence[int]) -> list[Asked]:
        """The jobs with these words; those at `places` are checked as what they are.

        Raises:
            ConfigurationError: a job's config is wrong; nothing was written.
        """
        seen: dict[str, Any] = {}
        checked, every = set(places), []
        if len(places) > 20:
            self._say(f"checking {len(places)} jobs before the first one starts")
        for place, words in enumerate(jobs):
            config, asked = self.configs.of(words)
            every.append(asked)
            self.trust |= {*to_trust(config)}
            self.gpus_each = max(self.gpus_each, gpus_of(config.trainer))
            if place in checked:
                with only_trusted(config) if self.wanted.folder is not None else contextlib.nullcontext():
                    check_config(config, seen)
        return every

    # ---- which folder

    def _recorded(self, asked: Sequence[Asked], axes: Sequence[str], words: Sequence[str]) -> tuple[Path, Record]:
        """The folder of the sweep, and its record with all jobs that are asked for."""

        def is_same(other: Path) -> bool:
            """Whether the sweep in `other` varies the same settings, and has the others in common with this one."""
            if is_search(other):
                return False
            record = Record.read(other)
            return set(record.axes) == set(axes) and not record.contradictions(asked, axes, self._flat)

        with self._own_folder(asked, JOBS, is_same) as folder:
            record = Record.read(folder) if (folder / JOBS).is_file() else Record.empty(os.getcwd())  # noqa: PTH109
            record = record.with_jobs(asked, axes, words, self.flags, self._flat)
            record.write(folder)
        return folder, record

    def _flat(self, words: Sequence[str]) -> Mapping[str, Any]:
        """All settings of the job with these words."""
        return self.configs.of(words)[1].flat

    @contextlib.contextmanager
    def _own_folder(self, asked: Sequence[Asked], file: Path, is_same: Callable[[Path], bool]) -> Iterator[Path]:
        """A block with the folder of the sweep, into which nobody else writes records meanwhile.

        Args:
            file: what the folders of other sweeps of this kind have.
            is_same: whether the sweep in a folder is one of the same command.
        """
        chosen = Path(str(OmegaConf.select(self.configs.with_hydra(asked[0].words), "hydra.sweep.dir"))).absolute()
        with _one_at_a_time((self.wanted.folder or chosen).parent):
            folder = self.wanted.folder or self._same_command(chosen.parent, file, is_same) or chosen
            there = (folder / JOBS).is_file() or (folder / file).is_file()
            if not there and folder.is_dir() and any(folder.iterdir()):
                raise ConfigurationError(f"hydra.sweep.dir={folder}: holds what is no sweep; choose another folder")
            yield folder

    def _same_command(self, beside: Path, file: Path, is_same: Callable[[Path], bool]) -> Path | None:
        """The newest sweep of the same command in the folder `beside`; None also where the command says where it goes."""
        if self.wanted.new or self.chosen:
            return None
        found = sorted(beside.glob(f"*/{file}"), key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in (path.parent.parent for path in found):
            with contextlib.suppress(VAELightningError):  # a damaged record is not that of the same command
                if is_same(folder):
                    return folder
        return None

    # ---- the jobs

    def _jobs(self, folder: Path, record: Record, jobs: Sequence[Job]) -> int:
        for job in jobs:
            require_own(folder, *places_of(folder / job.folder))
        self.names = short_keys(record.axes)
        before = [status_of(folder, job) for job in jobs]
        todo = [status.job for status in before if status.state not in DONE]
        self._say(f"sweep {short(folder)}: {_counted(before)}")
        gpus = self._gpus()
        at_once = self.launcher.at_once(len(gpus))
        extra = self._threads(at_once)
        self.done = len(jobs) - len(todo)
        self.total = len(jobs)
        tasks = {job.folder: self._task(folder, job, extra) for job in todo}
        by_log = {task.log: job for job, task in zip(todo, tasks.values(), strict=True)}

        def ended(task: Task, code: int) -> None:
            self._ended(folder, by_log[task.log], code)

        signum = self.launcher.run([*tasks.values()], at_once, gpus if at_once > 1 else [], ended)
        after = [status_of(folder, job) for job in jobs]
        return self._shown(folder, record, after, signum)

    def _task(self, folder: Path, job: Job, extra: Sequence[str]) -> Task:
        run = folder / job.folder
        typed = {word.partition("=")[0] for word in job.words}
        more = [word for word in extra if word.partition("=")[0] not in typed]
        words = [*self.flags, *job.words, *more, setting("hydra.run.dir", str(run))]
        script = os.path.abspath(sys.argv[0])  # noqa: PTH100
        claim, begins = functools.partial(due, run), functools.partial(self._begins, job)
        config = functools.partial(self._config, [*job.words, *more])
        return Task(script, tuple(words), environment_of(run, reason_of(run)), log_of(run), claim, begins, config)

    def _config(self, words: Sequence[str]) -> DictConfig:
        return self.configs.of(words)[0]

    def _gpus(self) -> list[str]:
        """What each of the jobs that run at once sees of this machine's GPUs."""
        return gpu_places(_gpus(), self.gpus_each)

    def _threads(self, at_once: int) -> list[str]:
        """Settings by which jobs that run at once share the processor cores; each alone has all of them."""
        on_gpu = torch.cuda.device_count() > 0
        return [] if at_once == 1 or on_gpu else [f"trainer.threads={max(1, cores() // at_once)}"]

    def _begins(self, job: Job) -> None:
        self._say(f"[{self.done + 1}/{self.total}] {labelled(job.settings, self.names)}")

    def _ended(self, folder: Path, job: Job, code: int) -> None:
        """Say how a job ended, and note why if it does not say so itself."""
        run = folder / job.folder
        note_end(run, code)
        status = status_of(folder, job, mine=True)
        self.done += 1
        name = labelled(job.settings, self.names)
        if status.state is State.FINISHED:
            self._say(f"[{self.done}/{self.total}] {name}: {_first(status.metrics)}")
        elif status.reason is not None:
            log = log_of(run) if log_of(run).is_file() else run / "train.log"
            where = f" ({short(log)})" if log.is_file() else ""
            print(f"error: [{self.done}/{self.total}] {name}: {printable(status.reason)}{where}", file=sys.stderr)
        else:
            self._say(f"[{self.done}/{self.total}] {name}: {status.state}")

    # ---- what came out

    def _shown(self, folder: Path, record: Record, after: Sequence[Status], signum: int | None) -> int:
        if signum is None:
            show_table(folder, record)
        trusting = self._trusting()
        states = {status.state for status in after}
        if states - {*DONE, State.RUNNING}:
            self._say(f"{_counted(after)}; go on with")
            self._say(f"  {self._go_on(folder)}")
        elif State.RUNNING in states:
            self._say(f"{_counted(after)}, by another process")
        if State.FINISHED in states:
            self._say(f"evaluate:   {command('evaluate.py', path_setting('sweep', short(folder)), *trusting)}")
        if signum is not None:
            return status_of_signal(signum)
        return WENT_WRONG if states - {*DONE, State.RUNNING} or State.CHANGED in states else 0

    def _go_on(self, folder: Path) -> str:
        """The command that goes on with the sweep in the way of this one."""
        return command("train.py", "-m", path_setting("sweep", short(folder)), *self.launched_by, *self._trusting())

    def _trusting(self) -> list[str]:
        """The word that the next command has to have, if there are packages to be trusted."""
        return [f"trust=[{','.join(sorted(self.trust))}]"] if self.trust else []

    def _say(self, line: str) -> None:
        self.terminal.print(line, soft_wrap=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """A block in which no other command begins a sweep in `folder`, so that two of the same share one."""
    made = [path for path in (folder, *folder.parents) if not path.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".sweeps.lock")
    try:
        with lock:
            yield
    except BaseException:
        if made:
            (folder / ".sweeps.lock").unlink(missing_ok=True)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _counts(jobs: Sequence[Sequence[str]]) -> list[int]:
    """How many values each word has among the jobs, which are a product of them."""
    return [len({words[place] for words in jobs}) for place in range(len(jobs[0]))]


def _counted(found: Sequence[Status]) -> str:
    counts = {state: sum(status.state is state for status in found) for state in State}
    parts = [f"{count} {state}" for state, count in counts.items() if count]
    return f"{len(found)} job{'s' * (len(found) != 1)}, {', '.join(parts)}"


def _first(metrics: Mapping[str, float]) -> str:
    """The metric that a line about a run has room for."""
    key = next((key for key in ("test/elbo", "val/elbo", *metrics) if key in metrics), None)
    return "finished" if key is None else f"{key} {metrics[key]:.2f}"


def _gpus() -> list[str]:
    """The names of the GPUs that jobs may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    named = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(count)]
    return named[:count]
