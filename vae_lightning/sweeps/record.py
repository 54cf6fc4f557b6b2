"""The record of a sweep: what was asked for, and which jobs that makes.

outputs/<name>/<sweep>/
    .sweep/jobs.json            what was asked for, and the jobs: `Record`
    .sweep/reasons/<job>.json   why the last attempt of a job ended without a result
    .sweep/locks/<job>          locked by whoever runs the job
    .sweep/logs/<job>.log       what the job printed, where it did not go to the terminal
    <job>/                      the run folder of a job
    sweep.csv, sweep.json, sweep.md, sweep.html, figures/       the table: see `sweeps.files`
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vae_lightning.errors import CheckpointError, ConfigurationError, one_line
from vae_lightning.machine.files import write_json
from vae_lightning.machine.reading import JSON, content_within
from vae_lightning.machine.shell import shell_quoted
from vae_lightning.sweeps.naming import folder_name, short_keys, shown

__all__ = ["JOBS", "Asked", "Job", "Record", "identity", "is_apart", "lock_of", "log_of", "places_of", "reason_of"]

JOBS = Path(".sweep", "jobs.json")
FORMAT = 1
"""The format of `jobs.json`, and the only one that this version reads."""
APART = (
    *("run_dir", "ckpt_path", "data.root", "data.static_root", "trainer.enable_progress_bar", "trainer.enable_model_summary"),
    *("trainer.threads", "logger", "callbacks.progress_bar", "callbacks.model_summary"),
)
"""Settings that change no result, and all below them: jobs that differ in them alone are one job, unless they are varied."""


def reason_of(folder: Path) -> Path:
    """The file that says why the last attempt of the job with this run folder ended without a result."""
    return folder.parent / ".sweep" / "reasons" / f"{folder.name}.json"


def lock_of(folder: Path) -> Path:
    """The file that is locked while the job with this run folder runs."""
    return folder.parent / ".sweep" / "locks" / folder.name


def log_of(folder: Path) -> Path:
    """The file with what the job with this run folder printed."""
    return folder.parent / ".sweep" / "logs" / f"{folder.name}.log"


def places_of(folder: Path) -> tuple[Path, ...]:
    """Where a sweep writes for the job with this run folder."""
    return folder, lock_of(folder), log_of(folder), reason_of(folder)


def identity(flat: Mapping[str, Any]) -> str:
    """A digest of a resolved config, by dotted key: of all settings that may change a result.

    >>> identity({"seed": 1, "run_dir": "a"}) == identity({"seed": 1.0, "run_dir": "b"}) != identity({"seed": 2})
    True
    """
    kept = {key: _number(value) for key, value in flat.items() if not is_apart(key)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


def is_apart(key: str) -> bool:
    """Whether the setting `key` changes no result.

    >>> is_apart("logger.tensorboard.save_dir"), is_apart("seed")
    (True, False)
    """
    return any(key == name or key.startswith(f"{name}.") for name in APART)


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else value


@dataclass(frozen=True)
class Asked:
    """A job as a command asks for it."""

    words: tuple[str, ...]
    """The job's settings as words of a command line."""
    flat: Mapping[str, Any]
    """The job's resolved config by dotted key, and beside it the options of groups, by the group's path."""
    digest: str
    """The `identity` of the job's config."""


@dataclass(frozen=True)
class Job:
    """A job of a sweep."""

    folder: str
    """The name of the job's run folder."""
    words: tuple[str, ...]
    """The job's settings as words of a command line."""
    settings: Mapping[str, Any]
    """The values of what differs between jobs, by dotted key."""
    digest: str
    """The `identity` of the job's config."""


FlatOf = Callable[[Sequence[str]], Mapping[str, Any]]
"""Gives all settings of the job with these words, by dotted key."""


