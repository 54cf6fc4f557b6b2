"""The study of a search: its trials in Optuna's own journal, `optuna.journal` in the sweep's folder.

Optuna's own tools read it:

    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend("optuna.journal")))

A trial is `RUNNING` from when it was asked for until its runs are through, whatever becomes of the process that asked for it. Who
works on a trial holds its lock, which the system releases when the process dies; so a trial that is `RUNNING` and locked by nobody
is one to go on with.

Optuna is imported where a search needs it; it is an extra of this project.
"""

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from vae_lightning.errors import CheckpointError, ConfigurationError, one_line
from vae_lightning.sweeps.claims import claimed, require_own
from vae_lightning.sweeps.search import JOURNAL, SEARCH, Search, SearchSettings

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

__all__ = ["REASON", "Reporter", "Trials", "require_optuna", "sampler_of"]

log = logging.getLogger(__name__)

ANEW = "move it elsewhere, and the same command makes it anew from the run folders"
"""The way out of a journal that is of no use."""
LOCK = Path(".sweep", "search.lock")
"""The file, in the folder of a sweep, that is locked by who asks for trials."""
OLDEST = 4
"""The oldest version of Optuna that has what is needed."""
FOLDERS, REASON, ATTEMPTS = "runs", "reason", "attempts"
"""Attributes of a trial: the names of its run folders; why it failed; how often a process of its runs was killed."""


def require_optuna() -> None:
    """Refuse to search without Optuna, in a line that says how to install it."""
    if find_spec("optuna") is None:
        raise ConfigurationError("hydra/sweeper=optuna: needs Optuna: pip install 'vae_lightning[optuna]'")
    import optuna

    if int(optuna.__version__.split(".")[0]) < OLDEST:
        raise ConfigurationError(
            f"hydra/sweeper=optuna: needs Optuna {OLDEST} or newer, and {optuna.__version__} is installed: "
            "pip install --upgrade 'vae_lightning[optuna]'"
        )


