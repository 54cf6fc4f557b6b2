"""Files are whole or not there."""

import json
import math
from pathlib import Path

import pytest

import vae_lightning
from vae_lightning.errors import DataError, StorageError
from vae_lightning.machine.files import replacing, write_bytes, write_json


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
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("of the block"), DataError("of the block")])
def test_block_that_fails_leaves_the_old_file_and_its_error(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail() -> None:
        with replacing(path) as unfinished:
            unfinished.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)) as failure:
        fail()
    assert failure.value is error
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_two_writers_at_once_each_replace_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path, durable=True) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
        assert not path.exists()
    assert path.read_bytes() == b"first", "the outer block ends last"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_unfinished_file_is_nothing_that_others_look_for(tmp_path: Path) -> None:
    with replacing(tmp_path / "best.ckpt") as unfinished:
        unfinished.write_bytes(b"half")
        assert not list(tmp_path.glob("*.ckpt"))


def test_file_that_could_not_be_read_is_named_when_it_is_another(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"copy: could not be written \(.*No such file.*source"),
        replacing(tmp_path / "copy") as copy,
    ):
        copy.write_bytes((tmp_path / "source").read_bytes())
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"below: could not be written"):
        write_bytes(tmp_path / "file" / "below", b"")


def test_nothing_else_replaces_files() -> None:
    """A finished file that is moved is another thing: reports of other weights, raw files that were fetched together."""
    root = Path(vae_lightning.__file__).parent
    replacers = {str(path.relative_to(root)) for path in root.rglob("*.py") if "os.replace(" in path.read_text()}
    assert replacers == {"machine/files.py", "reports/folder.py", "data/root.py"}


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    content = {"metrics": {"val/elbo": math.nan, "val/kl": 3.0}, "steps": [math.inf, (-math.inf, 1)]}
    write_json(tmp_path / "metrics.json", content)
    read = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert read == {"metrics": {"val/elbo": None, "val/kl": 3.0}, "steps": [None, [None, 1]]}
