"""Gated dense nets: what a gate computes, shapes, sizes and labels."""

from itertools import pairwise
from typing import Any

import pytest
import torch

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets.gated import GatedMLPDecoder, GatedMLPEncoder
from vae_lightning.nets.layers import GatedLinear

X = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_gated_layer_is_a_linear_one_times_a_sigmoid_gate() -> None:
    layer, x = GatedLinear(4, 3), torch.randn(5, 4)
    (a, b), (shift, threshold) = layer.weight.chunk(2), layer.bias.chunk(2)
    torch.testing.assert_close(layer(x), (x @ a.mT + shift) * (x @ b.mT + threshold).sigmoid())


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("hidden", [(7,), [9, 8]])
def test_shapes_and_sizes(hidden: Any, num_classes: int) -> None:
    encoder, decoder = GatedMLPEncoder(3, num_classes, hidden=hidden), GatedMLPDecoder(3, num_classes, hidden=hidden)
    y = torch.eye(10)[:5] if num_classes else None
    loc, log_variance = encoder(X, y)
    assert loc.shape == log_variance.shape == (5, 3)
    assert decoder(loc, y).shape == (5, 1, 28, 28)
    body = sum(2 * (before + 1) * after for before, after in pairwise([784 + num_classes, *hidden]))
    assert parameters(encoder) == body + 2 * (hidden[-1] + 1) * 3
    body = sum(2 * (before + 1) * after for before, after in pairwise([3 + num_classes, *reversed(hidden)]))
    assert parameters(decoder) == body + (hidden[0] + 1) * 784


def test_label_changes_what_comes_out() -> None:
    encoder, decoder = GatedMLPEncoder(2, 10, hidden=[6]), GatedMLPDecoder(2, 10, hidden=[6])
    first, second = torch.eye(10)[:2]
    assert not torch.allclose(encoder(X, first.expand(5, -1))[0], encoder(X, second.expand(5, -1))[0])
    z = torch.zeros(5, 2)
    assert not torch.allclose(decoder(z, first.expand(5, -1)), decoder(z, second.expand(5, -1)))


def test_no_dropout() -> None:
    assert GatedMLPEncoder(2, 0).dropout_features == GatedMLPDecoder(2, 0).dropout_features == []


@pytest.mark.parametrize("hidden", [[], [0], [5, -1]])
@pytest.mark.parametrize("net", [GatedMLPEncoder, GatedMLPDecoder])
def test_hidden_layers_must_have_a_size(net: type, hidden: list[int]) -> None:
    with pytest.raises(ConfigurationError, match=r"^hidden=.*: must be one or more sizes above 0"):
        net(2, 0, hidden=hidden)
