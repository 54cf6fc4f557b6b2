"""Convolutional encoders and decoders with ReLU and without normalisation; a label enters the encoder as constant channels.

The architectures are those of the conditional VAEs this project replaces, about 50,000 parameters for MNIST: an encoder's
convolutions go without padding from the image to a few places, whose features go flat into the heads; a decoder starts from a few
places and its transposed convolutions go up to the image, each cut to what the next one needs. A label goes into a decoder beside
the latent.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.nets.layers import Decoder, Encoder, Stack, initialise
from vae_lightning.nets.sizes import Window, crop, image_dimensions, padding_to_fit, sizes_before
from vae_lightning.types import MNIST_SHAPE

__all__ = ["CNN2Decoder", "CNN2Encoder", "CNN3Decoder", "CNN3Encoder"]


class Conv2d(nn.Conv2d):
    """torch's, as one matrix product where the kernel covers the whole image: a third of the time on small images."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(before, after, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == self.kernel_size and self.padding == (0, 0):
            return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's, as two matrix products, along the rows of a small image and along its columns: half the time, compiled.

    An image's row times a matrix with the kernel at each of its places gives what that row adds to rows of the output.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: int = 0, output_padding: int = 0) -> None:
        super().__init__(before, after, kernel, stride, padding, output_padding)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        batch, channels, rows, columns = x.shape
        kernel = self.kernel_size[0]
        widest = 8 if self.out_channels == 1 else 2
        if self._reach(columns) > widest * kernel:  # the matrix would be zero nearly everywhere
            return super().forward(x, output_size)
        along_rows = torch.einsum("iokl,clw->ickow", self.weight, self._places(columns, x)).reshape(channels * columns, -1)
        h = (x.transpose(1, 2).reshape(batch * rows, -1) @ along_rows).view(batch, rows * kernel, -1)
        if self.stride[0] != kernel or self.padding[0] or self.output_padding[0]:  # else each row of the output has one row of h
            h = self._places(rows, x).flatten(0, 1).mT @ h
        assert self.bias is not None
        return h.view(batch, -1, self.out_channels, self._reach(columns)).transpose(1, 2) + self.bias[:, None, None]

    def _reach(self, size: int) -> int:
        """The output's size for an input of `size`."""
        return (size - 1) * self.stride[0] - 2 * int(self.padding[0]) + self.kernel_size[0] + self.output_padding[0]

    def _places(self, size: int, like: Tensor) -> Tensor:
        """`(size, kernel, output size)`: 1 where an input place and a place of the kernel meet in a place of the output."""
        start = torch.arange(size, device=like.device)[:, None] * self.stride[0] - int(self.padding[0])
        meet = start + torch.arange(self.kernel_size[0], device=like.device)
        return (meet[..., None] == torch.arange(self._reach(size), device=like.device)).to(like.dtype)


class LabelConv2d(nn.Conv2d):
    """A convolution, without padding, of an image of `channels` and one plane a class that is 1 or 0 all over.

    Such a plane adds the same number to every place of the output: the sum of its kernel. So it is not convolved.
    """

    def __init__(self, channels: int, num_classes: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels + num_classes, out_channels, kernel, stride)
        self.channels = channels

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            return super().forward(x)
        h = F.conv2d(x, self.weight[:, : self.channels], self.bias, self.stride)
        return h + F.linear(y, self.weight[:, self.channels :].sum((-2, -1)))[:, :, None, None]


class _ConvEncoder(Encoder):
    first: LabelConv2d
    padding: tuple[int, int, int, int]
    """Black columns left and right, and rows above and below the image."""

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        # a label's plane, which is constant, goes on where the image is padded
        h: Tensor = self.first(F.pad(x, self.padding) if any(self.padding) else x, y)
        return h


