r"""Residual convolutional encoder and decoder, 28 -> 14 -> 7 and back, without normalisation: a step is a pure function.

Blocks $h + f(h)$ with the activation before each convolution, so that a signal passes through all of them unchanged:
"Identity mappings in deep residual networks", He, Zhang, Ren and Sun, 2016, https://arxiv.org/abs/1603.05027; in VAEs of
MNIST, "Variational lossy autoencoder", Chen et al., 2017, https://arxiv.org/abs/1611.02731. $f$ starts near zero, which is
what normalisation is for in such a net ("Batch normalization biases residual blocks towards the identity function in deep
networks", De and Smith, 2020, https://arxiv.org/abs/2002.10444).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.nets.cnn import LabelConv2d
from vae_lightning.nets.layers import Decoder, Encoder, Stack, initialise

__all__ = ["ResNetDecoder", "ResNetEncoder", "ResidualBlock"]

START = 0.1
"""What a block's branch is multiplied by at the start."""


class ResidualBlock(nn.Module):
    """Features `(B, before, H, W)` to `(B, after, H', W')`: H, or half or double of it for `stride` 2 or `upscale` 2."""

    def __init__(self, before: int, after: int, stride: int = 1, upscale: int = 1) -> None:
        super().__init__()
        self.upscale = upscale
        self.first = nn.Conv2d(before, after, 3, stride, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, h: Tensor) -> Tensor:
        if self.upscale > 1:
            h = F.interpolate(h, scale_factor=float(self.upscale))
        branch: Tensor = self.second(F.elu(self.first(F.elu(h))))
        passed: Tensor = self.shortcut(h)
        return passed + branch


def _initialise(net: nn.Module, init: str) -> None:
    initialise(net, init)
    with torch.no_grad():
        for block in net.modules():
            if isinstance(block, ResidualBlock):
                block.second.weight.mul_(START)


def _check(channels: Sequence[int], blocks: int) -> None:
    require(len(channels) == 3 and min(channels) > 0, "channels", list(channels), "three sizes above 0")
    require(blocks >= 1, "blocks", blocks, "at least 1")


class ResNetEncoder(Encoder):
    """A convolution, then `blocks` residual blocks at 28x28, 14x14 and 7x7, whose features go flat into the heads.

    Args:
        channels: of the features at 28x28, 14x14 and 7x7.
        blocks: how many at each size.
        init: a name in `INITIALISATIONS`.
    """

    def __init__(
        self, latent_dim: int, num_classes: int, channels: Sequence[int] = (16, 32, 32), blocks: int = 1, init: str = "he"
    ) -> None:
        super().__init__()
        _check(channels, blocks)
        large, middle, small = channels
        self.first = LabelConv2d(num_classes, large, 3, stride=1)
        self.body = Stack(
            *(ResidualBlock(large, large) for _ in range(blocks)),
            ResidualBlock(large, middle, stride=2),
            *(ResidualBlock(middle, middle) for _ in range(blocks - 1)),
            ResidualBlock(middle, small, stride=2),
            *(ResidualBlock(small, small) for _ in range(blocks - 1)),
            nn.ELU(),
            nn.Flatten(),
        )
        self.add_heads(7 * 7 * small, latent_dim)
        _initialise(self, init)

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        # the image is black around; a label's plane, which is constant, goes on there
        h: Tensor = self.first(F.pad(x, (1, 1, 1, 1)), y)
        return h


class ResNetDecoder(Decoder):
    """Dense to 7x7, then `blocks` residual blocks at 7x7, 14x14 and 28x28. `channels` are the encoder's."""

    def __init__(
        self, latent_dim: int, num_classes: int, channels: Sequence[int] = (16, 32, 32), blocks: int = 1, init: str = "he"
    ) -> None:
        super().__init__()
        _check(channels, blocks)
        large, middle, small = channels
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, small * 7 * 7),
            nn.Unflatten(1, (small, 7, 7)),
            *(ResidualBlock(small, small) for _ in range(blocks)),
            ResidualBlock(small, middle, upscale=2),
            *(ResidualBlock(middle, middle) for _ in range(blocks - 1)),
            ResidualBlock(middle, large, upscale=2),
            *(ResidualBlock(large, large) for _ in range(blocks - 1)),
            nn.ELU(),
            nn.Conv2d(large, 1, 3, padding=1),
        )
        _initialise(self, init)
