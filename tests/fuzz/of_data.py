"""Arrays, pictures, raw files and what is packed, made up: what is put before those who read data."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.answers import Target, answered, unchanged
from fuzz.generated import DAMAGE, damaged, member_damaged
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_bad_input import GREY, npy, npz, picture, raw

from vae_lightning.data import ArrayDataModule, FolderDataModule, idx, larochelle, sources
from vae_lightning.figures.recording import read_recording

__all__ = ["array", "packed", "pictures", "raw_files"]


def array(folder: Path) -> Target:
    """Damage to arrays and to what is in them, and arrays of any type and shape."""
    files = [npy(GREY), npz(x=GREY, y=np.arange(20) % 2), npy(GREY / 255), npz(x_train=GREY, x_test=GREY, y_train=np.arange(20))]
    spoilt = st.builds(damaged, st.sampled_from(files), DAMAGE)
    within = st.builds(
        member_damaged, st.sampled_from([file for file in files if file.startswith(b"PK")]), st.integers(0, 3), DAMAGE
    )
    kinds = st.one_of(arrays.scalar_dtypes(), arrays.unicode_string_dtypes(), arrays.byte_string_dtypes())
    any_array = arrays.arrays(kinds, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    names = st.sampled_from(("x", "y", "images", "labels", "x_train", "y_train", "x_test", "y_test", "x_val", "arr_0", "z"))
    made = st.one_of(any_array.map(npy), st.dictionaries(names, any_array, max_size=4).map(lambda held: npz(**held)))

    def examine(content: bytes, splits: str, size: int | None, channels: int | None) -> None:
        (folder / "a.npz").write_bytes(content)
        with unchanged(folder), answered():
            options: Any = {"splits": splits, "size": size, "channels": channels}
            data = ArrayDataModule(path=str(folder / "a.npz"), binarization="none", **options)
            data.evaluation_images("test")

    options = {
        "splits": st.sampled_from(("auto", "seed", "given")),
        "size": st.sampled_from((None, None, 4)),
        "channels": st.sampled_from((None, None, 1, 3)),
    }
    return Target({"content": st.one_of(spoilt, within, made), **options}, examine)


def pictures(folder: Path) -> Target:
    """Damage to pictures of every kind that is read."""
    kinds = [picture(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "WEBP")]
    kinds += [picture("PNG", mode) for mode in ("RGB", "RGBA", "P", "1", "LA", "I;16")] + [
        picture("TIFF", "RGB", compression="tiff_lzw")
    ]
    for number in range(9):
        (folder / f"a{number}.png").write_bytes(picture())

    def examine(content: bytes, size: int | None) -> None:
        (folder / "odd.png").write_bytes(content)
        with unchanged(folder), answered():
            FolderDataModule(path=str(folder), binarization="none", size=size).evaluation_images("test")

    return Target({"content": st.builds(damaged, st.sampled_from(kinds), DAMAGE), "size": st.sampled_from((None, 8, 5))}, examine)


def raw_files(folder: Path) -> Target:
    """Damage to MNIST-like raw files and to the record of their digests, and any IDX file."""
    with pytest.MonkeyPatch.context() as patch:
        raw(lambda files: files, patch, folder)
        counts = sources.COUNTS
    place = folder / "KMNIST" / "raw"
    names = sorted(path.name for path in place.iterdir())
    (place / sources.CHECKSUMS).write_text('{"train-labels-idx1-ubyte": "' + "0" * 32 + '"}')
    whole = {name: (place / name).read_bytes() for name in [*names, sources.CHECKSUMS]}
    (place / sources.CHECKSUMS).unlink()

    def examine(name: str, damage: Any) -> None:
        spoilt = damaged(whole[name], damage)
        with contextlib.suppress(ValueError):
            idx.parse(spoilt)
        (place / name).write_bytes(spoilt)
        try:
            with pytest.MonkeyPatch.context() as patch, unchanged(folder), answered():
                patch.setattr(sources, "COUNTS", counts)
                sources.read("kmnist", folder, fetch=False)
        finally:
            (place / sources.CHECKSUMS).unlink(missing_ok=True)
            if name in names:
                (place / name).write_bytes(whole[name])

    return Target({"name": st.sampled_from(list(whole)), "damage": DAMAGE}, examine)


def packed(folder: Path) -> Target:
    """Damage to what is packed: Larochelle's pixels as MATLAB has them and their labels, and the frames of a training."""
    import scipy.io

    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.zeros((10, 784), np.uint8)}, do_compression=True)
    pixels = file.getvalue()
    frame = npz(reconstructions=GREY, decoded=GREY, z=np.zeros((20, 2), np.float32), labels=np.arange(20), epoch=np.array(1.0))
    for number in range(2):
        (folder / f"step_{number}.npz").write_bytes(frame)
    assert len(read_recording(folder).epochs) == 2

    def examine(member: int | None, damage: Any) -> None:
        with answered():
            assert larochelle._verified(damaged(pixels, damage), "train") is None
        (folder / "step_1.npz").write_bytes(damaged(frame, damage) if member is None else member_damaged(frame, member, damage))
        (folder / larochelle.LABELS).write_bytes((folder / "step_1.npz").read_bytes())
        with unchanged(folder), answered():
            assert larochelle._kept_labels(folder) is None
            read_recording(folder)

    return Target({"member": st.one_of(st.none(), st.integers(0, 4)), "damage": DAMAGE}, examine)
