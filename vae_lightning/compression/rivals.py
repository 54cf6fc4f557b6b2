"""The sizes that general compressors make of binary images, which a model's is to be seen beside.

gzip, bz2 and xz at their strongest, of the images one after the other with eight pixels a byte; PNG and lossless WebP of all
images in one picture, as near to a square as they fit, a pixel a bit in PNG.
"""

import bz2
import gzip
import io
import lzma
import math

import numpy as np
from PIL import Image, features
from torch import Tensor

__all__ = ["in_one_picture", "packed", "sizes_of"]

WIDEST = 16_383
"""Pixels of a side of a WebP."""


def packed(images: Tensor) -> bytes:
    """Images `(N, C, H, W)` of zeros and ones one after the other, eight pixels a byte."""
    return np.packbits(images.flatten().numpy().astype(np.bool_)).tobytes()


def in_one_picture(images: Tensor) -> Image.Image:
    """Images `(N, C, H, W)` of zeros and ones in rows, each channel beside the last, as one picture of black and white.

    >>> import torch
    >>> in_one_picture(torch.ones(5, 1, 4, 6)).size
    (12, 12)
    """
    count, channels, height, width = images.shape
    across = max(1, round(math.sqrt(count * height / (channels * width))))
    rows = -(-count // across)
    canvas = np.zeros((rows * across, channels, height, width), np.uint8)
    canvas[:count] = images.numpy()
    canvas = canvas.reshape(rows, across, channels, height, width).transpose(0, 3, 1, 2, 4)
    return Image.fromarray(canvas.reshape(rows * height, across * channels * width) * np.uint8(255)).convert("1")


def sizes_of(images: Tensor) -> dict[str, int]:
    """Bytes that each compressor makes of images `(N, C, H, W)` of zeros and ones, by its name."""
    content, picture = packed(images), in_one_picture(images)
    sizes = {
        "gzip": len(gzip.compress(content, 9, mtime=0)),
        "bz2": len(bz2.compress(content, 9)),
        "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
        "png": _saved(picture, "PNG", optimize=True),
    }
    if features.check("webp") and max(picture.size) <= WIDEST:
        sizes["webp"] = _saved(picture.convert("RGB"), "WEBP", lossless=True, quality=100, method=4)
    return sizes


def _saved(picture: Image.Image, format: str, **how: object) -> int:
    file = io.BytesIO()
    picture.save(file, format, **how)
    return len(file.getvalue())
