"""Gradients inside of a graph are clipped as torch and Lightning clip them outside."""

import pytest
import torch

from vae_lightning.engine.update.clipping import clipped

GRADIENTS = [torch.tensor([[3.0, -4.0], [0.5, 0.0]]), torch.tensor([12.0])]


@pytest.mark.parametrize("largest", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_what_torch_leaves(algorithm: str, largest: float) -> None:
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in GRADIENTS]
    for parameter, gradient in zip(parameters, GRADIENTS, strict=True):
        parameter.grad = gradient.clone()
    clip = torch.nn.utils.clip_grad_norm_ if algorithm == "norm" else torch.nn.utils.clip_grad_value_
    clip(parameters, largest)
    ours = clipped(GRADIENTS, torch.tensor(largest, dtype=torch.float64), algorithm)
    for parameter, gradient in zip(parameters, ours, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(gradient, parameter.grad, rtol=1e-6)
        assert gradient.dtype == torch.float32
    assert GRADIENTS[1].item() == 12.0, "the gradients themselves are as they were"
