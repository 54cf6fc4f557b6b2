"""Larochelle's static binarization: only the known pixels, in either container, with the right labels."""

import errno
import hashlib
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import scipy.io
import torch

from vae_lightning.data import larochelle, sources
from vae_lightning.data.binarization import binarize
from vae_lightning.errors import DataError
from vae_lightning.noise import generator


@pytest.mark.parametrize("container", ["matlab", "text"])
def test_either_container_is_read_and_altered_pixels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 2, (5, 784), dtype=np.uint8)
    monkeypatch.setitem(larochelle.PIXELS_SHA256, "valid", hashlib.sha256(pixels.tobytes()).hexdigest())
    path = tmp_path / "binarized_mnist_valid.amat"

    def write(values: np.ndarray) -> None:
        if container == "matlab":
            with path.open("wb") as file:
                scipy.io.savemat(file, {"X": values})
        else:
            np.savetxt(path, values, fmt="%d")

    write(pixels)
    images, md5 = larochelle._images(tmp_path, "valid", fetch=False)
    assert np.array_equal(images.flatten(1).numpy(), pixels)
    assert md5 == hashlib.md5(path.read_bytes()).hexdigest()
    write(1 - pixels)
    with pytest.raises(DataError, match=r"binarized_mnist_valid\.amat.*altered"):
        larochelle._images(tmp_path, "valid", fetch=False)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"binarized_mnist_train\.amat is missing; .*: static_root=<folder>"):
        larochelle.load(tmp_path, tmp_path)


def most_probable(binary: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """The place of the grey image that makes each binary one most probable, out of all of them."""
    x, p = binary.flatten(1).double(), (grey.flatten(1).double() / 255).clamp(1e-300, 1 - 1e-16)
    return (x @ p.log().mT + (1 - x) @ torch.log1p(-p).mT).argmax(1)


def test_labels_are_those_of_the_most_probable_grey_images(mnist_root: Path) -> None:
    grey, labels = (part[:2000] for part in sources.load("mnist", mnist_root, "test"))
    binary = binarize(grey, "dynamic", generator(0))[::4] // 255
    # labels that tell all images apart
    found = larochelle.recover_labels(binary, grey, torch.arange(2000))
    assert torch.equal(found, most_probable(binary, grey))
    assert (found == torch.arange(2000)[::4]).double().mean() > 0.98
    assert (labels[found] == labels[::4]).double().mean() > 0.999


def test_images_of_few_pixels_of_a_kind_have_labels_too() -> None:
    grey = torch.zeros(70, 1, 28, 28, dtype=torch.uint8)  # more than a word of bits
    grey[66:], grey[67, 0, 3, 4], grey[68, 0, 5, 6] = 255, 254, 1
    binary = grey[66:69] // 255
    binary = torch.cat([torch.zeros_like(binary[:1]), torch.ones_like(binary[:1]), binary[1:]])
    assert larochelle.recover_labels(binary, grey, torch.arange(70)).tolist() == [0, 66, 67, 68]


def test_an_image_that_comes_from_none_is_refused() -> None:
    grey = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    binary = grey.clone()
    binary[1, 0, 14, 14] = 1
    with pytest.raises(DataError, match="image 1 of the static binarization was drawn from none"):
        larochelle.recover_labels(binary, grey, torch.arange(3))


def test_splits_are_loaded_with_their_labels(static_root: Path, mnist_root: Path) -> None:
    splits, checksums = larochelle.load(static_root, None)
    images, labels = splits["valid"]
    assert images.shape == (100, 1, 28, 28)
    assert images.unique().tolist() == [0, 255]
    assert torch.equal(labels, sources.load("mnist", mnist_root, "train")[1][50_000:50_100])
    assert {split: len(part[0]) for split, part in splits.items()} == {"train": 200, "valid": 100, "test": 100}
    files = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in (static_root / larochelle.FOLDER).glob("*.amat")}
    assert len(files) == 3
    assert checksums == files