def _storage(folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise CheckpointError(f"{folder / JOURNAL}: is damaged ({one_line(error, 120)}); {ANEW}") from None


def _study(folder: Path, search: Search, sampler: "BaseSampler") -> tuple["Study", Any]:
    """The study in a sweep's folder, made if there is none, and its storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, pruner = _storage(folder), _pruner(search.settings)
    try:
        if optuna.get_all_study_names(storage):  # the one that there is, whatever its folder was called then
            study = optuna.load_study(study_name=None, storage=storage, sampler=sampler, pruner=pruner)
            _require_own_study(folder, search, study)
            return study, storage
        if (folder / JOURNAL).is_file() and (folder / JOURNAL).stat().st_size:
            raise ValueError("it has lost where it begins")
    except (ValueError, KeyError, TypeError, AssertionError) as error:  # several studies, or what Optuna does not know
        raise CheckpointError(f"{folder / JOURNAL}: does not hold one study ({one_line(error, 120)}); {ANEW}") from None
    study = optuna.create_study(
        storage=storage,
        study_name=folder.name,
        direction="maximize" if search.mode == "max" else "minimize",
        sampler=sampler,
        pruner=pruner,
    )
    return study, storage


def _require_own_study(folder: Path, search: Search, study: "Study") -> None:
    """Refuse a study of another search: one that judges the other way round, or whose trials vary something else."""
    found, wanted = study.direction.name.lower(), f"{search.mode}imize"
    if found != wanted:
        raise CheckpointError(f"{folder / JOURNAL}: its study is to {found}, and the search to {wanted}; {ANEW}")
    others = sorted({key for trial in study.get_trials(deepcopy=False) for key in trial.params} - set(search.space))
    if others:
        raise CheckpointError(f"{folder / JOURNAL}: its trials vary {', '.join(others)}, and the search does not; {ANEW}")


def sampler_of(settings: SearchSettings, number: int) -> "BaseSampler":
    """What draws the values of the trial with this number.

    Each trial has a sampler with a seed of its own, so that a search that goes on draws what one would that was never stopped, and
    not what it began with.
    """
    from optuna import samplers

    own = random.Random(f"{settings.seed} {number}").getrandbits(31)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls some arguments experimental for years
        if settings.sampler == "tpe":
            return samplers.TPESampler(seed=own, constant_liar=True)  # trials that run keep others away
        if settings.sampler == "random":
            return samplers.RandomSampler(seed=own)
        choices = samplers.RandomSampler(seed=own)  # draws what has no order, which a sequence cannot
        return samplers.QMCSampler(seed=settings.seed, scramble=True, independent_sampler=choices, warn_independent_sampling=False)


def _pruner(settings: SearchSettings) -> Any:
    from optuna import pruners

    if settings.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_validations)
    if settings.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=settings.warmup_validations, reduction_factor=settings.reduction_factor)
    return pruners.NopPruner()


class Trials:
    """The trials of a search, which several commands may work on at once.

    Args:
        folder: of the sweep.
        search: what it tries.
    """

    def __init__(self, folder: Path, search: Search) -> None:
        self.folder, self.search = folder, search
        require_own(folder, folder / JOURNAL, folder / SEARCH, folder / LOCK, folder / LOCK.with_name("locks"))
        self.since = datetime.now()  # without a time zone, as Optuna's own
        with self.alone():
            _mend(folder / JOURNAL)
            self.study, self.storage = _study(folder, search, sampler_of(search.settings, 0))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which no other command asks for trials, or writes the record of the sweep."""
        path = self.folder / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    @contextlib.contextmanager
    def claimed(self, count: int) -> Iterator[list["Trial"]]:
        """A block in which up to `count` trials are this process's: those that nobody goes on with, then new ones.

        None are left if as many are there, or are being run, as the search was asked for.
        """
        from optuna.trial import Trial, TrialState

        with contextlib.ExitStack() as held:
            claimed_trials: list[Trial] = []
            with self.alone():
                there = self.study.get_trials(deepcopy=False)
                for number in (trial.number for trial in there if trial.state == TrialState.RUNNING):
                    if len(claimed_trials) < count and held.enter_context(claimed(self._place(number))):
                        claimed_trials.append(_trial(self.study, self.storage, number))
                known = len(there)
                left = self.search.settings.n_trials - self.asked_for()
                while len(claimed_trials) < count and left > 0:
                    self.study.sampler = sampler_of(self.search.settings, known)
                    trial = self.study.ask()
                    held.enter_context(claimed(self._place(trial.number)))
                    claimed_trials.append(trial)
                    known, left = known + 1, left - 1
            yield claimed_trials

    def _place(self, number: int) -> Path:
        """What stands for a trial among what `status.claimed` locks, where run folders are called `key=value`."""
        return self.folder / f"trial-{number}"

    def drawing(self, trial: "Trial") -> "Trial":
        """`trial` with the sampler that draws its values, which it has to have before any other trial is drawn."""
        self.study.sampler = sampler_of(self.search.settings, trial.number)
        return trial

    def _counts(self, trial: Any) -> bool:
        """Whether a trial is one of those asked for; one that failed is so for the command that it failed under alone."""
        from optuna.trial import TrialState

        if trial.state == TrialState.FAIL:
            return bool(trial.datetime_complete is not None and trial.datetime_complete >= self.since)
        return bool(trial.state != TrialState.WAITING)

    def asked_for(self) -> int:
        """How many of the trials that were asked for there are, those that failed under earlier commands left out."""
        return sum(map(self._counts, self.study.get_trials(deepcopy=False)))

    # ---- what came out

    def complete(self, trial: "Trial", value: float) -> None:
        """Note the value of a trial."""
        self.study.tell(trial.number, value, skip_if_finished=True)

    def prune(self, trial: "Trial") -> None:
        """Note that a trial was stopped; its value is the last one that it reported."""
        from optuna.trial import TrialState

        self.study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, trial: "Trial", reason: str) -> None:
        """Note that a trial failed, and why."""
        from optuna.trial import TrialState

        trial.set_user_attr(REASON, reason)
        self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def name(self, trial: "Trial", folders: Sequence[str]) -> None:
        """Note the run folders of a trial."""
        if trial.user_attrs.get(FOLDERS) != [*folders]:
            trial.set_user_attr(FOLDERS, [*folders])

    def attempts(self, trial: "Trial") -> int:
        """How often a process of the runs of a trial was killed, this time included."""
        count = int(trial.user_attrs.get(ATTEMPTS, 0)) + 1
        trial.set_user_attr(ATTEMPTS, count)
        return count

    def best(self) -> Any | None:
        """The best trial that came to its end; None if there is none."""
        try:
            return self.study.best_trial
        except ValueError:
            return None

    def counting(self) -> list[str]:
        """The run folders whose values count: those of the trials that came to their end."""
        from optuna.trial import TrialState

        there = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return [*dict.fromkeys(name for trial in there for name in trial.user_attrs.get(FOLDERS) or [])]

    def counted(self) -> dict[str, int]:
        """How many trials there are of each state, in words."""
        counts: dict[str, int] = {}
        for trial in self.study.get_trials(deepcopy=False):
            counts[trial.state.name.lower()] = counts.get(trial.state.name.lower(), 0) + 1
        return counts

    def failed_now(self) -> bool:
        """Whether a trial has failed since this command began."""
        from optuna.trial import TrialState

        return any(trial.state == TrialState.FAIL and self._counts(trial) for trial in self.study.get_trials(deepcopy=False))


class Reporter:
    """What the run of a trial says to the search: the metric after each validation.

    Args:
        folder: of the sweep.
        number: of the trial.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self._opened: tuple[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}  # each process reads the journal for itself

    def __call__(self, step: int, value: float) -> bool:
        """Report the metric; whether the trial is hopeless.

        Args:
            step: how many validations there were, which makes values of different trials comparable.
        """
        from optuna.samplers import RandomSampler

        if self._opened is None:
            study, storage = _study(self.folder, Search.read(self.folder), RandomSampler())  # which draws nothing
            self._opened = study, _trial(study, storage, self.number)
        study, trial = self._opened
        if step not in study.get_trials(deepcopy=False)[self.number].intermediate_values:
            trial.report(value, step)
        return bool(trial.should_prune())


def _trial(study: "Study", storage: Any, number: int) -> "Trial":
    """The trial with this number, to go on with."""
    from optuna.trial import Trial

    of_study = storage.get_study_id_from_name(study.study_name)
    return Trial(study, storage.get_trial_id_from_study_id_trial_number(of_study, number))


def _mend(journal: Path) -> None:
    """Cut off the end of a journal if it is no whole line, as a full disk leaves it: Optuna could read nothing after it."""
    if not journal.is_file():
        return
    with journal.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        kept = file.read().rfind(b"\n") + 1
        if kept < size:
            file.truncate(kept)
            log.warning("%s: ended within a line, which is cut off; what it said of trials is read from their runs again", journal)
