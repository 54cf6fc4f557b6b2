"""Larochelle's static binarization of MNIST: 50,000 / 10,000 / 10,000 images, binarized once and for all, without labels.

The files are around in two containers, the original text (`0 1 0 ...` a line) and MATLAB's (key `X`); what is verified is
the SHA-256 of the pixels, so both count. "The neural autoregressive distribution estimator", Larochelle and Murray, 2011,
http://proceedings.mlr.press/v15/larochelle11a.html.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from vae_lightning.data import sources
from vae_lightning.data.downloading import downloaded
from vae_lightning.data.fetching import ARCHIVE_ERRORS
from vae_lightning.data.idx import Bytes
from vae_lightning.data.matlab import MAGIC, matrix
from vae_lightning.data.root import (
    STATIC_FOLDER,
    content_of,
    data_folder,
    locked_folder,
    refuse_foreign,
)
from vae_lightning.data.sources import Verified
from vae_lightning.errors import DataError, one_line
from vae_lightning.machine.archives import arrays_in
from vae_lightning.machine.files import replacing, write_bytes

__all__ = ["FOLDER", "load", "recover_labels"]

PIXELS_SHA256 = {
    "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
    "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
    "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
}
"""SHA-256 of the pixels as bytes 0 and 1, image after image, by split."""
LABELS_SHA256 = {
    "train": "8412fa05f88a60e55c9f434182cbcd829e0a2918a576632cfa5002deb43aeea6",
    "valid": "ad502ca809c8f0e332f8d621550df6592eb5ca9a0d007e8fe8c1d2dec6d2cfcf",
    "test": "f7cd9d3a7438833ddaff2865a3ef3497a9479b8a1fc1e2dc2db0faf6648419c2",
}
"""SHA-256 of the labels, as bytes 0 to 9, that `recover_labels` finds for these images, by split."""
MOST = 512 << 20
"""The most bytes of a file: 50,000 images of 784 double numbers are 314 million."""
MOST_LABELS = 1 << 20
MIRROR = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
FOLDER = STATIC_FOLDER
LABELS = "labels.npz"


def load(root: str | Path, static_root: str | Path | None, *, fetch: bool = True) -> Verified:
    """Images uint8 0 or 255 `(N, 1, 28, 28)` and labels int64 `(N,)` of "train", "valid" and "test", and the MD5 of their files.

    Files are looked for in `static_root`, else in `root`/binarized_mnist, where they are fetched to if missing. Labels are
    recovered once, from the grey MNIST in `root`, and kept in `root`/binarized_mnist; as a function of the images they are not
    among the checksums.

    Args:
        fetch: whether what is missing may be fetched, and labels kept; if not, nothing is written at all.

    Raises:
        DataError: a file is missing and cannot be fetched, or its pixels are not Larochelle's.
    """
    beside_mnist = data_folder(root) / FOLDER
    folder = data_folder(static_root, "static_root") if static_root else beside_mnist
    images, checksums = {}, {}
    for split in PIXELS_SHA256:
        images[split], checksums[_name(split)] = _images(folder, split, fetch=fetch and not static_root)
    kept = (_kept_labels(place) for place in dict.fromkeys((folder, beside_mnist)))
    labels = next((labels for labels in kept if labels), None) or _recovered(beside_mnist, root, images, fetch=fetch)
    return Verified({split: (images[split] * 255, labels[split]) for split in images}, dict(sorted(checksums.items())))


def _name(split: str) -> str:
    return f"binarized_mnist_{split}.amat"


# ---- images


def _images(folder: Path, split: str, *, fetch: bool) -> tuple[Tensor, str]:
    """Pixels 0 or 1 `(N, 1, 28, 28)`, and the MD5 of the file they were read from."""
    path = folder / _name(split)
    content = content_of(path, MOST)
    pixels = None if content is None else _verified(content, split)
    if pixels is None:
        if not fetch:
            state = "missing" if content is None else "altered (its pixels' SHA-256 is not the known one)"
            raise DataError(f"{path} is {state}; name a folder that holds Larochelle's three files: static_root=<folder>")
        refuse_foreign(folder.parent)
        with locked_folder(folder):
            content = content_of(path, MOST)  # another run may have fetched it while this one waited
            pixels = None if content is None else _verified(content, split)
            if pixels is None:
                content, pixels = _fetch(path, split)
    assert content is not None
    return torch.from_numpy(pixels).reshape(-1, 1, 28, 28), hashlib.md5(content).hexdigest()


def _verified(content: bytes, split: str) -> Bytes | None:
    """The pixels in the content of a file, or None where they are not the known ones."""
    if content.startswith(MAGIC):
        try:
            pixels = np.ascontiguousarray(matrix(content, "X", MOST), dtype=np.uint8)
        except ValueError:
            return None
    else:
        symbols = np.frombuffer(content, dtype=np.uint8)
        pixels = symbols[(symbols == ord("0")) | (symbols == ord("1"))] - ord("0")
    if hashlib.sha256(pixels.tobytes()).hexdigest() != PIXELS_SHA256[split]:
        return None
    return pixels


def _fetch(path: Path, split: str) -> tuple[bytes, Bytes]:
    url = MIRROR + path.name
    try:
        print(f"fetching {url}", file=sys.stderr)
        content = downloaded(url, MOST)
        pixels = _verified(content, split)
        if pixels is None:
            raise DataError(f"{url} does not hold Larochelle's pixels (SHA-256 differs)")
        write_bytes(path, content)
    except ARCHIVE_ERRORS as error:
        raise DataError(
            f"{path} is missing or altered and could not be fetched ({one_line(error)}). Name a folder with "
            f"{', '.join(_name(s) for s in PIXELS_SHA256)}: static_root=<folder>; binarization=dynamic needs none of them"
        ) from error
    return content, pixels


# ---- labels


def _kept_labels(folder: Path) -> dict[str, Tensor] | None:
    """The labels in a file of this project, if they are those of Larochelle's images; None, and a line, if they are not."""
    content = content_of(folder / LABELS, MOST_LABELS)
    if content is None:
        return None
    try:
        labels = arrays_in(content, LABELS_SHA256, MOST_LABELS)
    except Exception:  # numpy and zipfile raise many kinds for a damaged file, and all mean the same here
        labels = {}
    known = {split: hashlib.sha256(array.tobytes()).hexdigest() for split, array in labels.items() if array.dtype == np.uint8}
    if known != LABELS_SHA256:
        print(f"{folder / LABELS}: does not hold the labels of these images, and is not used", file=sys.stderr)
        return None
    return {split: torch.from_numpy(array.astype(np.int64)) for split, array in labels.items()}


