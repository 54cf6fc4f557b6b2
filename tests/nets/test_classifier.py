"""The classifiers' networks: their sizes, padding, and where their dropout is."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vae_lightning.errors import ConfigurationError
from vae_lightning.nets.classifier import ClassifierCNN, ClassifierMLP
from vae_lightning.nets.layers import Dropout

X = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_shape_and_size() -> None:
    net = ClassifierCNN(10)
    assert net(X).shape == (3, 10)
    channels = [1, 8, 16, 32, 64]
    convolutions = sum((before * 16 + 1) * after for before, after in pairwise(channels))
    assert sum(p.numel() for p in net.parameters()) == convolutions + (64 * 4 + 1) * 10 == 45_826


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_padding_is_what_torch_calls_same() -> None:
    net = ClassifierCNN(10)
    convolutions = [layer for layer in net.body if isinstance(layer, nn.Conv2d)]
    h = X
    for layer in convolutions:
        h = F.conv2d(h, layer.weight, layer.bias, padding="same")
        h = F.max_pool2d(h, 2, 2, ceil_mode=True).relu()
    torch.testing.assert_close(net(X), net.body[-1](h.flatten(1)))
    assert len(convolutions) == 4


def test_dropout_is_listed_in_the_order_of_use_with_the_features_it_meets() -> None:
    net = ClassifierCNN(10, dropout=0.5)
    met: list[tuple[int, ...]] = []
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.register_forward_hook(lambda _, inputs, __: met.append(tuple(inputs[0].shape[1:])))
    noise = iter([torch.rand(3, *features) for features in net.dropout_features])
    net(X, noise)
    assert met == net.dropout_features == [(8, 14, 14), (16, 7, 7), (32, 4, 4), (64, 2, 2)]
    assert next(noise, None) is None


def test_everything_dropped_leaves_the_bias_of_the_last_layer() -> None:
    net = ClassifierCNN(10, dropout=0.5)
    logits = net(X, iter([torch.zeros(3, *features) for features in net.dropout_features]))
    torch.testing.assert_close(logits, net.body[-1].bias.expand(3, 10))


def test_no_dropout_asked_for_is_no_layer() -> None:
    assert ClassifierCNN(10, dropout=0.0).dropout_features == []


def test_certain_dropout_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^dropout=1\.0"):
        ClassifierCNN(10, dropout=1.0)


# ---- the dense one


@pytest.mark.parametrize("hidden", [[], [7], [9, 8]])
def test_dense_classifier_has_its_sizes_and_features(hidden: list[int]) -> None:
    net, z = ClassifierMLP(10, (5,), hidden), torch.randn(3, 5)
    sizes = [5, *hidden, 10]
    assert sum(p.numel() for p in net.parameters()) == sum((before + 1) * after for before, after in pairwise(sizes))
    features = net.features(z)
    assert features.shape == (3, sizes[-2])
    torch.testing.assert_close(net(z), net.body[-1](features))


def test_dense_classifier_without_hidden_layers_is_a_linear_one_of_pixels() -> None:
    net = ClassifierMLP(10, hidden=[])
    layer = net.body[-1]
    torch.testing.assert_close(net(X), X.flatten(1) @ layer.weight.mT + layer.bias)


def test_dense_classifier_lists_its_dropout() -> None:
    assert ClassifierMLP(10, hidden=[9, 8], dropout=0.5).dropout_features == [(9,), (8,)]