@dataclass(frozen=True)
class Record:
    """What a sweep was asked for, and its jobs."""

    words: tuple[str, ...]
    """The settings of the commands that asked for jobs, each as the last one has it, varied ones with the values of all jobs."""
    flags: tuple[str, ...]
    """Words for Hydra itself that every job needs, such as where further configs are."""
    start: str
    """The working directory of the first command, from which relative paths are taken."""
    axes: tuple[str, ...]
    """The keys that differ between jobs."""
    shared: Mapping[str, Any]
    """The settings that all jobs have in common, by dotted key."""
    jobs: tuple[Job, ...]

    @classmethod
    def empty(cls, start: str) -> "Record":
        return cls((), (), start, (), {}, ())

    def with_jobs(
        self,
        asked: Sequence[Asked],
        axes: Sequence[str],
        words: Sequence[str],
        flags: Sequence[str],
        flat_of: FlatOf | None = None,
    ) -> "Record":
        """The record with those of `asked` that it does not have yet.

        Args:
            axes: the keys that differ between the jobs that are asked for.
            flat_of: see `contradictions`.

        Raises:
            ConfigurationError: a setting contradicts what all jobs so far have in common.
        """
        everything = tuple(dict.fromkeys([*self.axes, *axes]))
        names = short_keys(everything)
        if self.jobs:
            self._refuse_contradiction(asked, axes, flat_of)
        known = {job.digest: job.flat for job in asked}
        jobs = [self._completed(job, everything, known.get(job.digest, {})) for job in self.jobs]
        found = _Found(jobs, axes)
        for job in asked:
            if found.of(job) is not None:
                continue
            settings = {key: job.flat[key] for key in everything if key in job.flat}
            name = folder_name(settings, names, [other.folder for other in jobs])
            jobs.append(Job(name, job.words, settings, job.digest))
            found.add(jobs[-1])
        shared = dict(self.shared or asked[0].flat)
        for job in asked:
            shared = {key: value for key, value in shared.items() if key in job.flat and job.flat[key] == value}
        return Record(_union(self.words, words, jobs, everything), tuple(flags), self.start, everything, shared, tuple(jobs))

    def of(self, asked: Sequence[Asked], axes: Sequence[str]) -> list[Job]:
        """The jobs that are asked for, in that order, of those that the record has.

        Args:
            axes: the keys that differ between the jobs that are asked for.
        """
        found = _Found(self.jobs, axes)
        return [job for each in asked if (job := found.of(each)) is not None]

    def _completed(self, job: Job, axes: Sequence[str], flat: Mapping[str, Any]) -> Job:
        """`job` with the value that it has always had of what is varied only now; `flat` is its config if it is asked for again."""
        ours = {key: flat[key] for key in axes if key in flat and not is_apart(key)}
        settings = {**ours, **{key: self.shared[key] for key in axes if key in self.shared}, **job.settings}
        return Job(job.folder, job.words, {key: settings[key] for key in axes if key in settings}, job.digest)

    def contradictions(
        self, asked: Sequence[Asked], axes: Sequence[str], flat_of: FlatOf | None = None
    ) -> dict[str, tuple[Any, Any]]:
        """In what the jobs that are asked for differ from jobs so far, though neither command varies it: both values by key.

        A key that varies with another one, as `data.seed` does with `seed`, is varied, unless a command names it.

        Args:
            flat_of: gives all settings of the job with these words; None: of jobs so far is known what they share.
        """
        if {job.digest for job in asked} <= {job.digest for job in self.jobs}:
            return {}
        varied = {*self.axes, *axes}
        of_all = {key: value for key, value in asked[0].flat.items() if all(job.flat.get(key) == value for job in asked)}
        other = [key for key, value in self.shared.items() if key in of_all and of_all[key] != value]
        found = [key for key in other if not (key in varied or is_apart(key) or any(_belongs(key, axis) for axis in varied))]
        pairs = {key: (self.shared[key], of_all[key]) for key in found}
        pairs |= self._otherwise([key for key in _typed([*self.jobs, *asked], varied) if key not in pairs], asked, flat_of)
        return dict(sorted(pairs.items(), key=lambda pair: (pair[0].count("."), pair[0])))

    def _otherwise(self, typed: Sequence[str], asked: Sequence[Asked], flat_of: FlatOf | None) -> dict[str, tuple[Any, Any]]:
        """Which of the settings that commands name differ between jobs, whatever comes with an option that is varied."""
        before = [self.shared]
        if flat_of is not None and any(key not in self.shared for key in typed):
            before = [flat_of(job.words) for job in self.jobs]
        found: dict[str, tuple[Any, Any]] = {}
        for key, old, job in itertools.product(typed, before, asked):
            if key in old and key in job.flat and old[key] != job.flat[key]:
                found.setdefault(key, (old[key], job.flat[key]))
        return found

    def _refuse_contradiction(self, asked: Sequence[Asked], axes: Sequence[str], flat_of: FlatOf | None) -> None:
        for key, values in self.contradictions(asked, axes, flat_of).items():
            was, now = map(shown, values)
            whose = "all jobs of the sweep have" if key in self.shared else "a job of the sweep has"
            raise ConfigurationError(
                f"{key}={now}: {whose} {key}={was}; vary it, {key}={was},{now}, or start another one: sweep=new"
            )

    # ---- the file

    def write(self, folder: Path) -> None:
        """Write the record into the sweep's folder."""
        write_json(folder / JOBS, {"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """The record in the sweep's folder.

        Raises:
            CheckpointError: there is none, or it is damaged; the message names the file.
        """
        path = folder / JOBS
        try:
            content = json.loads(content_within(path, JSON, folder))
        except FileNotFoundError:
            raise CheckpointError(f"sweep={shell_quoted(str(folder))}: is no folder of a sweep (it has no {JOBS})") from None
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: is damaged ({one_line(error, 120)})") from None
        if isinstance(content, dict) and content.get("format", FORMAT) != FORMAT:
            raise CheckpointError(f"{path}: is of format {content['format']}, and this version of vae_lightning knows {FORMAT}")
        try:
            return _read(content)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: is damaged (it is no record of a sweep: {one_line(error, 120)})") from None


def _typed(jobs: Sequence[Job | Asked], varied: Collection[str]) -> list[str]:
    """The settings that words of jobs name, and that are not varied and may change a result."""
    keys = dict.fromkeys(_key(word) for job in jobs for word in job.words)
    return [key for key in keys if not (key in varied or is_apart(key))]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _union(before: Sequence[str], words: Sequence[str], jobs: Sequence[Job], axes: Sequence[str]) -> tuple[str, ...]:
    """The words `before` and those of a later command, in which a setting that is varied has the values of all jobs."""
    last = _by_key(before) | _by_key(words)
    for key in axes:
        typed = [each[key][-1].partition("=")[2] for each in map(_by_key, (job.words for job in jobs)) if key in each]
        values = dict.fromkeys(typed)
        if len(values) > 1 and key in last:
            *others, word = last[key]
            last[key] = [*others, f"{word.partition('=')[0]}={','.join(values)}"]
    return tuple(word for each in last.values() for word in each)


def _by_key(words: Sequence[str]) -> dict[str, list[str]]:
    """The words of each setting: `+key=...` and `key=...` may both be there."""
    found: dict[str, list[str]] = {}
    for word in words:
        found.setdefault(_key(word), []).append(word)
    return found


class _Found:
    """Jobs by what is asked for: of what changes no result, a job is asked for by the values of what is varied."""

    def __init__(self, jobs: Sequence[Job], axes: Sequence[str]) -> None:
        self.apart = [key for key in axes if is_apart(key)]
        self.jobs: dict[str, list[Job]] = {}
        for job in jobs:
            self.add(job)

    def add(self, job: Job) -> None:
        self.jobs.setdefault(job.digest, []).append(job)

    def of(self, asked: Asked) -> Job | None:
        wanted = [_number(asked.flat.get(key)) for key in self.apart]
        same = (job for job in self.jobs.get(asked.digest, []) if [_number(job.settings.get(key)) for key in self.apart] == wanted)
        return next(same, None)


def _belongs(key: str, axis: str) -> bool:
    """Whether the setting `key` comes with the option of a group that is varied: `model._target_` with `model`."""
    group = axis.replace("/", ".")
    return key.startswith(f"{group}.") or axis in ("experiment", "recipe")


def _read(content: Any) -> Record:
    jobs = tuple(_job(job) for job in content["jobs"])
    texts = {name: _texts(content[name]) for name in ("words", "flags", "axes")}
    return Record(texts["words"], texts["flags"], _text(content["start"]), texts["axes"], _mapping(content["shared"]), jobs)


def _job(content: Any) -> Job:
    return Job(_folder(content["folder"]), _texts(content["words"]), _mapping(content["settings"]), _text(content["digest"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return tuple(map(_text, value))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no mapping")
    return value


def _folder(value: Any) -> str:
    name = _text(value)
    if Path(name).name != name or name in ("", ".", "..") or name.startswith("."):
        raise ValueError(f"{name!r} is no name of a folder")
    return name
