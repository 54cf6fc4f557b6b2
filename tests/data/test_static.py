"""Larochelle's static binarization: only the known pixels, in either container, with the right labels."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from vae_lightning.data import sources, static
from vae_lightning.data.binarization import binarize
from vae_lightning.errors import DataError
from vae_lightning.noise import generator


@pytest.mark.parametrize("container", ["matlab", "text"])
def test_either_container_is_read_and_altered_pixels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (5, 784), dtype=np.uint8)
    monkeypatch.setitem(static.PIXELS_SHA256, "valid", hashlib.sha256(pixels.tobytes()).hexdigest())
    path = tmp_path / "binarized_mnist_valid.amat"

    def write(values: np.ndarray) -> None:
        if container == "matlab":
            with path.open("wb") as file:
                scipy.io.savemat(file, {"X": values})
        else:
            np.savetxt(path, values, fmt="%d")

    write(pixels)
    assert np.array_equal(static._images(tmp_path, "valid", fetch=False).flatten(1).numpy(), pixels)
    write(1 - pixels)
    with pytest.raises(DataError, match=r"binarized_mnist_valid\.amat.*altered"):
        static._images(tmp_path, "valid", fetch=False)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"binarized_mnist_train\.amat is missing; data\.static_root"):
        static.load(tmp_path, tmp_path)


def test_labels_are_recovered_from_the_grey_images(mnist_root: Path) -> None:
    grey, labels = (part[:3000] for part in sources.load("mnist", mnist_root, "test"))
    binary = binarize(grey, "dynamic", generator(0)) // 255
    found = static.recover_labels(binary[::3], grey, labels)
    assert (found == labels[::3]).double().mean() > 0.999


def test_splits_are_loaded_with_their_labels(static_root: Path, mnist_root: Path) -> None:
    found = static.load(static_root, None)
    images, labels = found["valid"]
    assert images.shape == (100, 1, 28, 28)
    assert images.unique().tolist() == [0, 255]
    assert torch.equal(labels, sources.load("mnist", mnist_root, "train")[1][50_000:50_100])
    assert {split: len(part[0]) for split, part in found.items()} == {"train": 200, "valid": 100, "test": 100}


@pytest.mark.skipif(
    "VAE_LIGHTNING_STATIC_DATA" not in os.environ, reason="VAE_LIGHTNING_STATIC_DATA names no folder with its files"
)
def test_real_test_split_has_the_known_classes(mnist_root: Path) -> None:
    binary = static._images(Path(os.environ["VAE_LIGHTNING_STATIC_DATA"]), "test", fetch=False)
    labels = static.recover_labels(binary, *sources.load("mnist", mnist_root, "test"))
    counts = labels.bincount(minlength=10)
    assert (counts - torch.tensor([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])).abs().max() <= 2
