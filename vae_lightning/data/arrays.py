"""Read images and labels from the content of a `.npy` or `.npz` file, whatever the names and types of its arrays."""

import io
import logging
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_lightning.errors import DataError, one_line, printable
from vae_lightning.machine.archives import require_as_claimed, require_no_larger
from vae_lightning.machine.reading import UnfitFile

__all__ = ["Member", "labels_of", "members_of", "to_pixels"]

log = logging.getLogger(__name__)

NPY, NPZ = b"\x93NUMPY", b"PK"
"""The first bytes of `.npy` and of `.npz` files."""
SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
PAIRS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))
"""Names of images and labels of a split, in a file that has several."""
WHOLE = (("images", "labels"), ("x", "y"), ("arr_0", "arr_1"))
"""Names of images and labels in a file that has one array of them."""
WANTED = "images and labels, x and y, or x_train, y_train, x_test, y_test"
CHANNELS = (1, 3)
AT_ONCE = 4096
"""Images whose floats are turned into bytes at once."""
GREY_WEIGHTS = (19595, 38470, 7471)
"""Weights of red, green and blue in a grey level, in parts of 65,536 (ITU-R 601), as in pillow."""


class Member(NamedTuple):
    """One array of a file.

    >>> member = Member(np.zeros((2, 4, 4), np.uint8), said="[x]")
    >>> f"digits.npz{member.said}: {len(member.array)} images"
    'digits.npz[x]: 2 images'
    """

    array: NDArray[Any]
    """The content."""
    said: str
    """The array's name in errors, behind the file's name; empty in a file that holds one array."""


def members_of(content: bytes, where: str) -> dict[str, tuple[Member, Member | None]]:
    """Images and labels by split, or as "all".

    Args:
        where: the user's name for the file, for errors.

    Raises:
        DataError: the file is of another kind, is damaged, holds objects, or has no arrays of the known names.

    >>> file = io.BytesIO()
    >>> np.savez(file, x=np.zeros((2, 4, 4), np.uint8), y=np.arange(2))
    >>> images, labels = members_of(file.getvalue(), "some.npz")["all"]
    >>> images.array.shape, labels.array.tolist(), images.said
    ((2, 4, 4), [0, 1], '[x]')
    """
    if not content.startswith((NPY, NPZ)):
        raise DataError(f"{where}: is neither a .npy nor a .npz file; np.save and np.savez write such files")
    try:
        if content.startswith(NPZ):
            require_no_larger(content)
        require_as_claimed(content)
        held = np.load(io.BytesIO(content), allow_pickle=False)
        if content.startswith(NPY):
            return {"all": (Member(held, ""), None)}
        with held:
            return {split: _pair(held, names) for split, names in _names(sorted(held.files), where)}
    except DataError:
        raise
    except UnfitFile as error:
        raise DataError(f"{where}: {error}; give a smaller file") from error
    except MemoryError as error:
        raise DataError(f"{where}: its arrays do not fit into memory; give a smaller file") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        words = one_line(error, 200)
        if "allow_pickle" in words:
            raise DataError(
                f"{where}: holds Python objects, which are not read, as that would run code; save one array of numbers: "
                "np.save(file, np.stack(images))"
            ) from error
        raise DataError(f"{where}: is truncated or damaged ({words})") from error
    except Exception as error:  # zlib, zipfile and struct have errors of their own, and all mean the same here
        raise DataError(f"{where}: is truncated or damaged ({type(error).__name__})") from error


def _names(held: list[str], where: str) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Names of the images and of the labels, by split."""
    pairs: dict[str, tuple[str, str | None]] = {}
    for split, words in SPLITS.items():
        for images, labels in ((i.format(word), j.format(word)) for word in words for i, j in PAIRS):
            if images in held:
                pairs.setdefault(split, (images, labels if labels in held else None))
    if not pairs:
        whole = [(images, labels if labels in held else None) for images, labels in WHOLE if images in held]
        pairs = dict.fromkeys(["all"], whole[0]) if whole else {}
    if not pairs and len(held) == 1:
        pairs = {"all": (held[0], None)}
    if not pairs or not {"all", "train"} & set(pairs):
        raise DataError(f"{where}: holds {', '.join(held) or 'no arrays'}, and none is called as images are: {WANTED}")
    left = sorted({*held} - {name for pair in pairs.values() for name in pair})
    if left:
        log.warning("%s: passed over what is neither images nor labels (%s)", where, printable(", ".join(left[:5])[:300]))
    yield from pairs.items()


def _pair(held: Any, names: tuple[str, str | None]) -> tuple[Member, Member | None]:
    images, labels = (None if name is None else Member(held[name], f"[{name}]") for name in names)
    assert images is not None
    return images, labels


def labels_of(labels: NDArray[Any], count: int, where: str) -> NDArray[Any]:
    """Labels `(N,)`, whole numbers or names, of `count` images.

    Raises:
        DataError: they are of another kind.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        raise DataError(f"{where}: has shape {labels.shape}, not (N,); of one-hot labels, save .argmax(1)")
    if labels.shape != (count,):
        raise DataError(f"{where}: has shape {labels.shape}, and there are {count} images")
    if labels.dtype.kind not in "iubUS":
        raise DataError(f"{where}: holds {labels.dtype}; labels are whole numbers (save .astype(int)) or names")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind in "iub":
        if labels.size and int(labels.max()) > np.iinfo(np.int64).max:
            raise DataError(f"{where}: holds {labels.max()}, more than an int64 can hold; number the classes from 0")
        labels = labels.astype(np.int64)
        if labels.size and labels.min() < 0:
            raise DataError(
                f"{where}: holds {labels.min()}; labels are not negative, and images without a label are not known here"
            )
    return labels