def test_labels_that_were_kept_are_read_without_grey_images(static_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = larochelle.load(static_root, None).splits
    assert (static_root / larochelle.FOLDER / "labels.npz").is_file()
    (static_root / "MNIST").unlink()
    capsys.readouterr()
    elsewhere = static_root.parent / "elsewhere"
    for root, folder in ((static_root, None), (elsewhere, static_root / larochelle.FOLDER)):
        after = larochelle.load(root, folder, fetch=False).splits
        assert all(torch.equal(after[split][1], before[split][1]) for split in before)
    assert not elsewhere.exists()
    assert not capsys.readouterr().err


def test_labels_that_cannot_be_kept_are_used_all_the_same(
    static_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(larochelle, "replacing", full)
    assert len(larochelle.load(static_root, None).splits["valid"][1]) == 100
    assert not (static_root / larochelle.FOLDER / "labels.npz").exists()
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("labels of the static binarization will be recovered again next time: ")
    assert "No space left on device" in line


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, np.ndarray]]:
    """A file of labels, and the labels in it."""
    labels = {split: np.arange(7, dtype=np.uint8) + start for start, split in enumerate(larochelle.PIXELS_SHA256)}
    digests = {split: hashlib.sha256(part.tobytes()).hexdigest() for split, part in labels.items()}
    monkeypatch.setattr(larochelle, "LABELS_SHA256", digests)
    np.savez_compressed(tmp_path / "labels.npz", **labels)
    return tmp_path / "labels.npz", labels


@pytest.mark.parametrize("damage", ["text", "empty", "counts", "type", "range", "others", "names", "pickle", "cut"])
def test_labels_that_are_not_those_of_the_images_are_said_and_not_used(
    kept: tuple[Path, dict[str, np.ndarray]], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, right = kept
    found = larochelle._kept_labels(path.parent)
    assert found is not None
    assert found["test"].tolist() == right["test"].tolist()
    assert not capsys.readouterr().err
    changed = {
        "counts": {**right, "test": right["test"][:-1]},
        "type": {**right, "test": right["test"].astype(np.int64)},
        "range": {**right, "test": right["test"] + np.uint8(200)},
        "others": {**right, "test": np.roll(right["test"], 1)},
        "names": {"test": right["test"]},
        "pickle": {**right, "test": right["test"].astype(object)},
    }
    if damage in changed:
        np.savez(path, **changed[damage])
    else:
        path.write_bytes({"text": b"x", "empty": b"", "cut": path.read_bytes()[:-30]}[damage])
    assert larochelle._kept_labels(path.parent) is None
    assert capsys.readouterr().err == f"{path}: does not hold the labels of these images, and is not used\n"


def test_labels_that_are_not_used_are_made_anew(static_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = static_root / larochelle.FOLDER / "labels.npz"
    path.write_text("x")
    larochelle.load(static_root, None, fetch=False)
    assert path.read_text() == "x", "reading writes nothing"
    assert capsys.readouterr().err.count("is not used") == 1
    labels = larochelle.load(static_root, None).splits["test"][1]
    assert np.load(path)["test"].tolist() == labels.tolist()
    assert np.load(path)["test"].dtype == np.uint8


REAL = pytest.mark.skipif(
    "VAE_LIGHTNING_STATIC_DATA" not in os.environ, reason="VAE_LIGHTNING_STATIC_DATA names no folder with its files"
)


@REAL
def test_labels_of_real_files_are_the_known_ones(mnist_root: Path) -> None:
    folder = Path(os.environ["VAE_LIGHTNING_STATIC_DATA"])
    kept = larochelle._kept_labels(folder)
    assert kept is not None
    binary, _ = larochelle._images(folder, "valid", fetch=False)
    found = larochelle.recover_labels(binary[::100], *sources.load("mnist", mnist_root, "train"))
    assert torch.equal(found, kept["valid"][::100])


@REAL
def test_real_test_split_has_the_known_labels(mnist_root: Path) -> None:
    binary, _ = larochelle._images(Path(os.environ["VAE_LIGHTNING_STATIC_DATA"]), "test", fetch=False)
    labels = larochelle.recover_labels(binary, *sources.load("mnist", mnist_root, "test"))
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert hashlib.sha256(labels.byte().numpy().tobytes()).hexdigest() == larochelle.LABELS_SHA256["test"]
