"""Files of every common format are read as pillow reads them; what would lose something is refused."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from vae_lightning.data.pictures import Form, decode, fitted

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (7, 11), np.uint8)
COLOUR = RANDOM.integers(0, 256, (7, 11, 3), np.uint8)


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_pixels_are_those_that_were_saved(kind: str) -> None:
    assert np.array_equal(decode(file(Image.fromarray(GREY), kind), Form()), GREY[None])
    assert np.array_equal(decode(file(Image.fromarray(COLOUR), kind), Form()), COLOUR.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_pixels_of_lossy_files_are_pillows(kind: str) -> None:
    content = file(Image.fromarray(COLOUR), kind)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode(content, Form()), expected)


def test_channels_are_as_asked() -> None:
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    assert np.array_equal(decode(file(colour), Form(channels=1)), np.asarray(colour.convert("L"))[None])
    assert np.array_equal(decode(file(grey), Form(channels=3)), np.repeat(GREY[None], 3, 0))


def test_black_and_white_and_palettes_become_levels() -> None:
    bits = Image.fromarray(GREY > 127)
    assert np.array_equal(decode(file(bits), Form()), (GREY > 127)[None].astype(np.uint8) * 255)
    palette = Image.fromarray(COLOUR).quantize(8)
    assert np.array_equal(decode(file(palette), Form()), np.asarray(palette.convert("RGB")).transpose(2, 0, 1))


def test_an_image_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = file(Image.fromarray(GREY), exif=exif)
    assert np.array_equal(decode(content, Form()), np.rot90(GREY, -1)[None])


def test_opaque_alpha_says_nothing_and_transparent_pixels_need_a_background() -> None:
    opaque = np.dstack([COLOUR, np.full((7, 11), 255, np.uint8)])
    assert np.array_equal(decode(file(Image.fromarray(opaque)), Form()), COLOUR.transpose(2, 0, 1))
    clear = opaque.copy()
    clear[2, 3, 3] = 0
    with pytest.raises(ValueError, match=r"transparent pixels; .*background=black or background=white"):
        decode(file(Image.fromarray(clear)), Form())
    for background, level in (("black", 0), ("white", 255)):
        pixels = decode(file(Image.fromarray(clear)), Form(background=background))  # type: ignore[arg-type]
        assert pixels[:, 2, 3].tolist() == [level] * 3
        pixels[:, 2, 3] = COLOUR[2, 3]
        assert np.array_equal(pixels, COLOUR.transpose(2, 0, 1))
    grey = Image.fromarray(np.dstack([GREY, np.full((7, 11), 0, np.uint8)]))
    assert decode(file(grey), Form(background="white")).tolist() == np.full((1, 7, 11), 255).tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (file(Image.fromarray(GREY.astype(np.uint16))), "more than 8 bits a channel"),
        (file(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "more than 8 bits a channel"),
        (file(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "more than 8 bits a channel"),
        (file(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]), "holds 2 frames"),
        (file(Image.fromarray(GREY))[:-30], "damaged"),
        (file(Image.fromarray(RANDOM.integers(0, 256, (90, 90), np.uint8)), "JPEG")[:2000], "damaged"),
        (b"some notes\n", "no image that can be read"),
        (b"", "no image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image that can be read"),
    ],
)
def test_what_cannot_be_read_as_meant_is_said_in_one_line(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        decode(content, Form(channels=1))
    assert "\n" not in str(refusal.value)


def test_colour_of_16_bits_is_refused_though_pillow_reads_its_upper_half() -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(6 * 4) for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert Image.open(io.BytesIO(content)).mode == "RGB"
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode(content, Form())


@pytest.mark.parametrize("pixels", [GREY[None], COLOUR.transpose(2, 0, 1)])
def test_scaled_images_are_those_that_pillow_crops_about_the_centre(pixels: Any) -> None:
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    expected = np.asarray(ImageOps.fit(image, (4, 4), method=Image.Resampling.BICUBIC)).reshape(4, 4, -1).transpose(2, 0, 1)
    assert np.array_equal(decode(file(image), Form(size=4)), expected)
    assert np.array_equal(fitted(pixels, 4), expected)
