"""Dense encoder and decoder: flattened image, hidden layers, latent; and back in mirrored order."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vae_lightning.arguments import choose, require
from vae_lightning.nets.layers import ACTIVATIONS, Decoder, Dropout, Encoder, Stack, initialise
from vae_lightning.nets.sizes import image_dimensions
from vae_lightning.types import MNIST_SHAPE

__all__ = ["MLPDecoder", "MLPEncoder", "hidden_layers"]


def hidden_layers(sizes: Sequence[int], activation: str, dropout: float) -> list[nn.Module]:
    """Dense layers of `sizes`, the first of which is the input's, each with its activation and, if any, its dropout."""
    require(len(sizes) > 1 and all(size > 0 for size in sizes), "hidden", list(sizes[1:]), "one or more sizes above 0")
    function = choose("activation", activation, ACTIVATIONS)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), function()]
        if dropout:
            layers.append(Dropout(dropout, (after,)))
    return layers


class MLPEncoder(Encoder):
    """Flattened image, and the one-hot label beside it, through dense layers.

    Args:
        hidden: sizes of the hidden layers, from the image on.
        activation: a name in `ACTIVATIONS`.
        dropout: probability after every hidden layer.
        init: a name in `INITIALISATIONS`.

    >>> loc, log_variance = MLPEncoder(latent_dim=2, num_classes=10, hidden=[8])(torch.zeros(4, 1, 28, 28), torch.eye(10)[:4])
    >>> loc.shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        hidden: Sequence[int] = (500, 500),
        activation: str = "relu",
        dropout: float = 0.0,
        init: str = "xavier",
    ) -> None:
        super().__init__()
        pixels = math.prod(image_dimensions(image_shape))
        self.body = Stack(*hidden_layers([pixels + num_classes, *hidden], activation, dropout))
        self.add_heads(hidden[-1], latent_dim)
        initialise(self, init)

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        return x.flatten(1) if y is None else torch.cat([x.flatten(1), y], dim=1)


class MLPDecoder(Decoder):
    """Latent, and the one-hot label beside it, through dense layers: the mirror image of the encoder.

    Args:
        hidden: sizes of the hidden layers, from the image on: the encoder's, used from its end.
        activation: a name in `ACTIVATIONS`.
        dropout: probability after every hidden layer.
        init: a name in `INITIALISATIONS`.

    >>> MLPDecoder(latent_dim=2, num_classes=0, image_shape=(3, 8, 8), hidden=[8])(torch.zeros(4, 2)).shape
    torch.Size([4, 3, 8, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        outputs: int = 1,
        hidden: Sequence[int] = (500, 500),
        activation: str = "relu",
        dropout: float = 0.0,
        init: str = "xavier",
    ) -> None:
        super().__init__()
        layers = hidden_layers([latent_dim + num_classes, *reversed(hidden)], activation, dropout)
        shape = image_dimensions(image_shape, outputs)
        self.body = Stack(*layers, nn.Linear(hidden[0], math.prod(shape)), nn.Unflatten(1, shape))
        initialise(self, init)
