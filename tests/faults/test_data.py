"""Data files that are damaged, swapped or another's; mirrors that fail; many processes at once; folders that may only be read."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torchvision
import tqdm
from faults.conftest import Mirror

from vae_lightning import MNISTDataModule
from vae_lightning.data import sources
from vae_lightning.errors import DataError


@pytest.fixture
def linked(mnist_root: Path, tmp_path: Path) -> Path:
    """MNIST in a folder of its own, each file a link, so that one can be replaced by another."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in sources.NAMES:
        (raw / name).symlink_to((mnist_root / "MNIST" / "raw" / name).resolve())
    return raw


def truncated(content: bytes) -> bytes:
    return content[:-1]


def half_downloaded(content: bytes) -> bytes:
    return content[: len(content) // 2]


def half_of_zeros(content: bytes) -> bytes:
    """What a program that reserves the space first leaves when it is killed."""
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


def flipped(content: bytes) -> bytes:
    place = np.random.default_rng(0).integers(16, len(content))
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


def longer(content: bytes) -> bytes:
    return content + b"\0"


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncated, half_downloaded, half_of_zeros, flipped, longer, empty])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_damaged_file_is_refused_by_name_and_left_as_it_is(linked: Path, damage: Callable[[bytes], bytes], name: str) -> None:
    path = linked / name
    content = damage(path.read_bytes())
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is truncated or altered .*; give root="):
        sources.read("mnist", linked.parent.parent, fetch=False)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"),
        ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"),
    ],
)
def test_swapped_files_are_refused_by_name(linked: Path, one: str, other: str) -> None:
    (linked / one).rename(linked / "aside")
    (linked / other).rename(linked / one)
    (linked / "aside").rename(linked / other)
    with pytest.raises(DataError, match=rf"({one}|{other}) is truncated or altered"):
        sources.read("mnist", linked.parent.parent, fetch=False)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 3)], ids=["images and labels", "images", "labels"])
def test_swapped_files_of_a_set_without_published_digests_are_refused_too(
    mirror: Mirror, tmp_path: Path, one: int, other: int
) -> None:
    raw = sources.raw_folder("fashion_mnist", tmp_path)
    (raw / "checksums.json").unlink()
    a, b = raw / sources.NAMES[one], raw / sources.NAMES[other]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second), b.write_bytes(first)
    with pytest.raises(DataError, match=rf"({a.name}|{b.name}): holds "):
        sources.read("fashion_mnist", tmp_path)
    assert (a.read_bytes(), b.read_bytes()) == (second, first)


def test_files_of_another_set_under_this_ones_name_are_refused_or_replaced(mirror: Mirror, tmp_path: Path, linked: Path) -> None:
    """MNIST's digests are published, so that a foreign file is known for one, as it is in place of Fashion-MNIST's."""
    root = tmp_path / "fashion"
    raw = sources.raw_folder("fashion_mnist", root)
    foreign = linked / "t10k-images-idx3-ubyte"
    foreign.unlink()
    shutil.copy(raw / foreign.name, foreign)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is truncated or altered"):
        sources.read("mnist", linked.parent.parent, fetch=False)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    (raw / "t10k-labels-idx1-ubyte").symlink_to((linked / "t10k-labels-idx1-ubyte").resolve())
    (raw / "checksums.json").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: is MNIST's, not FashionMNIST's"):
        sources.read("fashion_mnist", root)


def test_what_old_torchvision_made_beside_the_raw_files_is_not_looked_at(linked: Path) -> None:
    (linked.parent / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (linked.parent / "processed" / name).write_bytes(b"no tensors")
    data = MNISTDataModule(root=str(linked.parent.parent))
    data.prepare_data()
    assert data.evaluation_images("test")[1].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


# ---- mirrors


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("page", "is a page, and not the file"),
        ("refused", "HTTP Error 403"),
        ("gone", "HTTP Error 404"),
        ("cut", r"broke off after [\d,]+ of [\d,]+ bytes"),
        ("endless", r"does not end after 67,108,864 bytes"),
        ("altered", "is not the published file"),
        ("silent", "timed out"),
        ("stalling", "timed out"),
        ("dripping", "sends less than 1 KB a second"),
    ],
)
def test_mirror_that_fails_is_one_line_and_leaves_nothing(mirror: Mirror, tmp_path: Path, way: str, words: str) -> None:
    mirror.way = way
    began = time.monotonic()
    with pytest.raises(DataError, match=rf"train-images-idx3-ubyte is missing, and .*{words}.*root=<folder>") as refusal:
        sources.read("fashion_mnist", tmp_path / "data")
    assert time.monotonic() - began < 5
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "data").exists()
    assert mirror.asked == ["train-images-idx3-ubyte.gz"]


