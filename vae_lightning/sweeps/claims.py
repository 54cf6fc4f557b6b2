"""Who runs a job of a sweep, and why an attempt ended: a lock and a note a job, beside the run folders.

The processes of a launcher import this module before anything of a training, so it imports neither torch nor Lightning.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from signal import Signals
from typing import Any

from filelock import FileLock, Timeout

from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.machine.files import write_json
from vae_lightning.machine.reading import JSON, content_within, require_inside
from vae_lightning.sweeps.record import lock_of, reason_of

__all__ = [
    "claimed",
    "descriptor_of_claim",
    "due",
    "has_result",
    "is_finished",
    "note_end",
    "note_reason",
    "numbers_of",
    "read_json",
    "require_own",
    "was_stopped",
]

METRICS = Path("metrics.json")
"""`runs.layout.METRICS`, whose room imports torch."""


def require_own(folder: Path, *paths: Path) -> None:
    """Refuse links out of a sweep's folder: somebody else's sweep does not say where files are written here.

    Raises:
        CheckpointError: one of `paths` is such a link, or lies behind one.
    """
    for path in paths:
        try:
            require_inside(path, folder)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None


@contextlib.contextmanager
def claimed(run: Path) -> Iterator[bool]:
    """A block in which nobody else runs the job with this run folder; False if somebody does.

    The system releases the claim of a process that dies.
    """
    with descriptor_of_claim(run) as descriptor:
        yield descriptor is not None


@contextlib.contextmanager
def descriptor_of_claim(run: Path, patience: float = 0.0) -> Iterator[int | None]:
    """A block in which nobody else runs the job with this run folder, with the file that holds the claim; None if one does.

    A process that inherits the file keeps the claim for as long as it lives.

    Args:
        patience: seconds for which somebody else's claim is waited for.
    """
    path = lock_of(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience, poll_interval=0.2)
    except Timeout:
        yield None
        return
    except NotImplementedError as error:
        raise ConfigurationError(f"{path}: this file system has no locks, which the jobs of a sweep need") from error
    try:
        yield lock._context.lock_file_fd  # which filelock tells nobody otherwise
    finally:
        lock.release()


def is_finished(run: Path) -> bool:
    """Whether the job with this run folder has a result."""
    return has_result(read_json(run / METRICS, run.parent, JSON))


@contextlib.contextmanager
def due(run: Path, is_done: Callable[[Path], bool] = is_finished) -> Iterator[list[int]]:
    """A block in which nobody else runs the job with this run folder, with the file that holds the claim.

    None is given if somebody else does, or if there is nothing left of the job to do.
    """
    with descriptor_of_claim(run) as descriptor:
        if descriptor is None or is_done(run):
            yield []
        else:
            reason_of(run).unlink(missing_ok=True)
            yield [descriptor]


def has_result(content: Mapping[str, Any]) -> bool:
    """Whether `content`, that of a run's metrics.json, is a result: finite, of a training that came to its end."""
    lost = isinstance(content.get("not_finite"), dict)
    return bool(numbers_of(content)) and not content.get("interrupted") and not lost


def numbers_of(content: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in `content`, that of a run's metrics.json, which are finite numbers.

    >>> numbers_of({"metrics": {"test/elbo": -80, "test/kl": None, "test/loss": "eighty"}})
    {'test/elbo': -80.0}
    """
    metrics = content.get("metrics")
    pairs = metrics.items() if isinstance(metrics, dict) else ()
    return {key: float(value) for key, value in pairs if type(value) in (int, float) and math.isfinite(value)}


def note_reason(run: Path, reason: str) -> None:
    """Note why an attempt of the job with this run folder ended without a result."""
    write_json(reason_of(run), {"reason": reason})


def note_end(run: Path, code: int) -> None:
    """Note why a command ended, if it had no result and did not say why itself.

    Args:
        run: the run folder of the job that the command is.
        code: its exit status; negative: the signal that killed it.
    """
    if not (is_finished(run) or reason_of(run).is_file() or was_stopped(code)):
        note_reason(run, _reason(code))


def was_stopped(code: int) -> bool:
    """Whether `code` is the exit status of a training that a signal asked to end, and that can go on.

    >>> was_stopped(143), was_stopped(-9), was_stopped(2)
    (True, False, False)
    """
    return code > 128 and code - 128 in set(Signals)


def read_json(path: Path, folder: Path, most: int) -> dict[str, Any]:
    """The content of a JSON file within `folder`, of at most `most` bytes; empty if there is none that can be read."""
    try:
        content = json.loads(content_within(path, most, folder))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _reason(code: int) -> str:
    if code < 0:
        name = Signals(-code).name if -code in set(Signals) else f"signal {-code}"
        hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}"
    return f"its process ended with status {code} and no word"
