"""The numbers of a page: each once, large ones in half the bytes, and those that would suffer from it in all of them."""

import base64

import numpy as np
import pytest
import torch

from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.constants import SMALL, Constants


def test_large_tensors_are_halves_and_small_ones_are_not() -> None:
    constants = Constants()
    large, small = torch.randn(SMALL + 1), torch.randn(SMALL)
    assert torch.equal(constants[constants.add(large)], large.half())
    assert torch.equal(constants[constants.add(small)], small)
    assert torch.equal(_kept(large, "float32"), large)


def _kept(value: torch.Tensor, width: str) -> torch.Tensor:
    constants = Constants(width)  # type: ignore[arg-type]
    return constants[constants.add(value)]


def test_what_a_half_cannot_hold_is_kept_whole() -> None:
    beyond = torch.linspace(-1, 1e6, SMALL + 1)
    assert torch.equal(_kept(beyond, "float16"), beyond)
    double = torch.rand(SMALL + 1, dtype=torch.float64)
    assert torch.equal(_kept(double, "float16"), double.float())


def test_bytes_hold_every_tensor_at_its_place() -> None:
    constants = Constants()
    kept = [
        torch.tensor([True, False, True] * 5),
        torch.arange(5),
        torch.randn(SMALL + 3),
        torch.randn(3, 2),
        torch.arange(7).byte(),
    ]
    for value in kept:
        constants.add(value)
    plain = constants.to_plain()
    block = base64.b64decode(plain["bytes"])
    for value, (kind, shape, start) in zip(kept, plain["tensors"], strict=True):
        assert shape == list(value.shape)
        assert start % 4 == 0
        if kind == "b1":
            read = np.unpackbits(np.frombuffer(block, "u1", -(-value.numel() // 8), start), count=value.numel(), bitorder="little")
        else:
            read = np.frombuffer(block, f"<{kind}", value.numel(), start)
        assert np.allclose(read, value.flatten().numpy(), rtol=1e-3)


def test_a_tensor_that_comes_twice_is_kept_once() -> None:
    constants = Constants()
    weight = torch.randn(40, 30)
    assert constants.add(weight) == constants.add(weight.clone())
    assert constants.add(weight.T.contiguous()) != constants.add(weight)
    assert constants.add(weight.reshape(30, 40)) != constants.add(weight)


@pytest.mark.parametrize(("value", "said"), [(torch.zeros(2) * 1j, "complex numbers"), (torch.tensor([2**40]), "whole numbers")])
def test_numbers_that_no_page_can_hold_are_refused(value: torch.Tensor, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Constants().add(value)