def test_mirror_that_nobody_listens_at_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [f"http://127.0.0.1:{port}/"])
    with pytest.raises(DataError, match=r"could not be fetched \(http://127.0.0.1:\d+/: .*Connection refused"):
        sources.read("kmnist", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_next_mirror_is_asked_where_one_fails(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (there,) = torchvision.datasets.FashionMNIST.mirrors
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"{there}nothing:", there])
    mirror.archives |= {f"nothing:{name}": b"" for name in mirror.archives}
    assert sources.load("fashion_mnist", tmp_path, "test")[0].shape == (10, 1, 28, 28)


# ---- several processes at once


def _prepare(start: "multiprocessing.synchronize.Barrier", root: Path, results: "multiprocessing.SimpleQueue[str]") -> None:
    start.wait()
    try:
        images, labels = sources.load("fashion_mnist", root, "train")
        results.put(hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest())
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("count", [2, 10])
def test_processes_that_start_at_once_fetch_once_and_read_the_same(mirror: Mirror, tmp_path: Path, count: int) -> None:
    mirror.way = "slowly"
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(count), fork.SimpleQueue()
    processes = [fork.Process(target=_prepare, args=(start, tmp_path / "data", results)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count
    images, labels = sources.load("fashion_mnist", tmp_path / "data", "train")
    assert {results.get() for _ in processes} == {hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()}
    assert sorted(mirror.asked) == sorted(mirror.archives), "each archive is asked for once"
    left = {path.name for path in (tmp_path / "data" / "FashionMNIST" / "raw").iterdir()}
    assert left == {*sources.NAMES, "checksums.json", ".lock"}


def test_process_that_is_killed_as_it_fetches_keeps_nobody_waiting_and_leaves_nothing(mirror: Mirror, tmp_path: Path) -> None:
    mirror.way = "stalling"
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_prepare, args=(fork.Barrier(1), tmp_path / "data", fork.SimpleQueue()))
    process.start()
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    deadline = time.monotonic() + 20
    while not mirror.asked and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert list(raw.glob(".fetch-*"))
    mirror.way = "well"
    assert len(sources.load("fashion_mnist", tmp_path / "data", "train")[0]) == 20
    assert not list(raw.glob(".fetch-*"))


def test_process_that_was_killed_as_it_drew_a_bar_keeps_nobody_waiting(mirror: Mirror, tmp_path: Path) -> None:
    """It never gives back the lock of tqdm that it shares with the process it was forked from."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with tqdm.tqdm.get_lock():
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    reader = threading.Thread(target=sources.load, args=("fashion_mnist", tmp_path / "data", "test"), daemon=True)
    holder.start()
    try:
        assert held.wait(10)
        reader.start()
        reader.join(30)
        assert not reader.is_alive()
    finally:
        done.set()
        holder.join()


# ---- folders that may only be read


def test_data_in_a_folder_that_may_only_be_read_are_read(linked: Path, read_only: Callable[[Path], None]) -> None:
    read_only(linked.parent.parent)
    assert sources.read("mnist", linked.parent.parent).checksums == sources.MNIST_MD5


def test_data_that_are_missing_in_a_folder_that_may_only_be_read(tmp_path: Path, read_only: Callable[[Path], None]) -> None:
    (tmp_path / "data").mkdir()
    read_only(tmp_path / "data")
    with pytest.raises(DataError, match=r"MNIST/raw: cannot write there .*Read-only file system.*give another: root=<folder>"):
        sources.read("mnist", tmp_path / "data")


def test_record_that_is_damaged_where_it_cannot_be_made_anew(
    mirror: Mirror, tmp_path: Path, read_only: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raw = sources.raw_folder("fashion_mnist", tmp_path / "data")
    (raw / "checksums.json").write_text("{")
    read_only(tmp_path / "data")
    capsys.readouterr()
    assert len(sources.load("fashion_mnist", tmp_path / "data", "test")[0]) == 10
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be made anew" in line
    assert "Read-only file system" in line


def test_labels_that_are_found_for_static_images_need_not_be_kept(
    static_root: Path, read_only: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    read_only(static_root / "binarized_mnist")
    data = MNISTDataModule(root=str(static_root), binarization="static")
    data.prepare_data()
    assert len(data.evaluation_images("test")[0]) == 100
    assert sorted(path.suffix for path in (static_root / "binarized_mnist").iterdir()) == [".amat"] * 3


def test_disk_that_is_full_as_data_are_fetched(mirror: Mirror, small_disk: Callable[..., Path]) -> None:
    disk = small_disk(16)
    with pytest.raises(DataError, match=r"could not be fetched \(.*No space left on device"):
        sources.read("fashion_mnist", disk / "data")
    assert not (disk / "data").exists()
