"""A folder of files: every image once, values as they are, an order of its own, splits that are disjoint."""

import errno
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae_lightning.data import FolderDataModule
from vae_lightning.errors import ConfigurationError, DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write images at the given places below a folder, each of one level of its own, and give the folder."""

    def to(*names: str, size: tuple[int, int] = (4, 3), mode: str = "L") -> Path:
        for number, name in enumerate(names):
            path = tmp_path / "pngs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, size, number if mode == "L" else (number, 2, 3)).save(path)
        return tmp_path / "pngs"

    return to


def module(folder: Path, **options: object) -> FolderDataModule:
    return FolderDataModule(path=str(folder), binarization="none", **options)  # type: ignore[arg-type]


def levels(data: FolderDataModule, split: str) -> list[int]:
    """The first pixel of each image of a split, which says which of `write`'s it is."""
    return [round(x * 255) for x in data.evaluation_images(split)[0][:, 0, 0, 0].tolist()]


NAMES = [f"{'cat' if number % 2 else 'dog'}/{number:03}.png" for number in range(50)]


def test_every_image_is_in_one_split_with_its_label_and_comes_once_an_epoch(write: Write) -> None:
    data = module(write(*NAMES), batch_size=7)
    assert (data.image_shape, data.label_names, data.num_classes) == ((1, 3, 4), ("cat", "dog"), 2)
    splits = {split: levels(data, split) for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in splits.items()} == {"train": 40, "val": 5, "test": 5}
    assert sorted(itertools.chain(*splits.values())) == list(range(50))
    for split, found in splits.items():
        assert data.evaluation_images(split)[1].tolist() == [1 - number % 2 for number in found]
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert sorted(round(v * 255) for x, _ in batches for v in x[:, 0, 0, 0].tolist()) == sorted(splits["train"])
    assert not data.sorted_by_class


def test_splits_follow_the_seed_and_not_the_file_system(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(*NAMES)
    first = module(folder)
    found = [levels(first, split) for split in ("train", "val", "test")]
    original = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(original(path), reverse=True)))
    again = module(folder, seed=5, batch_size=3)
    assert [levels(again, split) for split in ("train", "val", "test")] == found
    assert again.checksums() == first.checksums()
    assert levels(module(folder, eval_seed=1), "test") != found[2]


def test_checksum_is_of_names_and_bytes(write: Write) -> None:
    folder = write("a.png", "b.png", "c.png")
    sums = module(folder).checksums()
    lines = "".join(f"{n}.png\0{hashlib.md5((folder / f'{n}.png').read_bytes()).hexdigest()}\n" for n in "abc")
    assert sums == {"pngs/": hashlib.md5(lines.encode()).hexdigest()}
    folder.rename(folder.parent / "moved").joinpath("c.png").rename(folder.parent / "moved" / "d.png")
    assert module(folder.parent / "moved").checksums()["moved/"] != sums["pngs/"]


def test_files_in_the_folder_itself_have_no_labels(write: Write) -> None:
    data = module(write(*(f"{n}.png" for n in range(5)), mode="RGB"))
    assert (data.image_shape, data.label_names, data.num_classes) == ((3, 3, 4), (), 0)
    x, y = data.evaluation_images("train")
    assert y.tolist() == [0, 0, 0]
    assert y.dtype == torch.int64
    assert x.shape == (3, 3, 3, 4)


def test_values_are_pillows_whatever_the_format(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 6, 5, 3), np.uint8)
    for image, name in zip(pixels, ("a.png", "b.jpg", "c.bmp"), strict=True):
        Image.fromarray(image).save(tmp_path / name)
    data = module(tmp_path, splits="seed")
    found = {
        tuple((255 * x).round().int().flatten().tolist()) for s in ("train", "val", "test") for x in data.evaluation_images(s)[0]
    }
    expected = {tuple(np.asarray(Image.open(path)).transpose(2, 0, 1).ravel().tolist()) for path in tmp_path.iterdir()}
    assert found == expected


SPLIT = [f"{split}/{kind}/{n}.png" for split in ("train", "valid", "test") for kind in ("x", "y") for n in range(4)]


def test_sub_folders_of_splits_are_splits(write: Write) -> None:
    data = module(write(*SPLIT))
    order = sorted(SPLIT)
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert levels(data, split) == [SPLIT.index(path) for path in order if path.startswith(name)]
    assert data.label_names == ("x", "y")
    assert data.sorted_by_class
    seeded = module(write(*SPLIT), splits="seed")
    assert seeded.label_names == ("test", "train", "valid")


def test_a_split_that_is_not_there_is_taken_from_the_training_images(write: Write) -> None:
    folder = write(*(f"train/{n:02}.png" for n in range(20)), *(f"test/{n}.png" for n in range(3)))
    data = module(folder, val_size=4)
    assert levels(data, "test") == [20, 21, 22]
    assert sorted(levels(data, "val") + levels(data, "train")) == list(range(20))
    assert len(levels(data, "val")) == 4
    with pytest.raises(ConfigurationError, match=r"^test_size=4: must be null: .* has 3 test images of its own"):
        module(folder, test_size=4).setup()


