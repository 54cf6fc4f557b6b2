"""The IDX container of MNIST's files (http://yann.lecun.com/exdb/mnist/): a magic number, sizes, then one byte a value."""

import struct
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bytes", "pack", "parse"]

Bytes: TypeAlias = NDArray[np.uint8]
"""An array of unsigned bytes."""


def parse(content: bytes) -> Bytes:
    """The array in an IDX file of unsigned bytes, not to be written to.

    >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])).tolist()
    [7, 9]

    Raises:
        ValueError: the content is of another kind, or shorter or longer than its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError("is not an IDX file")
    if content[2] != 8:
        raise ValueError(f"holds values of the IDX type 0x{content[2]:02x}, not unsigned bytes (0x08)")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError("is truncated in its header")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    # of Python's integers, which do not overflow
    wanted = 1
    for size in shape:
        wanted *= size
    if len(content) - start != wanted:
        raise ValueError(f"is truncated or damaged ({len(content) - start} bytes of values where its header says {wanted})")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def pack(values: Bytes) -> bytes:
    """The content of an IDX file that holds `values`.

    >>> parse(pack(np.zeros((2, 28, 28), np.uint8))).shape
    (2, 28, 28)
    """
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()
