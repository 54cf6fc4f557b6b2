"""Compressing and decompressing as a whole: the same bits however many chains are computed at once."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from code_lengths import Toy

from vae_lightning.compression.format import write_file
from vae_lightning.compression.measuring import compress, decompress, promised_bits
from vae_lightning.errors import ConfigurationError, DataError

WEIGHTS = "ab" * 32


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_a_file_does_not_depend_on_how_many_chains_are_computed_at_once(batch: int, tmp_path: Path) -> None:
    model = Toy(1.0, 0.5)
    x, y = model.draw(30)
    whole, parts = (compress(model, x, y, WEIGHTS, chains=7, batch=size) for size in (None, batch))
    for name, compressed in (("whole", whole), ("parts", parts)):
        write_file(tmp_path / name, compressed.header, compressed.message)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "parts").read_bytes()
    assert torch.equal(decompress(model, whole.header, whole.message, batch=batch)[0], x)


@pytest.mark.parametrize(("count", "chains"), [(1, 100), (5, 4)])
def test_chains_of_a_single_image_come_back(count: int, chains: int) -> None:
    model = Toy()
    x, y = model.draw(count)
    compressed = compress(model, x, y, WEIGHTS, chains=chains, batch=1)
    assert compressed.bits.shape == (count,)
    assert torch.equal(decompress(model, compressed.header, compressed.message)[0], x)


def test_lengths_are_of_what_is_in_the_chains() -> None:
    model = Toy()
    compressed = compress(model, *model.draw(200), WEIGHTS, chains=4)
    stored = 8 * sum(8 + 4 * len(stack) for stack in compressed.message.stacks)
    assert (compressed.bits_per_pixel + compressed.initial_bits_per_pixel) * 200 * 12 == pytest.approx(stored)
    assert compressed.bits_per_pixel == pytest.approx(
        (compressed.message.bits - compressed.header.initial_bits) / 2400, abs=4 * 33 / 2400
    )


def test_the_promise_is_the_elbo_and_the_label() -> None:
    model = Toy(num_classes=3)
    x, y = model.draw(40)
    with torch.no_grad():
        exact = -model.likelihood(torch.zeros(40, 2), y).log_prob(x) / math.log(2) + math.log2(3)
    assert torch.allclose(promised_bits(model, x, y), exact.double(), atol=1e-5)


def test_grey_images_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not binary"):
        compress(Toy(), torch.full((2, 1, 3, 4), 0.5), None, WEIGHTS)


@pytest.mark.parametrize(("key", "value"), [("chains", 0), ("latent_bits", 17), ("batch", 0)])
def test_settings_out_of_range_are_refused(key: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{key}={value}"):
        compress(Toy(), torch.zeros(2, 1, 3, 4), None, WEIGHTS, **{key: value})  # type: ignore[arg-type]


def test_other_images_than_were_compressed_are_refused() -> None:
    model = Toy(1.0, 0.5)
    compressed = compress(model, *model.draw(20), WEIGHTS, chains=3)
    compressed.message.state[0] ^= np.uint64(1)
    with pytest.raises(DataError, match=r"not the images that were compressed|ends before"):
        decompress(model, compressed.header, compressed.message)


def test_another_models_weights_would_give_other_images() -> None:
    model = Toy(1.0, 0.5)
    compressed = compress(model, *model.draw(20), WEIGHTS, chains=3)
    header = dataclasses.replace(compressed.header, latent_bits=11)
    with pytest.raises(DataError):
        decompress(model, header, compressed.message)
