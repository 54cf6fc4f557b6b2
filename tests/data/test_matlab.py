"""Larochelle's container: what scipy writes is read to the number, and nothing in it is taken on trust."""

import io
import struct
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vae_lightning.data import larochelle
from vae_lightning.data.matlab import matrix

MOST = 1 << 20


def saved(packed: bool = True, **values: Any) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, values, do_compression=packed)
    return file.getvalue()


KINDS = st.sampled_from(("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"))


@given(arrays.arrays(KINDS, arrays.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=5)), st.booleans())
def test_what_scipy_writes_is_what_is_read(values: np.ndarray, packed: bool) -> None:
    found = matrix(saved(packed, Y=np.zeros((2, 3)), X=values, Z="text"), "X", MOST)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("values", [np.zeros((2, 2), complex), "text", {"a": 1}, np.array([[1, "a"]], dtype=object)])
def test_what_is_no_matrix_of_real_numbers_is_none(values: Any) -> None:
    with pytest.raises(ValueError, match="holds no matrix of numbers that is called X"):
        matrix(saved(X=values), "X", MOST)


def test_matrix_of_another_name_is_none() -> None:
    with pytest.raises(ValueError, match="holds no matrix of numbers that is called X"):
        matrix(saved(Y=np.zeros((2, 2))), "X", MOST)


def test_claims_are_not_taken_on_trust() -> None:
    whole = saved(packed=False, X=np.ones((2, 3), np.uint8))
    shape = struct.pack("<ii", 2, 3)
    assert whole.count(shape) == 1
    for wrong in ((2, 4), (-2, -3), (0, 3), (2**31 - 1, 2**31 - 1)):
        with pytest.raises(ValueError, match="has 6 numbers, and claims the shape"):
            matrix(whole.replace(shape, struct.pack("<ii", *wrong)), "X", MOST)
    for cut in range(128, len(whole)):
        with pytest.raises(ValueError, match=r"claims more bytes than there are|holds no matrix"):
            matrix(whole[:cut], "X", MOST)
    with pytest.raises(ValueError, match="does not say in which order its bytes are"):
        matrix(whole[:126] + b"XX" + whole[128:], "X", MOST)


def test_matrix_that_unpacks_to_more_than_is_allowed_is_refused() -> None:
    packed = saved(X=np.zeros((2000, 2000), np.uint8))
    assert len(packed) < 10_000
    with pytest.raises(ValueError, match="unpacks to more than 1 MB"):
        matrix(packed, "X", MOST)
    assert matrix(packed, "X", 5_000_000).shape == (2000, 2000)


@settings(max_examples=100)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
def test_damage_is_a_value_error_or_other_numbers(place: int, damage: bytes, packed: bool) -> None:
    content = bytearray(saved(packed, X=np.eye(9)))
    place %= len(content)
    content[place : place + len(damage)] = damage
    try:
        matrix(bytes(content), "X", MOST)
    except ValueError as error:
        assert str(error).strip()  # noqa: PT017


@pytest.mark.parametrize(("place", "byte"), [(176, 0x80), (177, 0x7F), (173, 0x80)])
def test_size_that_is_wrong_by_one_byte_is_refused(place: int, byte: int) -> None:
    """A fuzz found it: scipy 1.17 reads memory that is not the file's, and the process is ended by the system."""
    content = bytearray(saved(packed=False, X=np.zeros((2, 3), np.uint8)))
    content[place] = byte
    assert larochelle._verified(bytes(content), "train") is None
