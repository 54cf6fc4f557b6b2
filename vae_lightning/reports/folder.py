"""The folder of an evaluation: one writer at a time, and one report of all evaluations of the same weights.

<run>/evaluation/
    report.json, report.md, report.html, figures/    of the weights that were evaluated last
    earlier/<weights>/                               these files of other weights; they come back when those are evaluated again
"""

import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError, one_line
from vae_lightning.machine.files import finite, write_json
from vae_lightning.machine.formats import too_new
from vae_lightning.machine.reading import JSON, content_within
from vae_lightning.reports.merging import is_report, merged
from vae_lightning.reports.stamp import stamp_of

__all__ = ["ReportFolder", "owned", "report_of", "require_room"]

log = logging.getLogger(__name__)

LOCK = ".lock"
EARLIER = "earlier"
LARGEST_PICTURE = 64 << 20
"""The most bytes of a figure: an animation has some millions."""
OURS = ("report.json", "report.md", "report.html", "figures")


def require_room(path: Path) -> None:
    """Refuse a folder with files that are none of an evaluation's, among which a report would be lost, or taken for one of them.

    Raises:
        ConfigurationError: names one of them.
    """
    if not path.is_dir() or (path / "report.json").is_file():
        return
    names: list[str] = []
    with suppress(OSError):  # what cannot be read cannot be written to either, which says so
        names = sorted(entry.name for entry in path.iterdir())
    others = [name for name in names if name not in (*OURS, EARLIER) and not name.startswith(".")]
    if others:
        some = one_line(others[0], 80)
        raise ConfigurationError(
            f"to={path}: holds other files ({some}); give a new or an empty folder, or that of an earlier evaluation"
        )


@contextmanager
def owned(path: Path, weights: Mapping[str, Any]) -> Iterator["ReportFolder"]:
    """The folder `path`, which is made if need be and locked, for an evaluation of `weights`.

    Args:
        weights: file, SHA-256 and optimizer step of the weights, as `report.json` holds them.

    A link in it is refused: a folder from somebody else does not say where on this machine files are written, moved or shown.

    Raises:
        ConfigurationError: another evaluation is writing into the folder.
        CheckpointError: the folder holds a report of a later version.
        StorageError: the folder cannot be written to, or leads elsewhere by a link.
    """
    _refuse_links(path / LOCK, path / "figures", path / EARLIER)
    lock = FileLock(path / LOCK, timeout=0)
    try:
        (path / "figures").mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"{path}: another evaluation is writing there; wait until it has ended, or write elsewhere: to=<folder>"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise _not_writable(path, error) from error
    try:
        _require_known_format(path / "report.json")
        _try_to_write(path, path / "figures")
        yield ReportFolder(path, weights)
    finally:
        lock.release()
        _leave_nothing_empty(path)


class ReportFolder:
    """The folder that one evaluation writes into; `owned` gives it.

    >>> ReportFolder(Path("evaluation"), {"sha256": "ab"}).figures.as_posix()
    'evaluation/figures'
    """

    def __init__(self, path: Path, weights: Mapping[str, Any]) -> None:
        self.path, self.weights = path, weights
        self._before: dict[str, Any] | None = None

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    def write(self, now: Mapping[str, Any], warnings: Callable[[Mapping[str, Any]], list[str]]) -> dict[str, Any]:
        """Write `report.json` and give its content: `now`, merged with earlier reports of the same weights, and its `warnings`."""
        both = merged(self.before, now)
        stamp = stamp_of(both)
        verification = {} if stamp is None else {"verification": stamp.plain}
        report = finite({**both, **verification, "weights": self.weights, "warnings": warnings(both)})
        write_json(self.path / "report.json", report)
        assert isinstance(report, dict)
        return report

    @property
    def before(self) -> dict[str, Any]:
        """The earlier report of the same weights; a report of other or unknown weights is first moved to `earlier/`."""
        if self._before is None:
            self._before = self._prepared()
        return self._before

    # ---- inside

    def _prepared(self) -> dict[str, Any]:
        if any((self.path / name).exists() for name in OURS[:-1]):
            content, trouble = _read(self.path / "report.json")
            if trouble is None and _same(content["weights"], self.weights):
                return self._with_its_figures(content)
            self._put_aside(trouble or f"is of other weights ({_described(content['weights'])})", content.get("weights", {}))
        kept = self.path / EARLIER / _name(self.weights)
        _refuse_links(kept, kept / "figures")
        content, trouble = _read(kept / "report.json")
        if trouble is not None or not _same(content["weights"], self.weights):
            return {}
        _move(kept, self.path)
        log.warning("%s: is of these weights, so it is back in %s", kept, self.path)
        return self._with_its_figures(content)

    def _with_its_figures(self, content: dict[str, Any]) -> dict[str, Any]:
        files = {name: self.path / figure["file"] for name, figure in content.get("figures", {}).items()}
        there = [name for name, file in files.items() if _is_picture(file)]
        return {**content, "figures": {name: content["figures"][name] for name in there}}

    def _put_aside(self, reason: str, weights: Mapping[str, Any]) -> None:
        kept = self.path / EARLIER / _name(weights)
        number = 2
        while kept.exists():
            kept, number = kept.with_name(f"{_name(weights)}_{number}"), number + 1
        _move(self.path, kept)
        (self.path / "figures").mkdir(exist_ok=True)
        log.warning("%s: %s; it is kept, with its figures, in %s", self.path / "report.json", reason, kept)


