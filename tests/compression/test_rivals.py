"""General compressors are given every pixel, and what PNG and WebP hold are the images."""

import gzip

import numpy as np
import torch

from vae_lightning.compression.rivals import in_one_picture, packed, sizes_of


def test_packed_images_are_eight_pixels_a_byte() -> None:
    x = torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]).float().view(1, 1, 3, 4)
    assert packed(x) == bytes([0b10000001, 0b11110000])


def test_every_image_stands_in_the_picture() -> None:
    torch.manual_seed(0)
    x = torch.rand(7, 2, 3, 4).round()
    picture = np.asarray(in_one_picture(x)).astype(np.float32)
    across = picture.shape[1] // 8
    for number, image in enumerate(x):
        row, column = divmod(number, across)
        tile = picture[3 * row : 3 * row + 3, 8 * column : 8 * column + 8]
        assert np.array_equal(tile, torch.cat(list(image), -1).numpy())
    assert picture.sum() == x.sum()


def test_sizes_are_of_every_compressor_and_small_for_images_that_are_alike() -> None:
    black, noise = torch.zeros(200, 1, 28, 28), torch.rand(200, 1, 28, 28).round()
    sizes = {name: (size, sizes_of(noise)[name]) for name, size in sizes_of(black).items()}
    assert set(sizes) >= {"gzip", "bz2", "xz", "png"}
    assert sizes["gzip"][0] == len(gzip.compress(packed(black), 9, mtime=0))
    assert all(small < 1000 for small, _ in sizes.values())
    assert all(large > 200 * 98 for _, large in sizes.values())  # noise of one bit a pixel
