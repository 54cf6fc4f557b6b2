"""Convolutional encoders and decoders; a label enters as constant channels of the image, and beside z in the decoder.

The architectures are those of the conditional VAEs this project replaces: about 50,000 parameters, ReLU, no normalisation.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.nets.layers import Decoder, Encoder, Stack, initialise

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
        if self.out_channels > 1 and self._reach(columns) > 2 * kernel:  # the matrix would be zero nearly everywhere
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
    """A convolution, without padding, of an image and one plane a class that is 1 or 0 all over.

    Such a plane adds the same number to every place of the output: the sum of its kernel. So it is not convolved.
    """

    def __init__(self, num_classes: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__(1 + num_classes, out_channels, kernel, stride)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            return super().forward(x)
        h = F.conv2d(x, self.weight[:, :1], self.bias, self.stride)
        return h + F.linear(y, self.weight[:, 1:].sum((-2, -1)))[:, :, None, None]


class _ConvEncoder(Encoder):
    first: LabelConv2d

    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        h: Tensor = self.first(x, y)
        return h


class CNN2Encoder(_ConvEncoder):
    """Two convolutions of stride 2 without padding: 28 -> 12 -> 4 for `kernel=5`, 512 features."""

    def __init__(self, latent_dim: int, num_classes: int, kernel: int = 5, init: str = "he") -> None:
        super().__init__()
        require(2 <= kernel <= 8, "kernel", kernel, "from 2 to 8")
        size = 28
        for _ in range(2):
            size = (size - kernel) // 2 + 1
        self.first = LabelConv2d(num_classes, 16, kernel, stride=2)
        self.body = Stack(
            nn.ReLU(),
            Conv2d(16, 32, kernel, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.add_heads(32 * size * size, latent_dim)
        initialise(self, init)


class CNN2Decoder(Decoder):
    """Dense to 7x7x8, then two transposed convolutions of stride 2 to 28x28. `kernel` is the encoder's; 5 is used here."""

    def __init__(self, latent_dim: int, num_classes: int, kernel: int = 5, init: str = "he") -> None:
        super().__init__()
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, 7 * 7 * 8),
            nn.ReLU(),
            nn.Unflatten(1, (8, 7, 7)),
            ConvTranspose2d(8, 8, 5, stride=2, padding=2, output_padding=1),
            nn.ReLU(),
            ConvTranspose2d(8, 1, 5, stride=2, padding=2, output_padding=1),
        )
        initialise(self, init)


class CNN3Encoder(_ConvEncoder):
    """Three convolutions without padding: 28 -(k6 s3)-> 8 -(k4 s2)-> 3 -(k3 s1)-> 1, 64 features."""

    def __init__(self, latent_dim: int, num_classes: int, init: str = "he") -> None:
        super().__init__()
        self.first = LabelConv2d(num_classes, 16, 6, stride=3)
        self.body = Stack(
            nn.ReLU(),
            Conv2d(16, 32, 4, stride=2),
            nn.ReLU(),
            Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.add_heads(64, latent_dim)
        initialise(self, init)


class CNN3Decoder(Decoder):
    """Dense to 32 features, then transposed convolutions 1 -> 3 -> 7 -> 28."""

    def __init__(self, latent_dim: int, num_classes: int, init: str = "he") -> None:
        super().__init__()
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, 32),
            nn.ReLU(),
            nn.Unflatten(1, (32, 1, 1)),
            ConvTranspose2d(32, 16, 4, stride=3, padding=1, output_padding=1),
            nn.ReLU(),
            ConvTranspose2d(16, 8, 4, stride=3, padding=2, output_padding=1),
            nn.ReLU(),
            ConvTranspose2d(8, 1, 4, stride=4),
        )
        initialise(self, init)