def report_of(path: Path, sha256: str) -> dict[str, Any]:
    """The report in the folder `path` of an evaluation, with the figures that are there; empty if it is not of these weights.

    Args:
        sha256: SHA-256 of the weights.
    """
    content, trouble = _read(path / "report.json")
    if trouble is not None or content["weights"].get("sha256") != sha256 or path.is_symlink() or (path / "figures").is_symlink():
        return {}
    return ReportFolder(path, content["weights"])._with_its_figures(content)


def _is_picture(file: Path) -> bool:
    """Whether a page may hold the content of `file`, which may be somebody else's."""
    return not file.is_symlink() and file.is_file() and file.stat().st_size <= LARGEST_PICTURE


def _read(path: Path) -> tuple[dict[str, Any], str | None]:
    """The report in `path` and None; or an empty report and the reason why `path` holds none."""
    try:
        content = json.loads(content_within(path, JSON, path.parent))
    except FileNotFoundError:
        return {}, "is missing"
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"cannot be read ({one_line(error, 120)})"
    if not is_report(content):
        known = isinstance(content, dict) and "checkpoint" in content and bool({"test", "train", "splits"} & set(content))
        known = known and not isinstance(content.get("weights"), dict)
        return {}, "does not say of which weights it is" if known else "is not a report of this project"
    return content, None


def _require_known_format(path: Path) -> None:
    """Refuse, before anything is computed, to merge into a report that a later version of this project has written."""
    content: object = None
    with suppress(OSError, ValueError, RecursionError):  # an unreadable report is moved aside when the first one is written
        content = json.loads(content_within(path, JSON, path.parent))
    reason = too_new(content)
    if reason is not None:
        raise CheckpointError(f"{path}: {reason}, or write the evaluation elsewhere: to=<folder>")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("sha256") == other.get("sha256")


def _described(weights: Mapping[str, Any]) -> str:
    step, file = weights.get("step"), one_line(str(weights.get("file")), 100)
    return f"{file}, optimizer step {step:,}" if isinstance(step, int) else file


def _name(weights: Mapping[str, Any]) -> str:
    """A folder's name for `weights`: their optimizer step, and the beginning of their digest, which tells weights apart."""
    step, digest = weights.get("step"), str(weights.get("sha256"))
    known = isinstance(step, int) and 0 <= step < 1 << 63 and digest.isalnum() and len(digest) >= 8
    return f"step_{step}_{digest[:8]}" if known else "unknown"


def _move(source: Path, target: Path) -> None:
    """Move one file after the other, the report last: if moving stops, each file is whole in one of the two folders."""
    figures = sorted((source / "figures").iterdir()) if (source / "figures").is_dir() else []
    try:
        (target / "figures").mkdir(parents=True, exist_ok=True)
        for path in [*figures, *(source / name for name in reversed(OURS[:-1]))]:
            if path.exists():
                os.replace(path, target / path.relative_to(source))
        for folder in (source / "figures", source):
            with suppress(OSError):  # the folder holds other files
                folder.rmdir()
    except OSError as error:
        raise StorageError(f"{source}: could not be moved to {target} ({error})") from error


def _refuse_links(*places: Path) -> None:
    for place in places:
        if place.is_symlink():
            raise StorageError(f"{place}: is a link, which is not written through; remove it, or write elsewhere: to=<folder>")


def _not_writable(path: Path, error: Exception) -> StorageError:
    reason = getattr(error, "strerror", None) or one_line(error)
    return StorageError(f"{path}: cannot be written to ({reason}); write the evaluation elsewhere: to=<folder>")


def _try_to_write(*folders: Path) -> None:
    """Fail now, and not after hours of computing, if the folders cannot be written to."""
    for folder in folders:
        probe = folder / f".{secrets.token_hex(8)}.probe"
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise _not_writable(folder, error) from error


def _leave_nothing_empty(path: Path) -> None:
    """Remove the folder of an evaluation that has written nothing, with its lock file."""
    with suppress(OSError):
        (path / "figures").rmdir()
    if path.is_dir() and {entry.name for entry in path.iterdir()} <= {LOCK}:
        with suppress(OSError):
            (path / LOCK).unlink(missing_ok=True)
            path.rmdir()
