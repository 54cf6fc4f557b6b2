"""What would unpack to more than it should, or claims to hold more than it does, is refused before it is unpacked."""

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_lightning.machine.archives import arrays_in, gunzip, inflate, require_as_claimed, require_no_larger, require_whole
from vae_lightning.machine.reading import UnfitFile


def npy(shape: tuple[int, ...], descr: str = "|u1", content: bytes = b"") -> bytes:
    """A `.npy` file whose header claims any shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


def zipped(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def test_what_torch_saves_is_whole_and_a_flipped_bit_anywhere_in_its_numbers_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"weight": torch.arange(1000.0)}}, path)
    require_whole(path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 400] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # which takes it as it is
    with pytest.raises(ValueError, match="data/0 in it is not as it was written, by its checksum"):
        require_whole(path)


def test_compressed_or_overlapping_members_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"archive/data\.pkl in it is compressed, as torch saves nothing"):
        require_whole(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 16))
        archive.filelist += archive.filelist * 50  # every entry of the directory is the same bytes
    with pytest.raises(ValueError, match="claims to hold more than its size"):
        require_whole(path)


def test_arrays_that_unpack_to_too_much_are_refused_by_the_directory_alone() -> None:
    packed = zipped(z=npy((30 << 20,), content=bytes(30 << 20)))
    assert len(packed) < 1 << 20
    with pytest.raises(UnfitFile, match="unpacks to 31 MB, as no such file does"):
        require_no_larger(packed, 1 << 20)
    require_no_larger(packed, 64 << 20)


@pytest.mark.parametrize("wrapped", [bytes, lambda content: zipped(z=content)])
@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (4,)])
def test_array_that_claims_what_is_not_there_is_refused(wrapped: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"its header claims [\d,]+ values, more than it holds"):
        require_as_claimed(wrapped(npy(shape, "<f8", b"12345678")))
    require_as_claimed(wrapped(npy((1,), "<f8", b"12345678")))


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (3,",  # numpy's tokenizer comes to the end in the middle
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 30 + b", 0)}",  # no array is so long, even of nothing
        b"(" * 300,
        b"\x00",
    ],
)
def test_header_that_nobody_wrote_is_one_kind_of_error_whatever_numpy_makes_of_it(header: bytes) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with pytest.raises(ValueError, match=r"\w"):
        arrays_in(zipped(z=content), ["z"], 1 << 20)


@pytest.mark.parametrize("place", range(0, 120, 7))
def test_cut_archive_is_the_same_kind_of_error(place: int) -> None:
    packed = zipped(z=npy((4,), content=bytes(4)))
    with pytest.raises(ValueError, match=r"\w"):
        arrays_in(packed[:place], ["z"], 1 << 20)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickled_objects_in_arrays_are_not_read(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez(file, z=np.array([Payload(tmp_path / "executed")], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        arrays_in(file.getvalue(), ["z"], 1 << 20)
    assert not (tmp_path / "executed").exists()


def test_arrays_come_back_and_a_missing_one_is_a_missing_key() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, a=np.arange(6).reshape(2, 3), b=np.float64(0.5))
    held = arrays_in(file.getvalue(), ["a", "b"], 1 << 20)
    assert held["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert held["b"].tolist() == 0.5
    with pytest.raises(KeyError):
        arrays_in(file.getvalue(), ["c"], 1 << 20)


def test_gzip_bomb_is_refused_after_what_is_allowed() -> None:
    packed = gzip.compress(bytes(20 << 20))
    with pytest.raises(UnfitFile, match="unpacks to more than 1 MB"):
        gunzip(packed, 1 << 20)
    assert gunzip(packed, 20 << 20) == bytes(20 << 20)
    for damaged in (packed[:-6], b"\x1f\x8b" + packed[2:40], b"none"):
        with pytest.raises((OSError, EOFError, zlib.error, struct.error)):
            gunzip(damaged, 20 << 20)


def test_zlib_bomb_is_refused_after_what_is_allowed() -> None:
    packed = zlib.compress(bytes(30 << 20))
    assert inflate(packed, 30 << 20) == bytes(30 << 20)
    with pytest.raises(UnfitFile, match="unpacks to more than 1 MB"):
        inflate(packed, 1 << 20)
    for damaged in (packed[:-6], packed[:-1], b"none", b""):
        with pytest.raises(ValueError, match=r"\w"):
            inflate(damaged, 30 << 20)
