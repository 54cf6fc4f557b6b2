"""Larochelle's static binarization of MNIST: 50,000 / 10,000 / 10,000 images, binarized once and for all, without labels.

The files are around in two containers, the original text (`0 1 0 ...` a line) and MATLAB's (key `X`); what is verified is
the SHA-256 of the pixels, so both count. "The neural autoregressive distribution estimator", Larochelle and Murray, 2011,
http://proceedings.mlr.press/v15/larochelle11a.html.
"""

import hashlib
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import scipy.io
import torch
from rich.progress import track
from torch import Tensor

from vae_lightning.data import sources
from vae_lightning.errors import DataError

__all__ = ["COUNTS", "load", "recover_labels"]

COUNTS = {"train": 50_000, "valid": 10_000, "test": 10_000}
PIXELS_SHA256 = {
    "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
    "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
    "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
}
"""Of the pixels as bytes 0 and 1, image after image."""
MIRROR = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
FOLDER = "binarized_mnist"


def load(root: str | Path, static_root: str | Path | None) -> dict[str, tuple[Tensor, Tensor]]:
    """Images uint8 0 or 255 `(N, 1, 28, 28)` and labels int64 `(N,)` of "train", "valid" and "test".

    Files are looked for in `static_root`, else in `root`/binarized_mnist, where they are fetched to if missing. Labels are
    recovered once, from the grey MNIST in `root`, and kept in `root`/binarized_mnist.

    Raises:
        DataError: a file is missing and cannot be fetched, or its pixels are not Larochelle's.
    """
    own = Path(root).expanduser() / FOLDER
    folder = Path(static_root).expanduser() if static_root else own
    images = {split: _images(folder, split, fetch=not static_root) for split in COUNTS}
    labels = _labels(own, root, images)
    return {split: (images[split] * 255, labels[split]) for split in COUNTS}


def _name(split: str) -> str:
    return f"binarized_mnist_{split}.amat"


def _images(folder: Path, split: str, *, fetch: bool) -> Tensor:
    path = folder / _name(split)
    pixels = _verified(path, split) if path.is_file() else None
    if pixels is None:
        if not fetch:
            state = "altered (its pixels' SHA-256 is not the known one)" if path.is_file() else "missing"
            raise DataError(f"{path} is {state}; data.static_root must hold Larochelle's three files, or be left out to fetch them")
        with sources.locked_folder(folder):
            pixels = _verified(path, split) if path.is_file() else None
            if pixels is None:
                pixels = _fetch(path, split)
    return torch.from_numpy(pixels).reshape(-1, 1, 28, 28)


def _verified(path: Path, split: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None":
    """The pixels of a file, or None where they are not the known ones."""
    content = path.read_bytes()
    if content.startswith(b"MATLAB 5.0"):
        try:
            pixels = np.ascontiguousarray(scipy.io.loadmat(path)["X"], dtype=np.uint8)
        except Exception:  # scipy raises many kinds for a damaged file, and all mean the same here
            return None
    else:
        symbols = np.frombuffer(content, dtype=np.uint8)
        pixels = symbols[(symbols == ord("0")) | (symbols == ord("1"))] - ord("0")
    if hashlib.sha256(pixels.tobytes()).hexdigest() != PIXELS_SHA256[split]:
        return None
    return pixels


def _fetch(path: Path, split: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    from torchvision.datasets.utils import download_url

    url = MIRROR + path.name
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as scratch:
            print(f"fetching {url}", file=sys.stderr)
            with sources.network_timeout():
                download_url(url, scratch, path.name)
            pixels = _verified(Path(scratch) / path.name, split)
            if pixels is None:
                raise DataError(f"{url} does not hold Larochelle's pixels (SHA-256 differs)")
            sources.replace_file(Path(scratch) / path.name, path)
    except (urllib.error.URLError, RuntimeError, OSError) as error:
        raise DataError(
            f"{path} is missing or altered and could not be fetched ({error}). Set data.static_root to a folder with "
            f"{', '.join(_name(s) for s in COUNTS)}, or use data.binarization=dynamic"
        ) from error
    return pixels


def _labels(own: Path, root: str | Path, images: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = own / "labels.npz"
    if kept.is_file():
        stored = np.load(kept)
        if all(split in stored and len(stored[split]) == count for split, count in COUNTS.items()):
            return {split: torch.from_numpy(stored[split].astype(np.int64)) for split in COUNTS}
    grey = {split: sources.load("mnist", root, split) for split in ("train", "test")}
    labels = {split: recover_labels(images[split], *grey["test" if split == "test" else "train"]) for split in COUNTS}
    try:
        with sources.locked_folder(own), tempfile.TemporaryDirectory(dir=own, prefix=".fetch-") as scratch:
            finished = Path(scratch) / kept.name
            small = {split: label.numpy().astype(np.uint8) for split, label in labels.items()}
            np.savez_compressed(finished, allow_pickle=False, **small)
            sources.replace_file(finished, kept)
    except DataError as error:
        print(f"labels of the static binarization will be recovered again next time: {error}", file=sys.stderr)
    return labels


def recover_labels(binary: Tensor, grey: Tensor, grey_labels: Tensor, block: int = 1000) -> Tensor:
    r"""The label of the grey image that each binary one was most probably drawn from.

    $\arg\max_j \sum_i x_i \log p_{ji} + (1 - x_i) \log(1 - p_{ji})$ over all grey images j: binary uint8 0 or 1
    `(N, 1, 28, 28)`, grey uint8 `(M, 1, 28, 28)` with labels `(M,)`, to int64 `(N,)`.
    """
    # a binary image cannot come from a grey one that is black (white) where it is white (black): 12 nats a pixel say so
    p = (grey.flatten(1).float() / 255).clamp(6e-6, 1 - 6e-6)
    logits, offset = p.logit().T.contiguous(), torch.log1p(-p).sum(1)
    found = [
        torch.addmm(offset, part.flatten(1).float(), logits).argmax(1)
        for part in track(torch.split(binary, block), description="recovering labels, once", transient=True)
    ]
    return grey_labels[torch.cat(found)]
