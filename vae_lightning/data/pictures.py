"""The content of an image file, PNG, JPEG and the like, as bytes of grey levels or colours."""

import io
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = ["FORMATS", "Background", "Form", "decode", "fitted"]

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Names in pillow; its other readers start programs, or hold pages."""
GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
Background = Literal["black", "white"]


class Form(NamedTuple):
    """The form that every image of a folder is brought to.

    >>> Form(channels=1, size=64, background="white").channels
    1
    """

    channels: int | None = None
    """1: grey; 3: colour; None: as in the file."""
    size: int | None = None
    """Pixels a side of the square that each image is scaled and cropped to; None: as in the file."""
    background: Background | None = None
    """The colour behind transparent pixels; None: transparent pixels are refused."""


def decode(content: bytes, form: Form) -> NDArray[np.uint8]:
    """The pixels `(C, H, W)` of an image file, upright by its EXIF.

    Raises:
        ValueError: this is no image that can be read, or not of 8 bits a channel; the message continues the file's name.

    >>> file = io.BytesIO()
    >>> Image.new("RGB", (5, 2), (9, 8, 7)).save(file, "PNG")
    >>> decode(file.getvalue(), Form()).shape
    (3, 2, 5)
    """
    try:
        image: Any = Image.open(io.BytesIO(content), formats=FORMATS)
        _require_plain(image)
        image = ImageOps.exif_transpose(image)
        image = _on_background(image, form)
        if form.size is not None:
            image = _square(image, form.size)
        pixels = np.asarray(image)
    except _Refused as refusal:
        raise ValueError(str(refusal)) from None
    except UnidentifiedImageError:
        raise ValueError(f"is no image that can be read ({', '.join(FORMATS)}); move it elsewhere") from None
    except Exception as error:  # pillow's readers raise many kinds for a damaged file, and all mean the same here
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot be read, as it is damaged ({words}); mend it, or move it elsewhere") from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fitted(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Pixels `(C, H, W)` scaled, with antialiasing, until the shorter side has `size`, and cropped about the centre."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    scaled = np.asarray(_square(image, size))
    return scaled[None] if scaled.ndim == 2 else scaled.transpose(2, 0, 1)


class _Refused(Exception):
    """An image that can be read, but not as it is meant."""


def _require_plain(image: Any) -> None:
    """Refuse what would lose something without a word."""
    frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    if frames > 1:
        raise _Refused(f"holds {frames} frames, not one image; save each as a file of its own")
    # pillow reads 16 bits a channel of colour as 8, and says so in the tiles alone
    if image.mode[0] in "IF" or any(";16" in str(tile) for tile in image.tile):
        raise _Refused("has more than 8 bits a channel; convert it to 8")
    if image.mode not in GREY + COLOUR:
        raise _Refused(f"is neither grey nor RGB (pillow's mode {image.mode}); convert it")


def _on_background(image: Any, form: Form) -> Any:
    """Grey ("L") or colour ("RGB") as wanted, with transparent pixels laid on the background."""
    channels = form.channels or (1 if image.mode in GREY else 3)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            if form.background is None:
                raise _Refused("has transparent pixels; say what they are laid on: background=black or background=white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, form.background), image)
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _square(image: Any, size: int) -> Any:
    return ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC)
