"""Read the raw files of MNIST and its relatives once, digest the bytes, and parse the bytes that were digested.

The files are looked for in `root`, in torchvision's layout, unpacked or packed (`*.gz`), and fetched only if they are missing or
damaged. Fetched files are verified before they are put in place, and put in place whole: a run never sees half a file, and of two
runs that start at once one fetches while the other waits.
"""

import hashlib
import json
import re
import shutil
import sys
import tempfile
import warnings
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lightning.data import idx
from vae_lightning.data.fetching import ARCHIVE_ERRORS, archive_md5, fetchers
from vae_lightning.data.root import (
    DATASETS,
    FILES,
    MOST,
    NAMES,
    content_of,
    data_folder,
    locked_folder,
    refuse_foreign,
    replace_file,
)
from vae_lightning.errors import DataError, StorageError, one_line
from vae_lightning.machine.archives import gunzip
from vae_lightning.machine.files import write_json
from vae_lightning.machine.reading import UnfitFile
from vae_lightning.types import MNIST_SHAPE

__all__ = ["DATASETS", "FILES", "Verified", "load", "raw_folder", "read"]

COUNTS = {"train": 60_000, "test": 10_000}
"""The number of images in each split of every data set of `DATASETS`."""
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CHECKSUMS = "checksums.json"
"""A file beside raw files whose MD5 is not published, with the MD5 that they had as they came out of a verified archive."""


class Verified(NamedTuple):
    """Images and labels, and the digests of the files that they were read from.

    >>> Verified({}, {"train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb"}).checksums["train-images-idx3-ubyte"]
    '6bbc9ace898e44ae57da46a324031adb'
    """

    splits: dict[str, tuple[Tensor, Tensor]]
    """Images uint8 `(N, 1, 28, 28)` and labels int64 `(N,)` by split."""
    checksums: dict[str, str]
    """MD5 by file name."""


class Unusable(DataError):
    """A file is missing or damaged, which fetching it anew mends."""


