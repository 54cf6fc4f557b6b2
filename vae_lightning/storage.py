"""Files that are whole or not there."""

import os
from pathlib import Path

from vae_lightning.errors import StorageError

__all__ = ["write_bytes"]


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content`, whole or not at all: beside the file that is there, and then in its place.

    Raises:
        StorageError: the disk is full, or the folder may not be written to; the previous file is as it was.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    except OSError as error:
        raise StorageError(f"{path}: could not be written ({error})") from error
