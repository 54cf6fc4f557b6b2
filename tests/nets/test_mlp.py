"""Dense nets: shapes, sizes, labels, and dropout in the order in which it is used."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets.layers import Dropout
from vae_lightning.nets.mlp import MLPDecoder, MLPEncoder

X = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("hidden", [(7,), [9, 8], (9, 8, 7)])
def test_shapes_and_sizes(hidden: Any, num_classes: int) -> None:
    encoder, decoder = MLPEncoder(3, num_classes, hidden=hidden), MLPDecoder(3, num_classes, hidden=hidden)
    y = torch.eye(10)[:5] if num_classes else None
    loc, log_variance = encoder(X, y)
    assert loc.shape == log_variance.shape == (5, 3)
    assert decoder(loc, y).shape == (5, 1, 28, 28)
    sizes = [784 + num_classes, *hidden]
    body = sum((before + 1) * after for before, after in pairwise(sizes))
    assert parameters(encoder) == body + 2 * (hidden[-1] + 1) * 3
    sizes = [3 + num_classes, *reversed(hidden), 784]
    assert parameters(decoder) == sum((before + 1) * after for before, after in pairwise(sizes))


def test_encoder_is_the_function_it_says() -> None:
    encoder = MLPEncoder(2, 0, hidden=[6], activation="tanh")
    layer = encoder.body[0]
    h = (X.flatten(1) @ layer.weight.mT + layer.bias).tanh()
    loc, log_variance = encoder(X)
    torch.testing.assert_close(loc, h @ encoder.loc.weight.mT + encoder.loc.bias)
    torch.testing.assert_close(log_variance, h @ encoder.log_variance.weight.mT + encoder.log_variance.bias)


def test_label_changes_what_comes_out() -> None:
    encoder, decoder = MLPEncoder(2, 10, hidden=[6]), MLPDecoder(2, 10, hidden=[6])
    first, second = torch.eye(10)[:2]
    assert not torch.allclose(encoder(X, first.expand(5, -1))[0], encoder(X, second.expand(5, -1))[0])
    z = torch.zeros(5, 2)
    assert not torch.allclose(decoder(z, first.expand(5, -1)), decoder(z, second.expand(5, -1)))


@pytest.mark.parametrize("net", [net(2, 0, hidden=(9, 8, 7), dropout=0.5) for net in (MLPEncoder, MLPDecoder)])
def test_dropout_is_listed_in_the_order_of_use_with_the_features_it_meets(net: MLPEncoder | MLPDecoder) -> None:
    met: list[tuple[int, ...]] = []
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.register_forward_hook(lambda _, inputs, __: met.append(tuple(inputs[0].shape[1:])))
    noise = iter([torch.rand(5, *features) for features in net.dropout_features])
    net(X if isinstance(net, MLPEncoder) else torch.randn(5, 2), None, noise)
    assert met == net.dropout_features
    assert len(met) == 3
    assert next(noise, None) is None


def test_dropout_noise_below_p_everywhere_leaves_only_the_biases() -> None:
    encoder = MLPEncoder(2, 0, hidden=[6], dropout=0.5)
    torch.nn.init.normal_(encoder.loc.bias)

    def loc(noise: Tensor) -> Tensor:
        return encoder(X, None, iter([noise]))[0]

    torch.testing.assert_close(loc(torch.zeros(5, 6)), encoder.loc.bias.expand(5, 2))
    assert not torch.allclose(loc(torch.ones(5, 6)), encoder.loc.bias.expand(5, 2))


def test_no_dropout_asked_for_is_no_layer() -> None:
    assert MLPEncoder(2, 0).dropout_features == []


@pytest.mark.parametrize("hidden", [[], [0], [5, -1]])
@pytest.mark.parametrize("net", [MLPEncoder, MLPDecoder])
def test_hidden_layers_must_have_a_size(net: type, hidden: list[int]) -> None:
    with pytest.raises(ConfigurationError, match=r"^hidden=.*: must be one or more sizes above 0"):
        net(2, 0, hidden=hidden)


def test_unknown_activation_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^activation=rely: unknown; did you mean relu\?"):
        MLPEncoder(2, 0, activation="rely")
