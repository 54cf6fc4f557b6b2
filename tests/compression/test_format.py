"""A file comes back as it was written; a damaged one, another version's or no such file is refused in one line."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from vae_lightning.compression.coder import Message
from vae_lightning.compression.format import MAGIC, Header, read_file, write_file
from vae_lightning.errors import DataError

HEADER = Header("ab" * 32, 3, (1, 2, 2), chains=2, latent_bits=12, initial_bits=128, images_sha256="")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    message = Message(np.array([2**32, 2**64 - 1], np.uint64), [np.arange(3, dtype=np.uint32), np.zeros(0, np.uint32)])
    assert write_file(tmp_path / "a", HEADER, message) == (tmp_path / "a").stat().st_size
    return tmp_path / "a"


def signed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def test_header_and_chains_come_back(path: Path) -> None:
    header, message = read_file(path)
    assert header == HEADER
    assert message.state.tolist() == [2**32, 2**64 - 1]
    assert [stack.tolist() for stack in message.stacks] == [[0, 1, 2], []]


def test_every_changed_byte_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"holds no images|is damaged"):
            read_file(path)


@pytest.mark.parametrize("size", [0, 4, 8, 11, 100])
def test_a_file_cut_off_is_refused(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"holds no images|is damaged"):
        read_file(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "is of version 2"),
        ({"chains": 3}, "no whole file"),
        ({"chains": 1}, "no whole file"),
        ({"chains": 10**9}, "no whole file"),
        ({"num_images": -1}, "out of range"),
        ({"latent_bits": 40}, "out of range"),
        ({"image_shape": [1, 2]}, "out of range"),
        ({"image_shape": 7}, "no whole file"),
    ],
)
def test_a_header_that_lies_is_refused(path: Path, change: dict[str, object], reason: str) -> None:
    content = path.read_bytes()[:-32]
    length = int.from_bytes(content[8:12], "little")
    text = json.dumps(json.loads(content[12 : 12 + length]) | change).encode()
    path.write_bytes(signed(MAGIC + len(text).to_bytes(4, "little") + text + content[12 + length :]))
    with pytest.raises(DataError, match=reason):
        read_file(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path / "none")
