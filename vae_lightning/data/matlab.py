"""Read one array of numbers from a MATLAB 5 file: what Larochelle's pixels are kept in, and nothing else of what MATLAB can save.

A reader of its own, as scipy's takes the sizes in a file on trust, and ends the process where one of them is wrong. The format is
"MAT-File Format", The MathWorks, https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf: after a header of 128 bytes come
elements, each with a tag that says its type and size; a matrix is an element of elements: flags, dimensions, name, numbers.
"""

import math
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_lightning.machine.archives import inflate

__all__ = ["MAGIC", "matrix"]

MAGIC = b"MATLAB 5.0"
"""The first bytes of a file of this format."""
HEADER = 128
MATRIX, PACKED = 14, 15
"""Types of elements; a packed one holds another, and is not filled up to a multiple of 8 bytes."""
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""numpy's names for the types of elements that hold numbers."""
NUMERIC = range(6, 16)
"""Classes of matrices that hold numbers, which may be stored as numbers of a smaller type."""
COMPLEX = 0x800


def matrix(content: bytes, name: str, most: int) -> NDArray[Any]:
    """The matrix called `name` in a file.

    Args:
        most: the most bytes that the file may unpack to.

    Raises:
        ValueError: there is none, the file is damaged, or it unpacks to more.

    >>> def element(kind, data):
    ...     return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
    >>> shape, numbers = struct.pack("<ii", 1, 3), bytes([1, 0, 1])
    >>> parts = element(6, bytes([9, 0, 0, 0, 0, 0, 0, 0])) + element(5, shape) + element(1, b"X") + element(2, numbers)
    >>> matrix(b"MATLAB 5.0".ljust(124) + b"\\0\\1IM" + element(14, parts), "X", most=1000).tolist()
    [[1, 0, 1]]
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("does not say in which order its bytes are")
    for kind, data in _elements(content[HEADER:], order):
        if kind == PACKED:
            unpacked = inflate(data, most)
            most -= len(unpacked)
            kind, data = next(_elements(unpacked, order), (0, b""))
        if kind == MATRIX and (found := _named(data, name, order)) is not None:
            return found
    raise ValueError(f"holds no matrix of numbers that is called {name}")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The type and the data of each element."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        start, there = place + 8, len(content) - place - 8
        following = start + size + (0 if kind == PACKED else -size % 8)
        if kind >> 16:  # up to four bytes stand in the tag
            kind, size, start, there, following = kind & 0xFFFF, kind >> 16, place + 4, 4, place + 8
        if size > there:
            raise ValueError("an element of it claims more bytes than there are")
        yield kind, content[start : start + size]
        place = following


def _named(content: bytes, name: str, order: str) -> NDArray[Any] | None:
    """The numbers of a matrix, if it is called `name` and holds real numbers."""
    parts = [*_elements(content, order)][:4]
    if len(parts) < 4 or parts[2][1] != name.encode():
        return None
    (_, flags), (_, sizes), _, (kind, values) = parts
    described = struct.unpack(f"{order}II", flags)[0] if len(flags) == 8 else 0
    if described & 0xFF not in NUMERIC or described & COMPLEX or kind not in NUMBERS:
        return None
    shape = [int(size) for size in np.frombuffer(sizes, f"{order}i4")]
    numbers = np.frombuffer(values, order + NUMBERS[kind])
    if min(shape, default=0) < 0 or math.prod(shape) != len(numbers):
        raise ValueError(f"{name} in it has {len(numbers):,} numbers, and claims the shape {shape}")
    return numbers.reshape(shape, order="F")