def to_pixels(images: NDArray[Any], channels: int | None, where: str) -> NDArray[np.uint8]:
    """Bytes `(N, C, H, W)` of images in one of the known shapes and types.

    Args:
        channels: 1: grey; 3: colour; None: as they are.

    Raises:
        DataError: their shape or type is another, or a value is out of range.

    >>> to_pixels(np.full((1, 2, 2), 0.5), None, "x.npy").tolist()
    [[[[128, 128], [128, 128]]]]
    """
    pixels = _to_bytes(_channels_first(images, where), where)
    if channels == 3 and pixels.shape[1] == 1:
        return np.repeat(pixels, 3, axis=1)
    if channels == 1 and pixels.shape[1] == 3:
        red, green, blue = (weight * pixels[:, c].astype(np.uint32) for c, weight in enumerate(GREY_WEIGHTS))
        return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)[:, None]
    return pixels


def _channels_first(images: NDArray[Any], where: str) -> NDArray[Any]:
    shape = images.shape
    if 0 in shape:
        raise DataError(f"{where}: has shape {shape}, so there is no image in it")
    if len(shape) == 3 and shape[2] in CHANNELS:
        raise DataError(f"{where}: has shape {shape}, as one image (H, W, C) has; several are (N, H, W) or (N, H, W, C)")
    if len(shape) == 3:
        return images[:, None]
    if len(shape) != 4 or not {shape[1], shape[3]} & set(CHANNELS):
        raise DataError(f"{where}: has shape {shape}, not (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; reshape it")
    if shape[1] in CHANNELS and shape[3] in CHANNELS:
        raise DataError(f"{where}: has shape {shape}, which may be (N, H, W, C) or (N, C, H, W); save grey images as (N, H, W)")
    return images if shape[1] in CHANNELS else images.transpose(0, 3, 1, 2)


def _to_bytes(images: NDArray[Any], where: str) -> NDArray[np.uint8]:
    kind = images.dtype.kind
    if kind == "b":
        return np.ascontiguousarray(images).view(np.uint8) * np.uint8(255)
    if images.dtype == np.uint8:
        if images.max() == 1:
            raise DataError(f"{where}: holds 0 and 1 as uint8, where 255 is white; save .astype(bool), or 255 times it")
        return np.ascontiguousarray(images)
    if kind != "f":
        raise DataError(f"{where}: holds {images.dtype}; images are uint8{_as_uint8(images)}, bool, or floats in [0, 1]")
    pixels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), AT_ONCE):
        pixels[start : start + AT_ONCE] = _levels(images[start : start + AT_ONCE], start, where)
    log.info("%s: its %s became 256 levels", where, images.dtype)
    return pixels


def _as_uint8(images: NDArray[Any]) -> str:
    """How to make bytes of whole numbers: others than those from 0 to 255 would silently become such by `astype`."""
    if images.dtype.kind not in "iu":
        return ""
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        return f" (these are from {low} to {high}: scale them to 0 to 255 first)"
    return " (save .astype(np.uint8))"


def _levels(images: NDArray[Any], start: int, where: str) -> NDArray[np.uint8]:
    """Floats in [0, 1] as the nearest of 256 levels."""
    low, high = float(images.min()), float(images.max())
    if not np.isfinite(images).all():
        bad = start + int(np.argmax(~np.isfinite(images).reshape(len(images), -1).all(1)))
        raise DataError(f"{where}: image {bad} holds values that are not finite")
    if low < 0 or high > 1:
        advice = "; save .astype(np.uint8), or divide by 255" if low >= 0 and 1 < high <= 255 else ""
        raise DataError(f"{where}: holds floats from {low:.4g} to {high:.4g}, not in [0, 1]{advice}")
    levels: NDArray[np.uint8] = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    return levels
