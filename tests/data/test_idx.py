"""IDX files are read as they are, or refused where header and content disagree."""

import numpy as np
import pytest

from vae_lightning.data import idx

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_an_array_comes_back_as_it_was() -> None:
    assert np.array_equal(idx.parse(idx.pack(IMAGES)), IMAGES)
    assert idx.pack(IMAGES)[:16] == bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an IDX file"),
        (b"PK\3\4" + bytes(20), "is not an IDX file"),
        (idx.pack(IMAGES)[:-1], "truncated or damaged .23 bytes of values where its header says 24"),
        (idx.pack(IMAGES) + b"\0", "truncated or damaged"),
        (idx.pack(IMAGES)[:9], "truncated in its header"),
        (b"\0\0\x0d" + idx.pack(IMAGES)[3:], "IDX type 0x0d, not unsigned bytes"),
        (bytes([0, 0, 8, 4]) + b"\0\1\0\0" * 4, "truncated or damaged"),
    ],
)
def test_what_its_header_does_not_say_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        idx.parse(content)
