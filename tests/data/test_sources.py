"""Files are whole and right, or fetched anew, or refused by name."""

import gzip
import hashlib
import json
import re
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_lightning.data import idx, sources
from vae_lightning.errors import DataError


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def copy(mnist_root: Path, tmp_path: Path) -> Path:
    shutil.copytree(sources.raw_folder("mnist", mnist_root), tmp_path / "MNIST" / "raw")
    return tmp_path


def no_network(_dataset: str) -> list[tuple[str, object]]:
    def refuse(_scratch: Path) -> None:
        raise OSError("no network")

    return [("mirror", refuse)]


def test_intact_files_are_used_without_fetching(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetchers", no_network)
    images, labels = sources.load("mnist", copy, "test")
    assert images.shape == (10_000, 1, 28, 28)
    assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_damaged_file_without_network_is_refused_by_name(copy: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(sources, "fetchers", no_network)
    path = copy / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"\x0b")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.*root") as refusal:
        sources.raw_folder("mnist", copy)
    assert "\n" not in str(refusal.value)


def test_damaged_file_is_fetched_anew_and_put_in_place_whole(
    copy: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(scratch: Path) -> None:
        for path in sources.raw_folder("mnist", mnist_root).glob("*-ubyte"):
            shutil.copy(path, scratch / path.name)

    def broken(scratch: Path) -> None:
        (scratch / "train-images-idx3-ubyte").write_bytes(b"not it")

    monkeypatch.setattr(sources, "fetchers", lambda _: [("broken", broken), ("good", fetch)])
    path = copy / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.write_bytes(b"")
    capsys.readouterr()
    sources.raw_folder("mnist", copy)
    (said,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"broken: the fetched .*; trying good", said)
    assert md5(path.read_bytes()) == sources.MNIST_MD5[path.name]
    assert not list(path.parent.glob(".fetch-*"))
    assert not list(path.parent.glob("*.replaced"))


def test_of_two_runs_that_start_at_once_one_fetches(copy: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fetch(scratch: Path) -> None:
        calls.append(scratch)
        time.sleep(0.3)
        for path in sources.raw_folder("mnist", mnist_root).glob("*-ubyte"):
            shutil.copy(path, scratch / path.name)

    monkeypatch.setattr(sources, "fetchers", lambda _: [("slow", fetch)])
    shutil.rmtree(copy / "MNIST")
    with ThreadPoolExecutor(2) as runs:
        folders = list(runs.map(lambda _: sources.raw_folder("mnist", copy), range(2)))
    assert folders[0] == folders[1]
    assert len(calls) == 1


def test_root_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"root=\S*/file: is a file, not a folder"):
        sources.raw_folder("mnist", tmp_path / "file")


# ---- what is verified is what is read


def test_what_torchvision_once_made_of_the_files_is_not_read(copy: Path) -> None:
    before = sources.read("mnist", copy)
    black = torch.zeros(60_000, 28, 28, dtype=torch.uint8), torch.zeros(60_000, dtype=torch.int64)
    (copy / "MNIST" / "processed").mkdir()
    torch.save(black, copy / "MNIST" / "processed" / "training.pt")
    torch.save(tuple(part[:10_000] for part in black), copy / "MNIST" / "processed" / "test.pt")
    after = sources.read("mnist", copy)
    assert before.checksums == after.checksums == sources.MNIST_MD5
    for split in ("train", "test"):
        for old, new in zip(before.splits[split], after.splits[split], strict=True):
            assert torch.equal(old, new)
    assert after.splits["train"][0].float().mean() > 30


def test_each_file_is_read_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Path.open

    def noted(path: Path, *arguments: Any, **named: Any) -> Any:
        read.append(path.name)
        return original(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", noted)
    sources.read("mnist", copy)
    assert sorted(name for name in read if name.endswith("ubyte")) == sorted(sources.NAMES)


def test_archives_alone_are_used(mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetchers", no_network)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in sources.NAMES:
        content = (mnist_root / "MNIST" / "raw" / name).read_bytes()
        (raw / f"{name}.gz").write_bytes(gzip.compress(content, 0))
    found = sources.read("mnist", tmp_path)
    assert found.checksums == sources.MNIST_MD5
    assert torch.equal(found.splits["test"][1], sources.load("mnist", mnist_root, "test")[1])
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{name}.gz" for name in sources.NAMES)

    cut = raw / "t10k-labels-idx1-ubyte"
    cut.write_bytes(b"cut")  # beside an archive that is whole
    assert sources.read("mnist", tmp_path).checksums == sources.MNIST_MD5
    cut.unlink()

    archive = raw / "train-images-idx3-ubyte.gz"  # the first that is looked at
    for content, words in (
        (archive.read_bytes()[:-9], "truncated or damaged"),
        (b"no archive", "truncated or damaged"),
        (gzip.compress(b"other"), "truncated or altered"),
    ):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=rf"train-images-idx3-ubyte\.gz is {words}"):
            sources.read("mnist", tmp_path)


def test_nothing_is_fetched_or_written_where_reading_must_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetchers", None)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is missing; give root=<folder with MNIST/raw>"):
        sources.read("mnist", tmp_path / "data", fetch=False)
    assert not (tmp_path / "data").exists()


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetchers", no_network)
    with pytest.raises(DataError, match=r"is missing, and it could not be fetched \(mirror: no network\)"):
        sources.read("mnist", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_nothing_is_fetched_into_a_folder_of_other_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetchers", None)
    (tmp_path / "0001.png").touch()
    with pytest.raises(DataError, match=r"holds other things \(0001.png\)"):
        sources.read("mnist", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0001.png"]


def test_a_whole_file_that_is_replaced_is_kept(
    copy: Path, mnist_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(scratch: Path) -> None:
        for path in (mnist_root / "MNIST" / "raw").glob("*-ubyte"):
            shutil.copy(path, scratch / path.name)

    monkeypatch.setattr(sources, "fetchers", lambda _: [("good", fetch)])
    path = copy / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    own = idx.pack(np.array([1, 2, 3], np.uint8))
    path.write_bytes(own)
    assert sources.load("mnist", copy, "test")[1].shape == (10_000,)
    assert path.with_name(f"{path.name}.replaced").read_bytes() == own
    assert "kept as t10k-labels-idx1-ubyte.replaced" in capsys.readouterr().err


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dataset", ["fashion_mnist", "kmnist"])
def test_files_of_mnist_in_another_place_are_refused(mnist_root: Path, tmp_path: Path, dataset: str, packed: bool) -> None:
    raw = tmp_path / sources.DATASETS[dataset] / "raw"
    raw.mkdir(parents=True)
    for name in sources.NAMES:
        (raw / name).symlink_to((mnist_root / "MNIST" / "raw" / name).resolve())
    if packed:  # MNIST's archive as published, of which nothing but the digest is looked at
        (raw / sources.NAMES[0]).unlink()
        (raw / f"{sources.NAMES[0]}.gz").write_bytes(b"archive")
        published = {f"{name}.gz": md5(b"archive") for name in sources.NAMES}
    else:
        published = {f"{name}.gz": name for name in sources.NAMES}
    digests = {"mnist": published}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "archive_md5", lambda name: digests.get(name, {f"{n}.gz": "other" for n in sources.NAMES}))
        with pytest.raises(DataError, match=rf"train-images-idx3-ubyte(\.gz)?: is MNIST's, not {raw.parent.name}'s .* data=mnist"):
            sources.read(dataset, tmp_path)
    assert not (raw / ".lock").exists()


# ---- data sets of torchvision that have no published checksum of their raw files, from a mirror on this machine


@pytest.fixture(params=["fashion_mnist", "kmnist"])
def mirrored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A data set of 20 training and 10 test images on a web server, and the server's folder."""
    import torchvision

    monkeypatch.setattr(sources, "COUNTS", {"train": 20, "test": 10})
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
            resources.append((archive.name, md5(archive.read_bytes())))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
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


@pytest.fixture
def fetched(mirrored: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A data set that came from its mirror, which is gone since, and its folder of raw files."""
    raw = sources.raw_folder(mirrored[0], tmp_path / "data")
    monkeypatch.setattr(sources, "fetchers", no_network)
    return mirrored[0], raw


@pytest.mark.parametrize("content", ["", "[]", "{}", "no JSON", "null", '{"train-images-idx3-ubyte": 5}', '{"a": "b"}', "\udcff"])
def test_a_damaged_record_is_made_anew_and_said(
    fetched: tuple[str, Path], content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, raw = fetched
    record = (raw / "checksums.json").read_text()
    (raw / "checksums.json").write_text(content, errors="surrogateescape")
    sources.read(dataset, raw.parent.parent, fetch=False)
    assert (raw / "checksums.json").read_text(errors="surrogateescape") == content, "reading writes nothing"
    capsys.readouterr()
    sources.read(dataset, raw.parent.parent)
    assert capsys.readouterr().err.count("\n") == 1
    assert json.loads((raw / "checksums.json").read_text()) == json.loads(record)
    sources.read(dataset, raw.parent.parent)
    assert not capsys.readouterr().err


def test_a_record_that_disagrees_is_refused_also_if_it_is_not_whole(fetched: tuple[str, Path]) -> None:
    dataset, raw = fetched
    (raw / "checksums.json").write_text(json.dumps({"t10k-labels-idx1-ubyte": 32 * "0"}))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is truncated or altered \(its MD5 is not 000"):
        sources.read(dataset, raw.parent.parent)


def test_archive_beside_a_file_without_record_is_read_where_the_file_is_another(fetched: tuple[str, Path], tmp_path: Path) -> None:
    dataset, raw = fetched
    (raw / "checksums.json").unlink()
    path = raw / "t10k-labels-idx1-ubyte"
    shutil.copy(tmp_path / "mirror" / f"{path.name}.gz", raw)
    sources.read(dataset, raw.parent.parent)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\5")
    assert sources.load(dataset, raw.parent.parent, "test")[1].tolist() == list(range(10))
    path.unlink()
    assert sources.load(dataset, raw.parent.parent, "test")[1].tolist() == list(range(10))
    (raw / f"{path.name}.gz").write_bytes(gzip.compress(content, 1))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is truncated or altered"):
        sources.read(dataset, raw.parent.parent)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("train-images-idx3-ubyte", np.zeros((10, 28, 28)), r"holds 10 entries \(20 in train-labels.* the train split has 20"),
        ("t10k-labels-idx1-ubyte", np.zeros(20), r"holds 20 entries \(10 in t10k-images.* the test split has 10"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 32, 32)), r"shape \(10, 32, 32\), not \(N, 28, 28\)"),
        ("t10k-images-idx3-ubyte", np.zeros((10, 784)), r"shape \(10, 784\), not \(N, 28, 28\)"),
        ("t10k-labels-idx1-ubyte", np.zeros((10, 1)), r"shape \(10, 1\), not \(N,\)"),
        ("t10k-labels-idx1-ubyte", np.full(10, 10), "labels from 10 to 10, not from 0 to 9"),
    ],
)
def test_files_that_do_not_belong_together_are_refused_and_left(
    fetched: tuple[str, Path], name: str, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", words: str
) -> None:
    dataset, raw = fetched
    (raw / "checksums.json").unlink()
    content = idx.pack(values.astype(np.uint8))
    (raw / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{words}"):
        sources.read(dataset, raw.parent.parent)
    assert (raw / name).read_bytes() == content


def test_files_of_a_data_set_beside_are_known_by_its_record(fetched: tuple[str, Path]) -> None:
    dataset, raw = fetched
    other = next(name for name in ("kmnist", "fashion_mnist") if name != dataset)
    target = raw.parent.parent / sources.DATASETS[other] / "raw"
    shutil.copytree(raw, target)
    (target / "checksums.json").unlink()
    with pytest.raises(DataError, match=rf"is {sources.DATASETS[dataset]}'s, not {sources.DATASETS[other]}'s"):
        sources.read(other, raw.parent.parent)
