"""Files of compressed images: what is in them, and the refusal of a damaged file or of another model's.

A file is `MAGIC`, the length of the header as four bytes, the header as JSON, and the chains: for each, how many words are below
its number, four bytes, then the number, eight, then the words, four each; at the end the SHA-256 of all before it. All numbers are
little-endian.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vae_lightning.compression.coder import Message
from vae_lightning.errors import DataError, one_line
from vae_lightning.machine.files import write_bytes

__all__ = ["MAGIC", "VERSION", "Header", "read_file", "write_file"]

MAGIC = b"VAEBITS\n"
VERSION = 1
"""The number of the format and of the arithmetic: what another version wrote cannot be read."""
DIGEST = 32


@dataclass(frozen=True)
class Header:
    """What a file says of its images.

    >>> Header("0" * 64, 10_000, (1, 28, 28), chains=100, latent_bits=12, initial_bits=25_600, images_sha256="").pixels
    7840000
    """

    weights: str
    """SHA-256 of the model's weights, `runs.LoadedRun.digest`."""
    num_images: int
    """N."""
    image_shape: tuple[int, ...]
    """`(C, H, W)`."""
    chains: int
    """How many chains the images are on."""
    latent_bits: int
    """log2 of the number of buckets of a latent dimension."""
    initial_bits: int
    """Random bits that the chains had before their first images."""
    images_sha256: str
    """SHA-256 of the images, eight pixels a byte, and of the labels, eight bytes each."""
    version: int = VERSION
    """The format's."""

    @property
    def pixels(self) -> int:
        """How many pixels and channels all images have together."""
        return self.num_images * int(np.prod(self.image_shape))


def write_file(path: Path, header: Header, message: Message) -> int:
    """Write header and chains, whole or not at all, and give the size of the file in bytes.

    Raises:
        StorageError: the file cannot be written.
    """
    text = json.dumps(asdict(header)).encode()
    parts = [MAGIC, len(text).to_bytes(4, "little"), text]
    for state, stack in zip(message.state, message.stacks, strict=True):
        parts += [len(stack).to_bytes(4, "little"), int(state).to_bytes(8, "little"), stack.astype("<u4").tobytes()]
    content = b"".join(parts)
    content += hashlib.sha256(content).digest()
    write_bytes(path, content)
    return len(content)


def read_file(path: Path) -> tuple[Header, Message]:
    """The header and the chains of a file.

    Raises:
        DataError: it cannot be read, is no such file, of another version, or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from error
    if not content.startswith(MAGIC):
        raise DataError(f"{path}: holds no images compressed by vae-compress")
    body = content[:-DIGEST]
    if hashlib.sha256(body).digest() != content[-DIGEST:]:
        raise DataError(f"{path}: is damaged or cut off: its checksum is wrong; compress the images anew")
    try:
        length = int.from_bytes(body[8:12], "little")
        header = _header(json.loads(body[12 : 12 + length]), path)
        return header, _message(body[12 + length :], header.chains)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no whole file of compressed images ({one_line(error, 100)})") from error


def _header(plain: Mapping[str, Any], path: Path) -> Header:
    if plain["version"] != VERSION:
        raise DataError(f"{path}: is of version {plain['version']}, and this vae_lightning reads version {VERSION}")
    header = Header(**{field.name: plain[field.name] for field in fields(Header)})
    shape = tuple(header.image_shape)
    counts = (header.num_images, header.chains, header.latent_bits, *shape)
    if not (all(type(count) is int and count >= 1 for count in counts) and len(shape) == 3 and header.latent_bits <= 16):
        raise ValueError("a number in its header is out of range")
    return Header(**{**asdict(header), "image_shape": shape})


def _message(chains: bytes, count: int) -> Message:
    states, stacks, place = [], [], 0
    for _ in range(count):
        length = int.from_bytes(chains[place : place + 4], "little")
        states.append(int.from_bytes(chains[place + 4 : place + 12], "little"))
        stacks.append(np.frombuffer(chains, "<u4", length, place + 12))
        place += 12 + 4 * length
    if place != len(chains) or min(states) < 2**32:
        raise ValueError("its chains have other lengths than they say")
    return Message(np.array(states, np.uint64), stacks)
