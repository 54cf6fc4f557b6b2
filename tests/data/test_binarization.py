"""Binarization draws what the grey levels say."""

import torch

from vae_lightning.data.binarization import binarize, draw_pixels, to_unit_interval
from vae_lightning.noise import Source, generator


def test_frequencies_are_the_grey_levels_and_black_and_white_exact() -> None:
    draws = 40_000
    grey = torch.arange(256, dtype=torch.uint8).unsqueeze(1).expand(256, draws)
    frequency = to_unit_interval(binarize(grey, "dynamic", generator(0))).double().mean(1)
    p = torch.arange(256, dtype=torch.float64) / 255
    error = (p * (1 - p) / draws).sqrt()
    assert frequency[0] == 0
    assert frequency[255] == 1
    assert ((frequency - p).abs() <= 4.5 * error + 2**-16).all()


def test_pixels_of_training_are_the_grey_levels_and_black_and_white_exact() -> None:
    draws = 40_000
    grey = torch.arange(256, dtype=torch.uint8).expand(draws, 1, 1, 256)
    pixels = draw_pixels(grey, Source.of(grey, 0))
    assert set(pixels.unique().tolist()) == {0, 1}
    p = torch.arange(256, dtype=torch.float64) / 255
    error = (p * (1 - p) / draws).sqrt()
    frequency = pixels.double().mean((0, 1, 2))
    assert frequency[0] == 0
    assert frequency[255] == 1
    assert ((frequency - p).abs() <= 4.5 * error + 2**-16).all()


def test_threshold_is_at_one_half() -> None:
    assert binarize(torch.tensor([0, 127, 128, 255], dtype=torch.uint8), "threshold").tolist() == [0, 0, 255, 255]


def test_none_leaves_grey_levels() -> None:
    grey = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(binarize(grey, "none"), grey)
