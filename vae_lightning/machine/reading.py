"""Read a file that somebody else may have made: only a regular file, no more of it than such a file holds, and none elsewhere.

A run folder or a data folder may have been unpacked from an archive of a stranger's. A pipe in it would keep a reader waiting for
ever, a device or a sparse file would fill the memory, and a link would show what lies elsewhere on this machine.
"""

import os
import stat
from pathlib import Path

__all__ = ["JSON", "TEXT", "UnfitFile", "content_within", "memory", "require_inside", "require_memory"]

TEXT = 4 << 20
"""The most bytes of a config or of a command: those of a run are some kilobytes."""
JSON = 64 << 20
"""The most bytes of a record or report: one with every part of an evaluation is some hundred kilobytes."""


class UnfitFile(ValueError):
    """A file is not read because of what it is, where it lies, or how large it is; the message continues the file's name.

    >>> f"report.json: {UnfitFile('is larger than 64 MB, as no such file is')}"
    'report.json: is larger than 64 MB, as no such file is'
    """


def content_within(path: Path, most: int, folder: Path | None = None) -> bytes:
    """The bytes of a regular file of at most `most` bytes.

    Args:
        folder: what `path` must lie in when all links are followed; None: a file anywhere.

    Raises:
        OSError: there is no such file, or it may not be read.
        UnfitFile: it is no regular file, larger, or lies elsewhere.
        ValueError: the path is none, as it holds a null byte.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     _ = Path(name, "a.json").write_text("[1, 2]")
    ...     content_within(Path(name, "a.json"), most=6)
    b'[1, 2]'
    """
    if folder is not None:
        require_inside(path, folder)
    # before it is opened, as whoever opens a pipe waits for someone to write into it
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise UnfitFile("is no file but a pipe, a socket or a device")
    with path.open("rb") as file:
        kind = os.fstat(file.fileno())
        # by its size and not by what is allowed, as so much memory is asked for
        content = file.read(kind.st_size + 1) if kind.st_size <= most else b""
    if kind.st_size > most or len(content) > most:
        raise UnfitFile(f"is larger than {_size(most)}, as no such file is")
    return content


def require_inside(path: Path, folder: Path) -> None:
    """Refuse a file of `folder` that is a link out of it, or lies behind such a link.

    Raises:
        UnfitFile: it does.
    """
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise UnfitFile(f"is a link that leads out of its folder, to {real}")


def memory() -> int | None:
    """The bytes of this machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def require_memory(needed: int) -> None:
    """Refuse what takes more than all memory, before any of it is asked for.

    Raises:
        UnfitFile: it does.
    """
    there = memory()
    if there is not None and needed > there:
        raise UnfitFile(f"takes {_size(needed)}, and this machine has {_size(there)} of memory")


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
