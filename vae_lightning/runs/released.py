"""Models that come with a release: `run=pretrained:<name>`.

    <place>/<name>/config.json, model.safetensors, README.md, metrics.json    as `make weights` leaves them in weights/
    <place>/SHA256SUMS, <name>.config.json, <name>.model.safetensors, ...     as the assets of a release, which have no folders

The place is `VAE_LIGHTNING_WEIGHTS`, a folder or an address, or else `weights/` in the working directory. Files from an address are
compared with SHA256SUMS, kept in the user's cache, and fetched once.
"""

import hashlib
import http.client
import os
import re
from pathlib import Path

from vae_lightning.data.downloading import downloaded
from vae_lightning.errors import CheckpointError, DataError, StorageError, one_line
from vae_lightning.machine.files import at_home, write_bytes
from vae_lightning.machine.pretrained import CONFIG, WEIGHTS, is_pretrained
from vae_lightning.runs.layout import METRICS

__all__ = ["PREFIX", "SUMS", "released"]

PREFIX = "pretrained:"
PLACE = "VAE_LIGHTNING_WEIGHTS"
"""An environment variable with the folder or the address of the models."""
SUMS = "SHA256SUMS"
"""The file of an address with a line `<SHA-256>  <file>` for each file."""
FILES = (CONFIG, WEIGHTS, "README.md", str(METRICS))
"""The files of a model; the last ones may be missing."""
MOST = 64 << 20
"""The most bytes of a file: a released model has less than three million."""


def released(run: str) -> Path:
    """The folder of the model that `run` names, `pretrained:<name>`; fetched if it is not on this machine.

    Raises:
        CheckpointError: there is no such model, its place cannot be reached, or a file is not what SHA256SUMS says.
    """
    name, place = run.removeprefix(PREFIX), os.environ.get(PLACE) or "weights"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise CheckpointError(f"run={run}: must be {PREFIX}<name>{_listed(_names(place))}")
    if re.match(r"https?://", place):
        return _fetched(name, place.rstrip("/"), run)
    folder = at_home(place) / name
    if is_pretrained(folder):
        return folder
    names = _names(place)
    way_out = "" if names else f"; `make weights` trains and writes them, or {PLACE}=<folder or address> says where they are"
    raise CheckpointError(f"run={run}: there is no such model in {place}{_listed(names)}{way_out}")


def _names(place: str) -> list[str]:
    folder = at_home(place)
    return sorted(path.name for path in folder.iterdir() if is_pretrained(path)) if folder.is_dir() else []


def _listed(names: list[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _fetched(name: str, address: str, run: str) -> Path:
    """The copy of a model of `address` in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or at_home("~/.cache"), "vae_lightning", "weights")
    folder = cache / hashlib.sha256(address.encode()).hexdigest()[:16] / name
    if is_pretrained(folder):
        return folder
    try:
        sums = dict(line.split("  ", 1)[::-1] for line in downloaded(f"{address}/{SUMS}", MOST).decode().splitlines())
        wanted = [file for file in FILES if f"{name}.{file}" in sums]
        if WEIGHTS not in wanted or CONFIG not in wanted:
            names = sorted(key.removesuffix(f".{WEIGHTS}") for key in sums if key.endswith(f".{WEIGHTS}"))
            raise CheckpointError(f"run={run}: there is no such model at {address}{_listed(names)}")
        for file in sorted(wanted, key=lambda file: file == WEIGHTS):  # the weights last, whose presence says that all are there
            content = downloaded(f"{address}/{name}.{file}", MOST)
            if hashlib.sha256(content).hexdigest() != sums[f"{name}.{file}"]:
                raise CheckpointError(f"{address}/{name}.{file}: is not the released file (its SHA-256 is not that in {SUMS})")
            write_bytes(folder / file, content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, StorageError):
            raise
        if isinstance(error, DataError):
            raise CheckpointError(f"run={run}: {error}") from error
        raise CheckpointError(
            f"run={run}: {address} cannot be reached ({one_line(error, 120)}); {PLACE} says where it is"
        ) from error
    return folder
