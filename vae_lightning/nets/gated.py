r"""Dense encoder and decoder with gates in the place of activations: each feature is let through as far as a sigmoid says.

$h = (A x + a) \odot \sigma(B x + b)$: "Language modeling with gated convolutional networks", Dauphin, Fan, Auli and Grangier,
2017, https://arxiv.org/abs/1612.08083; in VAEs of MNIST, "VAE with a VampPrior", Tomczak and Welling, 2018,
https://arxiv.org/abs/1705.07120, whose nets are two such layers of 300.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vae_lightning.arguments import require
from vae_lightning.nets.layers import Decoder, Encoder, GatedLinear, Stack, initialise
from vae_lightning.nets.sizes import image_dimensions
from vae_lightning.types import MNIST_SHAPE

__all__ = ["GatedMLPDecoder", "GatedMLPEncoder"]


def _hidden_layers(sizes: Sequence[int]) -> list[nn.Module]:
    require(len(sizes) > 1 and all(size > 0 for size in sizes), "hidden", list(sizes[1:]), "one or more sizes above 0")
    return [GatedLinear(before, after) for before, after in pairwise(sizes)]


class GatedMLPEncoder(Encoder):
    """Flattened image, and the one-hot label beside it, through gated layers.

    Args:
        hidden: sizes of the hidden layers, from the image on.
        init: a name in `INITIALISATIONS`.

    >>> loc, log_variance = GatedMLPEncoder(latent_dim=2, num_classes=10, hidden=[8])(torch.zeros(4, 1, 28, 28), torch.eye(10)[:4])
    >>> loc.shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        hidden: Sequence[int] = (300, 300),
        init: str = "he",
    ) -> None:
        super().__init__()
        self.body = Stack(*_hidden_layers([math.prod(image_dimensions(image_shape)) + num_classes, *hidden]))
        self.add_heads(hidden[-1], latent_dim)
        initialise(self, init)

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        return x.flatten(1) if y is None else torch.cat([x.flatten(1), y], dim=1)


class GatedMLPDecoder(Decoder):
    """Latent, and the one-hot label beside it, through gated layers: the mirror image of the encoder.

    Args:
        hidden: sizes of the hidden layers, from the image on: the encoder's, used from its end.
        init: a name in `INITIALISATIONS`.

    >>> GatedMLPDecoder(latent_dim=2, num_classes=0, image_shape=(3, 8, 8), hidden=[8])(torch.zeros(4, 2)).shape
    torch.Size([4, 3, 8, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        outputs: int = 1,
        hidden: Sequence[int] = (300, 300),
        init: str = "he",
    ) -> None:
        super().__init__()
        layers = _hidden_layers([latent_dim + num_classes, *reversed(hidden)])
        shape = image_dimensions(image_shape, outputs)
        self.body = Stack(*layers, nn.Linear(hidden[0], math.prod(shape)), nn.Unflatten(1, shape))
        initialise(self, init)
