"""An array of images: shapes and types as people save them, splits and labels by their names, objects never."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vae_lightning.data import ArrayDataModule, own
from vae_lightning.data.arrays import to_pixels
from vae_lightning.errors import ConfigurationError, DataError

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (30, 5, 7), np.uint8)
COLOUR = RANDOM.integers(0, 256, (30, 5, 7, 3), np.uint8)


def module(path: Path, **options: Any) -> ArrayDataModule:
    return ArrayDataModule(path=str(path), binarization="none", **options)


def saved(folder: Path, alone: Any = None, **arrays: Any) -> Path:
    path = folder / ("x.npz" if arrays else "x.npy")
    if arrays:
        np.savez(path, **arrays)
    else:
        np.save(path, alone)
    return path


def rows(data: ArrayDataModule) -> list[tuple[int, ...]]:
    """All images of all splits as bytes, sorted."""
    found = [x for split in ("train", "val", "test") for x in data.evaluation_images(split)[0]]
    return sorted(tuple((255 * x).round().int().flatten().tolist()) for x in found)


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (GREY, (1, 5, 7)),
        (GREY[..., None], (1, 5, 7)),
        (GREY[:, None], (1, 5, 7)),
        (COLOUR, (3, 5, 7)),
        (COLOUR.transpose(0, 3, 1, 2), (3, 5, 7)),
        (np.asfortranarray(COLOUR), (3, 5, 7)),
        (GREY / 255, (1, 5, 7)),
        ((GREY / 255).astype(np.float32), (1, 5, 7)),
        ((GREY / 255).astype(">f8"), (1, 5, 7)),
        (GREY > 127, (1, 5, 7)),
    ],
)
def test_every_image_is_in_one_split_whatever_the_layout_and_type(tmp_path: Path, images: Any, shape: tuple[int, ...]) -> None:
    data = module(saved(tmp_path, images))
    assert data.image_shape == shape
    assert [len(data.evaluation_images(split)[0]) for split in ("train", "val", "test")] == [24, 3, 3]
    expected = (GREY > 127).astype(np.uint8) * 255 if images.dtype == bool else GREY
    expected = expected[:, None] if shape[0] == 1 else COLOUR.transpose(0, 3, 1, 2)
    assert rows(data) == sorted(tuple(image.ravel().tolist()) for image in expected)


def test_channels_and_size_are_pillows() -> None:
    grey = to_pixels(COLOUR, 1, "x")
    assert np.array_equal(grey[:, 0], np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in COLOUR]))
    assert np.array_equal(to_pixels(GREY, 3, "x"), np.repeat(GREY[:, None], 3, 1))


def test_size_scales(tmp_path: Path) -> None:
    assert module(saved(tmp_path, COLOUR), size=4, channels=1).image_shape == (1, 4, 4)


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("arr_0", "arr_1")])
def test_labels_lie_beside_images(tmp_path: Path, names: tuple[str, str]) -> None:
    labels = np.arange(30) % 3 + 5
    data = module(saved(tmp_path, **dict(zip(names, (GREY, labels), strict=True))))
    assert data.label_names == ("5", "6", "7")
    known = {tuple(image.ravel().tolist()): label for image, label in zip(GREY, labels, strict=True)}
    for split in ("train", "val", "test"):
        for x, y in zip(*data.evaluation_images(split), strict=True):
            assert known[tuple((255 * x).round().int().flatten().tolist())] == y + 5


@pytest.mark.parametrize("names", ["x_{} y_{}", "{}_images {}_labels"])
def test_splits_of_a_file_are_splits(tmp_path: Path, names: str) -> None:
    arrays = {}
    for split, part in (("train", slice(20)), ("test", slice(20, 30))):
        images, labels = names.format(split, split).split()
        arrays |= {images: GREY[part], labels: np.array(["no", "yes"])[np.arange(30) % 2][part, None]}
    data = module(saved(tmp_path, **arrays))
    assert data.label_names == ("no", "yes")
    assert torch.equal((255 * data.evaluation_images("test")[0][:, 0]).round().byte(), torch.from_numpy(GREY[20:]))
    assert data.evaluation_images("test")[1].tolist() == [0, 1] * 5
    assert len(data.evaluation_images("val")[0]) == 2
    again = module(tmp_path / "x.npz", splits="seed")
    assert len(again.evaluation_images("test")[0]) == 3
    assert rows(again) == rows(data)


def test_checksum_is_the_files(tmp_path: Path) -> None:
    path = saved(tmp_path, GREY)
    data = module(path)
    assert data.checksums() == {"x.npy": hashlib.md5(path.read_bytes()).hexdigest()}
    before = data.settings()
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "x.npy")
    assert module(moved).settings() == before
    np.save(moved, 255 - GREY)
    assert module(moved).settings()["path"] != before["path"]


class Opened:
    """Says so where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/vae_lightning_was_here"),))