def load(dataset: str, root: str | Path, split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 `(N, 1, 28, 28)` and labels int64 `(N,)` of "train" or "test", fetched first if need be.

    Raises:
        DataError: a file is missing or altered and could not be fetched.
    """
    return read(dataset, root).splits[split]


def raw_folder(dataset: str, root: str | Path) -> Path:
    """The folder with the four raw files, each intact; fetches what is missing or altered."""
    read(dataset, root)
    return data_folder(root) / DATASETS[dataset] / "raw"


def read(dataset: str, root: str | Path, *, fetch: bool = True) -> Verified:
    """Both splits of `dataset`, "train" and "test".

    Args:
        root: the folder that holds the data set's own, `MNIST`.
        fetch: whether a file that is missing or damaged is fetched to `root`; if not, nothing is written at all.

    Raises:
        DataError: a file is missing or altered and could not be fetched, or is one of another data set.
    """
    folder = data_folder(root)
    raw = folder / DATASETS[dataset] / "raw"
    try:
        return _verified(dataset, raw, keep=fetch)
    except Unusable as problem:
        if not fetch:
            raise DataError(f"{problem}; give root=<folder with {DATASETS[dataset]}/raw>, as nothing is fetched here") from None
    refuse_foreign(folder)
    with locked_folder(raw):
        try:
            return _verified(dataset, raw)  # another run may have fetched them while this one waited
        except Unusable as problem:
            return _fetched(dataset, raw, str(problem))


# ---- verifying


def _verified(dataset: str, raw: Path, *, keep: bool = True) -> Verified:
    """The content of `raw`, if the files are those of this data set; with `keep`, a damaged record of digests is written anew."""
    recorded = _recorded(raw)
    known = MNIST_MD5 if dataset == "mnist" else recorded or {}
    contents = {name: _content(dataset, raw, name, known.get(name)) for name in NAMES}
    checksums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    if dataset != "mnist":
        _refuse_other_sets(dataset, raw, checksums)
    splits = {split: _parsed(raw, split, contents) for split in FILES}
    if dataset != "mnist" and recorded is not None and set(recorded) < set(NAMES):
        _record_anew(raw, checksums, keep=keep)
    return Verified(splits, dict(sorted(checksums.items())))


def _content(dataset: str, raw: Path, name: str, md5: str | None) -> bytes:
    """The bytes of a raw file, or of its unpacked archive; their MD5 must be `md5` if that is known."""
    path, archive = raw / name, raw / f"{name}.gz"
    content = content_of(path, MOST)
    if content is None:
        path, content = archive, _unpacked(dataset, archive)
        if content is None:
            raise Unusable(f"{raw / name} is missing")
    elif md5 is None:
        with suppress(Unusable):  # a published archive vouches for the file that comes out of it
            unpacked = _unpacked(dataset, archive)
            md5 = None if unpacked is None else hashlib.md5(unpacked).hexdigest()
    if md5 is not None and hashlib.md5(content).hexdigest() != md5:
        with suppress(Unusable):
            unpacked = _unpacked(dataset, archive)
            if unpacked is not None and hashlib.md5(unpacked).hexdigest() == md5:
                return unpacked
        raise Unusable(f"{path} is truncated or altered (its MD5 is not {md5})")
    return content


def _unpacked(dataset: str, archive: Path) -> bytes | None:
    """The content of an archive, None if there is none; where raw files have no published MD5, the archive's must be right."""
    packed = content_of(archive, MOST)
    if packed is None:
        return None
    if dataset != "mnist":
        digest = hashlib.md5(packed).hexdigest()
        _refuse_other_sets(dataset, archive.parent, {archive.name: digest})
        published = archive_md5(dataset)[archive.name]
        if digest != published:
            raise Unusable(f"{archive} is truncated or altered (its MD5 is not {published})")
    try:
        return gunzip(packed, MOST)
    except (OSError, EOFError, zlib.error, UnfitFile) as error:
        raise Unusable(f"{archive} is truncated or damaged ({one_line(error)})") from error


def _parsed(raw: Path, split: str, contents: Mapping[str, bytes]) -> tuple[Tensor, Tensor]:
    """Images `(N, 1, 28, 28)` and labels `(N,)` of one split, after a check of their shapes and numbers."""
    images, labels = (_array(raw / name, contents[name]) for name in FILES[split])
    for name, array, form in zip(FILES[split], (images, labels), (MNIST_SHAPE[1:], ()), strict=True):
        if array.shape[1:] != form or array.ndim != 1 + len(form):
            wanted = "(N, 28, 28)" if form else "(N,)"
            raise DataError(f"{raw / name}: holds an array of shape {array.shape}, not {wanted}; remove it to have it fetched")
        if len(array) != COUNTS[split]:
            other = ", ".join(f"{len(x)} in {n}" for n, x in zip(FILES[split], (images, labels), strict=True) if n != name)
            raise DataError(
                f"{raw / name}: holds {len(array)} entries ({other}), and the {split} split has {COUNTS[split]}; remove it to have "
                "it fetched"
            )
    if labels.max() > 9:
        raise DataError(f"{raw / FILES[split][1]}: labels from {labels.min()} to {labels.max()}, not from 0 to 9")
    with warnings.catch_warnings():
        # the tensor keeps the file's bytes as they are, which nothing else refers to, instead of 47 MB more
        warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")
        shared = torch.from_numpy(images)
    return shared.unsqueeze(1), torch.tensor(labels, dtype=torch.int64)


def _array(path: Path, content: bytes) -> idx.Bytes:
    try:
        return idx.parse(content)
    except ValueError as error:
        raise Unusable(f"{path} {error}") from error


def _refuse_other_sets(dataset: str, raw: Path, checksums: Mapping[str, str]) -> None:
    """Refuse files whose MD5 is that of another data set, as published or as recorded beside that data set's files."""
    for other, name in DATASETS.items():
        if other == dataset:
            continue
        known = MNIST_MD5 if other == "mnist" else _recorded(raw.parent.parent / name / "raw") or {}
        foreign = {*known.values(), *archive_md5(other).values()}
        for file, digest in checksums.items():
            if digest in foreign:
                raise DataError(
                    f"{raw / file}: is {name}'s, not {DATASETS[dataset]}'s (by its MD5); move it to {name}/raw, and set "
                    f"data={other} if that is what is wanted"
                )


# ---- what is kept about files without published digests


def _recorded(raw: Path) -> dict[str, str] | None:
    """MD5 by file name from the record in `raw`, as far as it can be read; None if there is no record."""
    content = content_of(raw / CHECKSUMS, 1 << 20)
    if content is None:
        return None
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    items = record.items() if isinstance(record, dict) else ()
    return {name: md5 for name, md5 in items if name in NAMES and isinstance(md5, str) and re.fullmatch("[0-9a-f]{32}", md5)}


def _record_anew(raw: Path, checksums: Mapping[str, str], *, keep: bool) -> None:
    """Print that the record was damaged, and write a whole one if that is possible."""
    state = f"{raw / CHECKSUMS}: does not hold the MD5 of all four files"
    try:
        if keep:
            _write_record(raw, checksums)
            state += "; made anew from the files as they are"
    except StorageError as error:
        state += f", and cannot be made anew ({one_line(error)})"
    print(state, file=sys.stderr)


def _write_record(folder: Path, checksums: Mapping[str, str]) -> None:
    write_json(folder / CHECKSUMS, checksums)


# ---- fetching


def _fetched(dataset: str, raw: Path, problem: str) -> Verified:
    """The data set from the first source that has it intact, put into `raw`."""
    failures: list[str] = []
    for left in raw.glob(".fetch-*"):  # by a process that was killed, as whoever fetches holds the lock
        shutil.rmtree(left, ignore_errors=True)
    for source, fetch in fetchers(dataset):
        if failures:
            print(f"{failures[-1]}; trying {source}", file=sys.stderr)
        try:
            with tempfile.TemporaryDirectory(dir=raw, prefix=".fetch-") as scratch:
                fetch(Path(scratch))
                verified = _verified_download(dataset, Path(scratch))
                _put_in_place(Path(scratch), raw)
            return verified
        except ARCHIVE_ERRORS as error:
            failures.append(f"{source}: {one_line(error)}")
    name = DATASETS[dataset]
    raise DataError(
        f"{problem}, and it could not be fetched ({'; '.join(failures)}). Put {name}'s four raw files into {raw}, or give a "
        f"folder that has {name}/raw: root=<folder>"
    )


def _verified_download(dataset: str, scratch: Path) -> Verified:
    try:
        verified = _verified(dataset, scratch)
    except DataError as problem:
        raise DataError(str(problem).replace(f"{scratch}/", "the fetched ")) from None
    if dataset != "mnist":
        _write_record(scratch, verified.checksums)
    return verified


def _put_in_place(scratch: Path, raw: Path) -> None:
    """Move the files to `raw`; a whole file with other content is a user's own, and is kept under another name."""
    for name in (CHECKSUMS, *NAMES):
        if not (scratch / name).is_file():
            continue
        before = content_of(raw / name, MOST)
        if name in NAMES and before is not None and _is_whole(before) and before != (scratch / name).read_bytes():
            replace_file(raw / name, raw / f"{name}.replaced")
            print(f"{raw / name}: replaced by the published file, and kept as {name}.replaced", file=sys.stderr)
        replace_file(scratch / name, raw / name)


def _is_whole(content: bytes) -> bool:
    try:
        return idx.parse(content).size > 0
    except ValueError:
        return False
