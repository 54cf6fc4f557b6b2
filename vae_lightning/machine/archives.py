"""Packed files that somebody else may have made, checkpoints and arrays among them: looked at before they are unpacked.

A few bytes can unpack to as many gigabytes, and a header can claim numbers that the file does not hold.
"""

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_lightning.machine.reading import UnfitFile, require_memory

__all__ = ["NPY", "arrays_in", "gunzip", "inflate", "require_as_claimed", "require_no_larger", "require_whole"]

NPY = ".npy"


def require_whole(path: Path) -> None:
    """Refuse a zip file that torch has not written, or whose content has changed since.

    torch stores what it saves as it is, with a checksum, so nothing in the file is larger than the file.

    Raises:
        ValueError: a member is compressed, claims more than the file holds, or has another checksum; the message continues "is
            damaged (".
        zipfile.BadZipFile: the file is no zip file, or cut.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        packed = next((member.filename for member in members if member.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise ValueError(f"{packed[:80]} in it is compressed, as torch saves nothing")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("it claims to hold more than its size")
        require_memory(path.stat().st_size)  # which the bytes are read into
        changed = archive.testzip()
    if changed is not None:
        raise ValueError(f"{changed[:80]} in it is not as it was written, by its checksum")


def require_no_larger(content: bytes, most: int | None = None) -> None:
    """Refuse a zip file whose members would be larger than `most` bytes, unpacked; by default than this machine's memory.

    Raises:
        UnfitFile: they would.
        zipfile.BadZipFile: this is no zip file.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        total = sum(member.file_size for member in archive.infolist())
    require_memory(total)
    if most is not None and total > most:
        raise UnfitFile(f"unpacks to {total / 1e6:.0f} MB, as no such file does")


def require_as_claimed(content: bytes) -> None:
    """Refuse a `.npy` or `.npz` file with an array whose header claims more than the file holds, before memory is asked for.

    Raises:
        ValueError: there is such an array, or the file is damaged; the message continues "is damaged (".
    """
    with _one_kind_of_error():
        _require_claims(content)


def _require_claims(content: bytes) -> None:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        _require_claim(io.BytesIO(content), len(content))
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.infolist():
            if member.filename.endswith(NPY):
                with archive.open(member) as file:
                    _require_claim(file, member.file_size)


def _require_claim(file: Any, size: int) -> None:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size - file.tell():
        raise ValueError(f"its header claims {math.prod(shape):,} values, more than it holds")


def arrays_in(content: bytes, names: Collection[str], most: int) -> dict[str, NDArray[Any]]:
    """The arrays called `names` in the content of a `.npz` file; no pickle is read, and no more than `most` bytes unpacked.

    Raises:
        ValueError: the file is damaged or larger, an array claims more than there is or holds objects.
        KeyError: there is no such array.

    >>> file = io.BytesIO()
    >>> np.savez(file, z=np.arange(3))
    >>> arrays_in(file.getvalue(), ["z"], most=1000)["z"].tolist()
    [0, 1, 2]
    """
    arrays = {}
    with _one_kind_of_error(), zipfile.ZipFile(io.BytesIO(content)) as archive:
        require_no_larger(content, most)
        _require_claims(content)
        for name in names:
            with archive.open(f"{name}{NPY}") as file:
                arrays[name] = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    return arrays


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """A block in which whatever is raised for a damaged file is a ValueError.

    zipfile, zlib, struct and numpy, which reads headers by Python's own tokenizer, have a dozen kinds.
    """
    try:
        yield
    except (ValueError, KeyError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def gunzip(packed: bytes, most: int) -> bytes:
    """The content of a gzip file, if it is no longer than `most` bytes.

    Raises:
        UnfitFile: it is longer.
        OSError, EOFError, zlib.error: the file is damaged.

    >>> gunzip(gzip.compress(b"abc"), most=3)
    b'abc'
    """
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UnfitFile(f"unpacks to more than {most / 1e6:.0f} MB, as no such file does")
    return content


def inflate(packed: bytes, most: int) -> bytes:
    """The content of a zlib stream, if it is no longer than `most` bytes.

    Raises:
        ValueError: it is longer, or the stream is damaged.

    >>> inflate(zlib.compress(b"abc"), most=3)
    b'abc'
    """
    stream = zlib.decompressobj()
    with _one_kind_of_error():
        content = stream.decompress(packed, most + 1)
    if len(content) > most:
        raise UnfitFile(f"unpacks to more than {most / 1e6:.0f} MB, as no such file does")
    if not stream.eof:
        raise ValueError("is cut in the middle of what is packed")
    return content