class CNN2Encoder(_ConvEncoder):
    """Two convolutions of stride 2 to 16 and 32 channels: 28 -> 12 -> 4 for MNIST and `kernel=5`, 512 features.

    Args:
        kernel: of both convolutions; an image must be at least `3 * kernel - 2` high and wide.
        init: a name in `INITIALISATIONS`.

    >>> loc, log_variance = CNN2Encoder(latent_dim=2, num_classes=0, image_shape=(3, 32, 32))(torch.zeros(4, 3, 32, 32))
    >>> loc.shape
    torch.Size([4, 2])
    """

    def __init__(
        self, latent_dim: int, num_classes: int, image_shape: Sequence[int] = MNIST_SHAPE, kernel: int = 5, init: str = "he"
    ) -> None:
        super().__init__()
        require(2 <= kernel <= 8, "kernel", kernel, "from 2 to 8")
        self.padding, (height, width) = padding_to_fit(image_shape, [Window(kernel, stride=2)] * 2)
        self.first = LabelConv2d(image_shape[0], num_classes, 16, kernel, stride=2)
        self.body = Stack(
            nn.ReLU(),
            Conv2d(16, 32, kernel, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.add_heads(32 * height * width, latent_dim)
        initialise(self, init)


class CNN2Decoder(Decoder):
    """Dense to 8 channels of a quarter of the image's size, then two transposed convolutions of stride 2.

    Args:
        kernel: the encoder's; 5 is used here.
        init: a name in `INITIALISATIONS`.

    >>> CNN2Decoder(latent_dim=2, num_classes=0, image_shape=(3, 30, 32), outputs=2)(torch.zeros(4, 2)).shape
    torch.Size([4, 6, 30, 32])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        outputs: int = 1,
        kernel: int = 5,
        init: str = "he",
    ) -> None:
        super().__init__()
        channels, *size = image_dimensions(image_shape, outputs)
        window = Window(5, stride=2, padding=2, output_padding=1)
        start, half, full = sizes_before((size[0], size[1]), [window.up, window.up])
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, start[0] * start[1] * 8),
            nn.ReLU(),
            nn.Unflatten(1, (8, *start)),
            ConvTranspose2d(8, 8, *window),
            *crop(window.up, start, half),
            nn.ReLU(),
            ConvTranspose2d(8, channels, *window),
            *crop(window.up, half, full),
        )
        initialise(self, init)


class CNN3Encoder(_ConvEncoder):
    """Three convolutions to 16, 32 and 64 channels: 28 -(k6 s3)-> 8 -(k4 s2)-> 3 -(k3 s1)-> 1 for MNIST, 64 features.

    An image must be at least 27 high and wide.

    Args:
        init: a name in `INITIALISATIONS`.

    >>> loc, log_variance = CNN3Encoder(latent_dim=2, num_classes=0, image_shape=(3, 32, 32))(torch.zeros(4, 3, 32, 32))
    >>> loc.shape
    torch.Size([4, 2])
    """

    def __init__(self, latent_dim: int, num_classes: int, image_shape: Sequence[int] = MNIST_SHAPE, init: str = "he") -> None:
        super().__init__()
        self.padding, (height, width) = padding_to_fit(image_shape, [Window(6, stride=3), Window(4, stride=2), Window(3)])
        self.first = LabelConv2d(image_shape[0], num_classes, 16, 6, stride=3)
        self.body = Stack(
            nn.ReLU(),
            Conv2d(16, 32, 4, stride=2),
            nn.ReLU(),
            Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.add_heads(64 * height * width, latent_dim)
        initialise(self, init)


class CNN3Decoder(Decoder):
    """Dense to 32 channels of few places, then three transposed convolutions: 1 -> 3 -> 7 -> 28 for MNIST.

    Args:
        init: a name in `INITIALISATIONS`.

    >>> CNN3Decoder(latent_dim=2, num_classes=0, image_shape=(3, 30, 32), outputs=2)(torch.zeros(4, 2)).shape
    torch.Size([4, 6, 30, 32])
    """

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        outputs: int = 1,
        init: str = "he",
    ) -> None:
        super().__init__()
        channels, *size = image_dimensions(image_shape, outputs)
        first, second, third = Window(4, 3, padding=1, output_padding=1), Window(4, 3, padding=2, output_padding=1), Window(4, 4)
        sizes = sizes_before((size[0], size[1]), [first.up, second.up, third.up])
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, 32 * sizes[0][0] * sizes[0][1]),
            nn.ReLU(),
            nn.Unflatten(1, (32, *sizes[0])),
            ConvTranspose2d(32, 16, *first),
            *crop(first.up, sizes[0], sizes[1]),
            nn.ReLU(),
            ConvTranspose2d(16, 8, *second),
            *crop(second.up, sizes[1], sizes[2]),
            nn.ReLU(),
            ConvTranspose2d(8, channels, *third),
            *crop(third.up, sizes[2], sizes[3]),
        )
        initialise(self, init)