def _recovered(own: Path, root: str | Path, images: Mapping[str, Tensor], *, fetch: bool) -> dict[str, Tensor]:
    """Labels from the grey MNIST in `root`, kept in `own` where that is possible and wanted."""
    grey = sources.read("mnist", root, fetch=fetch).splits
    print("recovering the labels of the static images from the grey ones", file=sys.stderr)
    labels = {split: recover_labels(part, *grey["test" if split == "test" else "train"]) for split, part in images.items()}
    if fetch:
        try:
            small = {split: label.numpy().astype(np.uint8) for split, label in labels.items()}
            with locked_folder(own), replacing(own / LABELS) as unfinished, unfinished.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **small)
        except OSError as error:
            print(f"labels of the static binarization will be recovered again next time: {one_line(error)}", file=sys.stderr)
    return labels


RAREST_WHITE, RAREST_BLACK = 48, 8
"""Pixels that are looked at first, for all grey images: these leave some thirty of 60,000, as timed on the real files."""


def recover_labels(binary: Tensor, grey: Tensor, grey_labels: Tensor) -> Tensor:
    r"""The label of the grey image that each binary one was most probably drawn from.

    $\arg\max_j \sum_i x_i \log p_{ji} + (1 - x_i) \log(1 - p_{ji})$ over all grey images j: binary uint8 0 or 1
    `(N, 1, 28, 28)`, grey uint8 `(M, 1, 28, 28)` with labels `(M,)`, to int64 `(N,)`.

    A grey image that is black (white) where the binary one is white (black) has probability 0, which sets of grey images as
    packed bits say for all of them at once. The sum is taken for those that are left, so the maximum is exact.

    Raises:
        DataError: a binary image can have been drawn from none of the grey ones.
    """
    x, pixels = binary.flatten(1).numpy(), grey.flatten(1).numpy()
    by_place = np.ascontiguousarray(pixels.T)
    # of each place, the grey images that may be drawn black there, and then those that may be drawn white
    sets = np.concatenate([_packed(by_place < 255), _packed(by_place > 0)])
    rarely_white, rarely_black = np.argsort((by_place > 0).sum(1)), np.argsort((by_place < 255).sum(1))
    with np.errstate(divide="ignore"):
        log_p = np.stack([np.log1p(-np.arange(256) / 255), np.log(np.arange(256) / 255)])
    sources_of = np.empty(len(x), np.intp)
    for n in track(range(len(x)), description="recovering labels, once", transient=True):
        row = x[n].astype(np.intp)
        white, black = rarely_white[row[rarely_white] == 1][:RAREST_WHITE], rarely_black[row[rarely_black] == 0][:RAREST_BLACK]
        # 64 grey images a word: first the words that few places leave, then in these the images that all places leave
        words = np.bitwise_and.reduce(sets[np.concatenate([white + len(row), black])], axis=0).nonzero()[0]
        left = np.bitwise_and.reduce(sets[(row * len(row) + np.arange(len(row)))[:, None], words], axis=0)
        candidates = (64 * words[:, None] + np.arange(64))[np.unpackbits(left.view(np.uint8)).view(bool).reshape(-1, 64)]
        if not len(candidates):
            raise DataError(f"image {n} of the static binarization was drawn from none of MNIST's images")
        sources_of[n] = candidates[log_p[row, pixels[candidates]].sum(1).argmax()]
    return grey_labels[torch.from_numpy(sources_of)]


def _packed(members: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Rows of booleans `(R, M)` as bits of words `(R, W)`, the last of them filled up with zeros."""
    packed = np.packbits(members, axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