def test_hidden_files_are_passed_over_with_a_line(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(*NAMES)
    before = module(folder).checksums()
    (folder / ".DS_Store").write_text("x")
    (folder / "cat" / "Thumbs.db").write_text("x")
    (folder / "__MACOSX").mkdir()
    with caplog.at_level(logging.WARNING):
        assert module(folder).checksums() == before
    assert "passed over 3 hidden files and the like (.DS_Store, Thumbs.db, __MACOSX)" in caplog.text


def test_images_further_down_and_through_links_are_of_their_class(write: Write) -> None:
    folder = write("a/1/x.png", "a/2/y.png", "b/z.png", "elsewhere/w.png")
    (folder / "elsewhere").rename(folder.parent / "elsewhere")
    (folder / "b" / "more").symlink_to(folder.parent / "elsewhere")
    data = module(folder)
    assert sorted(itertools.chain(*(levels(data, split) for split in ("train", "val", "test")))) == [0, 1, 2, 3]
    (folder / "b" / "loop").symlink_to(folder)
    with pytest.raises(DataError, match="is a link to a folder that it lies in"):
        module(folder).setup()


def test_one_class_says_nothing(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert module(write(*(f"all/{n}.png" for n in range(5)))).num_classes == 0
    assert "all images are of the class all" in caplog.text


def test_size_makes_images_alike(write: Write) -> None:
    folder = write(*(f"{n}.png" for n in range(5)))
    Image.new("L", (50, 20), 9).save(folder / "wide.png")
    with pytest.raises(DataError, match=r"wide\.png: has 20 x 50 pixels, and .*0\.png has 3 x 4; size=<pixels> scales"):
        module(folder).setup()
    assert module(folder, size=8).image_shape == (1, 8, 8)
    Image.new("RGB", (4, 3), (9, 9, 9)).save(folder / "wide.png")
    with pytest.raises(DataError, match=r"wide\.png: is colour, and .*0\.png is grey; channels=1"):
        module(folder).setup()
    assert [module(folder, channels=c).image_shape for c in (1, 3)] == [(1, 3, 4), (3, 3, 4)]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"notes")


@pytest.mark.parametrize(
    ("names", "others", "words"),
    [
        ([], [], "there is no image in"),
        ([], [".hidden"], "there is no image in"),
        (["a/0.png", "a/1.png"], ["b/.hidden"], r"pngs/b: is empty; remove it"),
        (["a.png", "b.png", "c.png", "d.png"], ["notes.txt"], r"notes\.txt: is no image that can be read"),
        (["a/0.png", "b/0.png"], ["notes.txt"], r"holds files \(notes\.txt\) beside sub-folders \(a\)"),
        (["train/a/0.png", "test/a/0.png"], ["extra/x.png"], r"holds test, train and extra: splits=given .* splits=seed"),
        (["train/0.png", "val/0.png", "valid/0.png"], [], "holds both val and valid"),
        (["test/0.png", "val/0.png"], [], r"holds test, val, and no sub-folder train; splits=seed"),
        (["train/a/0.png", "train/b/0.png", "test/c/0.png"], [], "the class c of its test images has no training image"),
        (["train/a/0.png", "train/b/0.png", "test/0.png"], [], "its train images have labels, and its test images have none"),
        (["a.png", "b.png"], [], r"^path=\S+ holds 2 images to be split into train, val, test"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(
    write: Write, tmp_path: Path, names: list[str], others: list[str], words: str
) -> None:
    folder = write(*names)
    folder.mkdir(exist_ok=True)
    for name in others:
        touch(folder / name)
    with pytest.raises(DataError, match=words) as refusal:
        module(folder).setup()
    assert "\n" not in str(refusal.value)


def test_size_that_no_memory_has_is_refused_before_an_image_is_scaled(write: Write) -> None:
    with pytest.raises(
        DataError, match=r"^size=10000000: the array of 50 such images of path=\S+ takes 5000000\.0 GB, .*; ask for less$"
    ):
        module(write(*NAMES), size=10_000_000).setup()


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
def test_what_is_no_file_is_named(write: Write) -> None:
    folder = write(*NAMES)
    (folder / "cat" / "lost.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"lost\.png: is a link to what is not there; mend or remove it"):
        module(folder).setup()
    (folder / "cat" / "lost.png").unlink()
    os.mkfifo(folder / "cat" / "pipe.png")  # whose reading would wait for a writer for ever
    with pytest.raises(DataError, match=r"pipe\.png: is no file but a pipe, a socket or a device"):
        module(folder).setup()


def test_given_splits_leave_the_rest_out(write: Write) -> None:
    folder = write("train/a/0.png", "train/b/1.png", "train/b/2.png", "train/b/3.png", "test/a/4.png")
    touch(folder / "extra" / "x.png")
    assert levels(module(folder, splits="given"), "test") == [4]


def test_more_images_are_asked_for_than_there_are(write: Write) -> None:
    with pytest.raises(DataError, match=r"^val_size=30, test_size=20: leaves no training image, as path=\S+ holds 50 images"):
        module(write(*NAMES), val_size=30, test_size=20).setup()


def test_places_that_hold_no_folder_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "file")
    for path, words in (
        (tmp_path / "none", "there is no such folder"),
        (tmp_path / "file", "is a file, not a folder; an array of images is data=array"),
        (tmp_path / "file" / "below", "cannot be read"),
    ):
        with pytest.raises(DataError, match=rf"^path={path}: {words}"):
            module(path).setup()
    with pytest.raises(ConfigurationError, match=r"^path: where do the images lie\? path=<folder>"):
        FolderDataModule()


def test_folder_that_may_not_be_read_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = write(*NAMES), Path.iterdir

    def forbidden(path: Path) -> Iterator[Path]:
        if path.parent == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # which nothing is for the superuser of a container
        return read(path)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(DataError, match=rf"^{folder}/\w+: cannot be read \(Permission denied\)$"):
        module(folder).setup()


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_home_is_meant_as_written(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(*NAMES)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert FolderDataModule(path="~/pngs").num_classes == 2
