r"""Residual convolutional encoder and decoder, to half and a quarter of the image's size and back, 28 -> 14 -> 7 for MNIST.

There is no normalisation, so that a step is a pure function of its batch.

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
from vae_lightning.nets.sizes import crop, image_dimensions, sizes_before
from vae_lightning.types import MNIST_SHAPE

__all__ = ["ResNetDecoder", "ResNetEncoder", "ResidualBlock"]

START = 0.1
"""What a block's branch is multiplied by at the start."""


class ResidualBlock(nn.Module):
    """Features `(B, before, H, W)` to `(B, after, H', W')`: H, or half or double of it for `stride` 2 or `upscale` 2.

    >>> ResidualBlock(before=4, after=8, stride=2)(torch.zeros(2, 4, 6, 6)).shape
    torch.Size([2, 8, 3, 3])
    """

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


def _doubled(size: int) -> int:
    return 2 * size


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
    """A convolution, then residual blocks at the image's size, at half and at a quarter of it; the features go flat into the heads.

    Args:
        channels: of the features at each of the three sizes, 28x28, 14x14 and 7x7 for MNIST.
        blocks: how many at each size.
        init: a name in `INITIALISATIONS`.

    >>> loc, log_variance = ResNetEncoder(latent_dim=2, num_classes=0, channels=[4, 4, 4])(torch.zeros(4, 1, 28, 28))
    >>> loc.shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        channels: Sequence[int] = (16, 32, 32),
        blocks: int = 1,
        init: str = "he",
    ) -> None:
        super().__init__()
        colours, height, width = image_dimensions(image_shape)
        _check(channels, blocks)
        large, middle, small = channels
        self.first = LabelConv2d(colours, num_classes, large, 3, stride=1)
        self.body = Stack(
            *(ResidualBlock(large, large) for _ in range(blocks)),
            ResidualBlock(large, middle, stride=2),
            *(ResidualBlock(middle, middle) for _ in range(blocks - 1)),
            ResidualBlock(middle, small, stride=2),
            *(ResidualBlock(small, small) for _ in range(blocks - 1)),
            nn.ELU(),
            nn.Flatten(),
        )
        self.add_heads(-(-height // 4) * -(-width // 4) * small, latent_dim)
        _initialise(self, init)

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        # the image is black around; a label's plane, which is constant, goes on there
        h: Tensor = self.first(F.pad(x, (1, 1, 1, 1)), y)
        return h


class ResNetDecoder(Decoder):
    """Dense to a quarter of the image's size, then residual blocks there, at half of it and at the whole.

    Args:
        channels: of the features at each of the three sizes, from the image on: the encoder's, used from its end.
        blocks: how many at each size.
        init: a name in `INITIALISATIONS`.

    >>> ResNetDecoder(latent_dim=2, num_classes=0, image_shape=(3, 10, 8), channels=[4, 4, 4])(torch.zeros(4, 2)).shape
    torch.Size([4, 3, 10, 8])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        outputs: int = 1,
        channels: Sequence[int] = (16, 32, 32),
        blocks: int = 1,
        init: str = "he",
    ) -> None:
        super().__init__()
        colours, *size = image_dimensions(image_shape, outputs)
        quarter, half, full = sizes_before((size[0], size[1]), [_doubled, _doubled])
        _check(channels, blocks)
        large, middle, small = channels
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, small * quarter[0] * quarter[1]),
            nn.Unflatten(1, (small, *quarter)),
            *(ResidualBlock(small, small) for _ in range(blocks)),
            ResidualBlock(small, middle, upscale=2),
            *crop(_doubled, quarter, half),
            *(ResidualBlock(middle, middle) for _ in range(blocks - 1)),
            ResidualBlock(middle, large, upscale=2),
            *crop(_doubled, half, full),
            *(ResidualBlock(large, large) for _ in range(blocks - 1)),
            nn.ELU(),
            nn.Conv2d(large, colours, 3, padding=1),
        )
        _initialise(self, init)
