"""Networks of classifiers: a small CNN with dropout, 45,826 parameters for MNIST's ten digits, and a dense one."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vae_lightning.arguments import require
from vae_lightning.nets.layers import Dropout, Net, Stack, initialise
from vae_lightning.nets.mlp import hidden_layers
from vae_lightning.nets.sizes import image_dimensions
from vae_lightning.types import MNIST_SHAPE

__all__ = ["ClassifierCNN", "ClassifierMLP"]


class ClassifierCNN(Net):
    """Four times [convolution 4x4 'same', max-pool 2x2 in ceil mode, ReLU, dropout], then dense to logits `(B, num_classes)`.

    Each turn halves the height and the width of images `(B, C, H, W)`, 28-14-7-4-2 for MNIST.

    Args:
        image_shape: of one image, `(C, H, W)`.
        dropout: probability after every turn.
        init: a name in `INITIALISATIONS`.

    >>> ClassifierCNN(num_classes=5, image_shape=(3, 32, 32))(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self, num_classes: int, image_shape: Sequence[int] = MNIST_SHAPE, dropout: float = 0.2, init: str = "default"
    ) -> None:
        super().__init__()
        colours, height, width = image_dimensions(image_shape)
        channels = [colours, 8, 16, 32, 64]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            height, width = -(-height // 2), -(-width // 2)
            layers += [
                nn.ZeroPad2d((1, 2, 1, 2)),  # what "same" means for an even kernel
                nn.Conv2d(before, after, 4),
                nn.MaxPool2d(2, 2, ceil_mode=True),
                nn.ReLU(),
            ]
            if dropout:
                layers.append(Dropout(dropout, (after, height, width)))
        self.body = Stack(*layers, nn.Flatten(), nn.Linear(channels[-1] * height * width, num_classes))
        initialise(self, init)
        # convolutions with "same" padding are a third faster so on a CPU, uncompiled
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        logits: Tensor = self.body(x, dropout)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of images `(B, C, H, W)`, without dropout: `(B, F)`, none of it negative; F is 256 for MNIST."""
        features: Tensor = self.body[:-1](x)
        return features


class ClassifierMLP(Net):
    """Flattened images, or latents, `(B, *)` to logits `(B, C)` through dense layers.

    Args:
        image_shape: of one input: an image's `(C, H, W)`, or `(D,)` of a latent.
        hidden: sizes of the hidden layers; none: logistic regression.
        activation: a name in `ACTIVATIONS`.
        dropout: probability after every hidden layer.
        init: a name in `INITIALISATIONS`.

    >>> ClassifierMLP(num_classes=5, image_shape=(20,), hidden=[8])(torch.zeros(4, 20)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        hidden: Sequence[int] = (500,),
        activation: str = "relu",
        dropout: float = 0.0,
        init: str = "xavier",
    ) -> None:
        super().__init__()
        require(len(image_shape) > 0 and min(image_shape) >= 1, "image_shape", list(image_shape), "sizes of at least 1")
        inputs = math.prod(image_shape)
        layers = hidden_layers([inputs, *hidden], activation, dropout) if hidden else []
        self.body = Stack(nn.Flatten(), *layers, nn.Linear([inputs, *hidden][-1], num_classes))
        initialise(self, init)

    def forward(self, x: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        logits: Tensor = self.body(x, dropout)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of `(B, *)`, without dropout: `(B, F)`."""
        features: Tensor = self.body[:-1](x)
        return features
