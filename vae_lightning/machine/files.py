"""Write files that are whole or not there, whenever the writing stops."""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vae_lightning.errors import StorageError, VAELightningError, one_line

__all__ = ["at_home", "finite", "is_there", "remove_unfinished", "replacing", "write_bytes", "write_json"]

_unfinished: set[Path] = set()
"""Files that this process is writing."""


def at_home(path: str) -> Path:
    """`path` with its ~ replaced, if there is a user of that name; if not, a folder may be called so.

    >>> at_home("~no_such_user/data").as_posix()
    '~no_such_user/data'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; not, if the name is longer than a system takes, on which Python would raise an error.

    >>> is_there(Path("a" * 1000))
    False
    """
    try:
        return path.exists()
    except OSError:
        return False


def finite(content: Any) -> Any:
    """`content`, plain values, with None in the place of NaN and the infinities, for which JSON has no number.

    >>> finite({"elbo": float("nan"), "kl": [1.0, float("inf")]})
    {'elbo': None, 'kl': [1.0, None]}
    """
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@contextmanager
def replacing(path: Path, *, durable: bool = False, previous: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write a file to, which takes the place of `path` at once when the block ends.

    After a block that fails, the file is as it was before. Several processes may replace a file at once; each replaces all of it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "new", "labels.txt")) as unfinished:
    ...         _ = unfinished.write_text("0 1 2")
    ...     Path(folder, "new", "labels.txt").read_text()
    '0 1 2'

    Args:
        path: the file; the folders above it are made if need be.
        durable: whether the content must be on the disk, and not only on its way there, before the old file goes.
        previous: where the old file goes, in place of what is there; None: nowhere.

    Raises:
        StorageError: the disk is full, or the folder may not be written to; the file that was there is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    _unfinished.add(unfinished)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if durable:
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
        if previous is not None and path.is_file():
            os.replace(path, previous)
        os.replace(unfinished, path)
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, VAELightningError):
            of_it = error.strerror and error.filename in (None, unfinished, str(unfinished))
            raise StorageError(f"{path}: could not be written ({error.strerror if of_it else one_line(error)})") from error
        raise
    finally:
        _unfinished.discard(unfinished)


def remove_unfinished() -> None:
    """Remove the files that this process is writing, as the last thing that it does."""
    for path in list(_unfinished):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write `content` into `path`, whole or not at all: see `replacing`."""
    with replacing(path, durable=durable) as unfinished:
        unfinished.write_bytes(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content`, plain values, into `path` as JSON, whole or not at all; null stands for what is not `finite`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_json(Path(folder, "metrics.json"), {"elbo": float("nan")})
    ...     json.loads(Path(folder, "metrics.json").read_text())
    {'elbo': None}
    """
    write_bytes(path, (json.dumps(finite(content), indent=2, allow_nan=False) + "\n").encode())