def pickled() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Opened()], dtype=object), allow_pickle=True)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickled(), "holds Python objects, which are not read"),
        (pickle.dumps(GREY), "is neither a .npy nor a .npz file"),
        (b"", "is neither a .npy nor a .npz file"),
        (b"\x93NUMPY", "is truncated or damaged"),
        (b"PK\3\4 and no more", "is truncated or damaged"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=rf"^path=\S+x\.npy: {words}") as refusal:
        module(tmp_path / "x.npy").setup()
    assert "\n" not in str(refusal.value)
    assert not Path("/tmp/vae_lightning_was_here").exists()


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    for path in (saved(tmp_path, GREY), saved(tmp_path, x=GREY, y=np.arange(30))):
        path.write_bytes(path.read_bytes()[:-600])
        with pytest.raises(DataError, match="is truncated or damaged"):
            module(path).setup()


def with_value(value: float) -> Any:
    images = GREY / 255
    images[4, 2, 2] = value
    return images


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (with_value(float("nan")), "image 4 holds values that are not finite"),
        (with_value(float("inf")), "image 4 holds values that are not finite"),
        (with_value(-0.5), r"holds floats from -0\.5 to 1, not in \[0, 1\]$"),
        (GREY.astype(float), r"holds floats from 0 to 255, not in \[0, 1\]; .* divide by 255"),
        (GREY.astype(np.int64), r"holds int64; images are uint8 \(save \.astype\(np\.uint8\)\)"),
        (GREY.astype(np.int16) - 100, r"holds int16; images are uint8 \(these are from -100 to 155: scale them"),
        (GREY.astype(np.uint16) * 257, r"holds uint16; images are uint8 \(these are from 0 to 65535: scale them"),
        (GREY.astype(complex), r"holds complex128; images are uint8, bool"),
        ((GREY > 127).astype(np.uint8), r"holds 0 and 1 as uint8, .*save \.astype\(bool\)"),
        (GREY.reshape(30, 35), r"has shape \(30, 35\), not \(N, H, W\)"),
        (np.zeros((30, 5, 7, 4), np.uint8), r"has shape \(30, 5, 7, 4\), not .* with 1 or 3 channels"),
        (np.zeros((30, 3, 7, 3), np.uint8), r"may be \(N, H, W, C\) or \(N, C, H, W\)"),
        (np.zeros((28, 28, 3), np.uint8), r"as one image \(H, W, C\) has"),
        (np.zeros((0, 5, 7), np.uint8), "there is no image in it"),
        (GREY[:2], "holds 2 images to be split into train, val, test; it takes 3 or more"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, images: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as refusal:
        module(saved(tmp_path, images)).setup()
    assert str(refusal.value).startswith(f"path={tmp_path}/x.npy")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": GREY, "y": np.arange(29)}, r"x\.npz\[y\]: has shape \(29,\), and there are 30 images"),
        ({"x": GREY, "y": np.eye(30)}, r"x\.npz\[y\]: .*of one-hot labels, save \.argmax\(1\)"),
        ({"x": GREY, "y": np.arange(30.0)}, r"x\.npz\[y\]: holds float64; labels are whole numbers"),
        ({"x": GREY, "y": np.arange(30) - 1}, r"x\.npz\[y\]: holds -1"),
        ({"x": GREY, "y": np.arange(30, dtype=np.uint64) + 2**63}, r"x\.npz\[y\]: holds 9223372036854775837, more than an int64"),
        ({"pictures": GREY, "kinds": np.arange(30)}, "holds kinds, pictures, and none is called as images are: images and labels"),
        ({"x_test": GREY, "y_test": np.arange(30)}, "none is called as images are"),
        (
            {"x_train": GREY, "y_train": np.arange(30) % 2, "x_test": GREY},
            "its train images have labels, and its test images have none",
        ),
        ({"x_train": GREY, "x_test": COLOUR}, r"different shapes \(train \(1, 5, 7\), test \(3, 5, 7\)\)"),
        (
            {"x_train": GREY[:20], "y_train": np.arange(20) % 2, "x_test": GREY[20:], "y_test": np.arange(10)},
            "the class 2 of its test",
        ),
    ],
)
def test_files_of_several_arrays_that_do_not_belong_together_are_refused(tmp_path: Path, arrays: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as refusal:
        module(saved(tmp_path, **arrays)).setup()
    assert str(refusal.value).startswith(f"path={tmp_path}/x.npz")


def test_what_is_more_than_memory_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, np.tile(GREY, (20, 1, 1)))
    monkeypatch.setattr(own.os, "sysconf", lambda name: 100)
    with pytest.raises(DataError, match=r"x\.npy takes 0\.0 GB, and this machine has 0\.0 GB of memory; give a smaller file"):
        module(path).setup()


def test_places_that_hold_no_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        module(tmp_path / "none.npy").setup()
    with pytest.raises(DataError, match="is a folder, not a file; a folder of image files is data=folder"):
        module(tmp_path).setup()
    with pytest.raises(ConfigurationError, match=r"^path: where do the images lie\? path=<file>"):
        ArrayDataModule()


@pytest.mark.parametrize(
    "arguments", [{"splits": "no"}, {"channels": 2}, {"size": 0}, {"val_size": 0}, {"test_size": -1}, {"binarization": "static"}]
)
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{next(iter(arguments))}="):
        ArrayDataModule(**{"path": "x.npy", **arguments})
