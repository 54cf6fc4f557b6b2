"""Files that are whole or not there."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_lightning.errors import StorageError

__all__ = ["finite", "write_bytes"]


def finite(content: Any) -> Any:
    """Plain content with null in the place of what JSON has no number for: NaN and the infinities.

    >>> finite({"elbo": float("nan"), "kl": [1.0, float("inf")]})
    {'elbo': None, 'kl': [1.0, None]}
    """
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


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
