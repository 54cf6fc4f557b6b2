"""How the jobs of a sweep stand: read from their run folders, so that it is right whoever ran them, and however it ended."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from vae_lightning.arguments import changes
from vae_lightning.errors import one_line
from vae_lightning.machine.reading import JSON, TEXT
from vae_lightning.runs.layout import CONFIG, LAST, METRICS, PREVIOUS
from vae_lightning.runs.yaml_files import read_yaml
from vae_lightning.sweeps.claims import claimed, has_result, numbers_of, read_json
from vae_lightning.sweeps.naming import shown
from vae_lightning.sweeps.record import Job, Record, is_apart, lock_of, reason_of
from vae_lightning.treatment import Treatment

__all__ = ["DONE", "State", "Status", "status_of", "statuses"]


class State(StrEnum):
    """How a job stands."""

    FINISHED = "finished"
    PRUNED = "pruned"
    CHANGED = "changed"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    MISSING = "missing"


DONE = frozenset({State.FINISHED, State.PRUNED, State.CHANGED})
"""The states of jobs of which nothing is left to do; a pruned one was stopped by a search.

A changed one was gone on with by settings that are not the sweep's, so that what came out of it is no result of the sweep.
"""
UNTIL = re.compile(r"until_step_(\d+)(?:_(\d+))?")
"""The folder in a run's `.hydra` with its records as they were at a step; of several at one step, the later ones are numbered."""


@dataclass(frozen=True)
class Status:
    """How a job stands, and what came out of it."""

    job: Job
    state: State
    reason: str | None = None
    """Why there is no result; None where nobody knows."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Final metrics by `split/metric`, nats per image where they are in nats; empty without a result."""
    seconds: float | None = None
    """How long the training took."""
    treatment: Treatment | None = None
    """What the metrics are of; None where the run does not say, as of a classifier or an earlier version, or has no result."""


def statuses(folder: Path, record: Record) -> list[Status]:
    """The status of every job of a sweep."""
    return [status_of(folder, job) for job in record.jobs]


def status_of(folder: Path, job: Job, *, mine: bool = False) -> Status:
    """The status of a job.

    Args:
        folder: the sweep's.
        mine: whether this process has claimed the job, so that nobody else runs it.
    """
    run = folder / job.folder
    content = read_json(run / METRICS, folder, JSON)
    metrics = numbers_of(content)
    lost = content.get("not_finite")
    if has_result(content):
        timing = content.get("timing")
        seconds = timing.get("seconds") if isinstance(timing, dict) else None
        seconds = seconds if isinstance(seconds, int | float) else None
        treatment = Treatment.read(content.get("treatment"))
        if changed := _changed(run, folder):
            return Status(job, State.CHANGED, changed, metrics, seconds, treatment)
        state = State.PRUNED if content.get("pruned") is True else State.FINISHED
        return Status(job, state, None, metrics, seconds, treatment)
    if not mine and _is_held(run):
        return Status(job, State.RUNNING)
    reason = read_json(reason_of(run), folder, TEXT).get("reason")
    if isinstance(reason, str):
        return Status(job, State.FAILED, one_line(reason, 500))
    if isinstance(lost, dict):
        return Status(job, State.FAILED, f"{one_line(str(lost.get('what')), 200)} was not finite")
    begun = any((run / name).is_file() for name in (LAST, PREVIOUS))
    return Status(job, State.INTERRUPTED if begun or content else State.MISSING)


def _changed(run: Path, folder: Path) -> str:
    """What the run was gone on with that it was not begun with; empty if nothing that may change a result, or if nobody knows."""
    before = [(match, path) for path in (run / CONFIG.parent).glob("until_step_*") if (match := UNTIL.fullmatch(path.name))]
    if not before:
        return ""
    _, first = min(before, key=lambda pair: (int(pair[0][1]), int(pair[0][2] or 1)))
    try:
        was, now = (read_yaml(path, folder) for path in (first / CONFIG.name, run / CONFIG))
        differing = {key: pair for key, pair in changes(was, now).items() if not (is_apart(key) or _is_one_path(*pair))}
    except Exception:  # yaml has many kinds of error; what is damaged says so where it is needed
        return ""
    if not differing:
        return ""
    (key, (before_value, value)), *others = differing.items()
    more = f" and {len(others)} more" if others else ""
    return (
        f"went on with {key}={shown(value)}{more}, begun with {shown(before_value)}; its result is no longer the sweep's: "
        "move it elsewhere, and the job runs anew"
    )


def _is_one_path(was: Any, now: Any) -> bool:
    """Whether two values of a setting are one path, which was relative and has been made absolute."""
    texts = isinstance(was, str) and isinstance(now, str)
    return texts and Path(now).is_absolute() and now.endswith(f"/{was.removeprefix('./')}")


def _is_held(run: Path) -> bool:
    if not lock_of(run).is_file():
        return False
    with claimed(run) as free:
        return not free
