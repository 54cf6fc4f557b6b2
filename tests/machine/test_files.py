"""Files are whole or not there."""

from pathlib import Path

import pytest

from vae_lightning.errors import StorageError
from vae_lightning.machine.files import write_bytes


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"first", b"second"):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_what_cannot_be_written_is_named_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(self: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"file: could not be written .*No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
