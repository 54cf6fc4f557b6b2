"""A data folder is read wherever it is, and written to only where that is wanted."""

import errno
import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from vae_lightning.data import root as folders
from vae_lightning.errors import DataError


def test_home_and_relative_paths_are_meant_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.data_folder("~/data") == tmp_path / "data"
    assert folders.data_folder("data") == Path("data")


def looped(tmp_path: Path) -> Path:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return tmp_path / "loop"


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("root", "words"),
    [
        (a_file, "is a file, not a folder"),
        (lambda folder: a_file(folder) / "below", "cannot be read .Not a directory"),
        (looped, "cannot be read .Too many levels of symbolic links"),
        (lambda _: "~nobody-of-this-name/data", "cannot be read .Could not determine home"),
        (lambda _: "a" * 300, "cannot be read .File name too long"),
    ],
)
def test_what_is_no_folder_is_named(tmp_path: Path, root: object, words: str) -> None:
    place = root(tmp_path)  # type: ignore[operator]
    with pytest.raises(DataError, match=words) as refusal:
        folders.data_folder(place)
    assert str(refusal.value).startswith(f"root={place}: ")


def test_content_is_that_of_a_file_only(tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(b"some")
    assert folders.content_of(tmp_path / "some") == b"some"
    assert folders.content_of(tmp_path / "none") is None
    assert folders.content_of(tmp_path / "some" / "none") is None
    for path, words in (
        (tmp_path, "Is a directory"),
        (Path(os.devnull), "a pipe, a socket or a device"),
        (looped(tmp_path), "symbolic links"),
    ):
        with pytest.raises(DataError, match=words):
            folders.content_of(path)
    os.mkfifo(tmp_path / "endless")
    for endless in (tmp_path / "endless", Path("/dev/zero")):
        with pytest.raises(DataError, match="is no file but a pipe"):
            folders.content_of(endless)


def test_what_may_not_be_read_or_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # which nothing is for the superuser of a container

    for name in ("read_bytes", "mkdir", "iterdir", "stat"):
        monkeypatch.setattr(Path, name, forbidden)
    with pytest.raises(DataError, match=r"some: cannot be read \(Permission denied"):
        folders.content_of(tmp_path / "some")
    with pytest.raises(DataError, match=r"root=.*cannot be read \(Permission denied"):
        folders.refuse_foreign(tmp_path)
    with pytest.raises(DataError, match=r"root=.*cannot be read \(Permission denied"):
        folders.data_folder(tmp_path)
    with pytest.raises(DataError, match=r"MNIST: cannot write there .*Permission denied.*root"), locked(tmp_path):
        pass


def locked(folder: Path) -> AbstractContextManager[None]:
    return folders.locked_folder(folder / "MNIST")


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST", "binarized_mnist", ".hidden", None])
def test_an_empty_folder_and_one_of_ours_may_be_fetched_into(tmp_path: Path, name: str | None) -> None:
    if name:
        (tmp_path / name).mkdir()
        (tmp_path / "README").touch(), (tmp_path / name / "something").touch()
    if name == ".hidden":
        (tmp_path / "README").unlink()
    folders.refuse_foreign(tmp_path)
    folders.refuse_foreign(tmp_path / "not there")


@pytest.mark.parametrize(
    ("held", "root", "words"),
    [
        (["a.png", "b.png", "c.png"], ".", r"holds other things \(a.png, b.png, ...\) .* make the folder .*MNIST"),
        (["data/MNIST/raw/train-images-idx3-ubyte"], "data/MNIST/raw", r"is inside of what it should name: root=\S+/data$"),
        (["data/MNIST/raw/train-images-idx3-ubyte"], "data/MNIST", r"is inside of what it should name: root=\S+/data$"),
        (["train-images-idx3-ubyte.gz"], ".", r"holds raw files.* move MNIST's into \S+/MNIST/raw$"),
    ],
)
def test_a_folder_of_other_things_is_refused_with_what_to_do(tmp_path: Path, held: list[str], root: str, words: str) -> None:
    for name in held:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=words) as refusal:
        folders.refuse_foreign(tmp_path / root)
    assert "\n" not in str(refusal.value)


def test_a_lock_leaves_nothing_where_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no network"), folders.locked_folder(tmp_path / "data" / "MNIST" / "raw"):
        raise RuntimeError("no network")
    assert not list(tmp_path.iterdir())
    (tmp_path / "data").mkdir()
    with pytest.raises(IsADirectoryError), folders.locked_folder(tmp_path / "data" / "MNIST" / "raw"):
        shutil.copy(__file__, tmp_path / "data" / "MNIST" / "raw" / "something") and Path("/").read_bytes()
    assert (tmp_path / "data" / "MNIST" / "raw" / "something").exists(), "what others put there stays"
