"""The classifiers' networks: a small CNN with dropout, 45,826 parameters, and a dense one."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vae_lightning.nets.layers import Dropout, Net, Stack, initialise
from vae_lightning.nets.mlp import hidden_layers
from vae_lightning.types import MNIST_SHAPE

__all__ = ["ClassifierCNN", "ClassifierMLP"]


class ClassifierCNN(Net):
    """Four times [convolution 4x4 'same', max-pool 2x2 in ceil mode, ReLU, dropout], 28-14-7-4-2, then dense to classes.

    Images `(B, 1, 28, 28)` to logits `(B, C)`.
    """

    def __init__(self, num_classes: int, dropout: float = 0.2, init: str = "default") -> None:
        super().__init__()
        channels, sizes = [1, 8, 16, 32, 64], [14, 7, 4, 2]
        layers: list[nn.Module] = []
        for before, after, size in zip(channels, channels[1:], sizes, strict=False):
            layers += [
                nn.ZeroPad2d((1, 2, 1, 2)),  # what "same" means for an even kernel
                nn.Conv2d(before, after, 4),
                nn.MaxPool2d(2, 2, ceil_mode=True),
                nn.ReLU(),
            ]
            if dropout:
                layers.append(Dropout(dropout, (after, size, size)))
        self.body = Stack(*layers, nn.Flatten(), nn.Linear(64 * 2 * 2, num_classes))
        initialise(self, init)
        # convolutions with "same" padding are a third faster so on a CPU, uncompiled
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, dropout: Iterator[Tensor] | None = None) -> Tensor:
        logits: Tensor = self.body(x, dropout)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of images `(B, 1, 28, 28)`, without dropout: `(B, 256)`, none of it negative."""
        features: Tensor = self.body[:-1](x)
        return features


class ClassifierMLP(Net):
    """Flattened images, or latents, `(B, *)` to logits `(B, C)` through dense layers.

    Args:
        hidden: sizes of the hidden layers; none: logistic regression.
        activation: a name in `ACTIVATIONS`.
        dropout: probability after every hidden layer.
        init: a name in `INITIALISATIONS`.
        image_shape: of one input: an image's `(C, H, W)`, or `(D,)` of a latent.
    """

    def __init__(
        self,
        num_classes: int,
        hidden: Sequence[int] = (500,),
        activation: str = "relu",
        dropout: float = 0.0,
        init: str = "xavier",
        image_shape: Sequence[int] = MNIST_SHAPE,
    ) -> None:
        super().__init__()
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
