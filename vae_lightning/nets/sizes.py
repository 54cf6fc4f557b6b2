"""How heights and widths pass through convolutions, so that a net can be built for images of any size.

An encoder's convolutions may not reach the last rows and columns of an image; black ones are then added around it. Each layer of a
decoder multiplies the size by about a whole number; where that gives more than is wanted, the middle is kept.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

from torch import Tensor, nn

from vae_lightning.arguments import require
from vae_lightning.types import MNIST_SHAPE

__all__ = ["Crop", "Window", "crop", "image_dimensions", "padding_to_fit", "sizes_before"]

Size = tuple[int, int]
"""Height and width."""


class Window(NamedTuple):
    """What a convolution does to a height or a width.

    >>> Window(kernel=5, stride=2).down(28), Window(kernel=4, stride=4).up(7)
    (12, 28)
    """

    kernel: int
    stride: int = 1
    padding: int = 0
    output_padding: int = 0

    def down(self, size: int) -> int:
        """The output's size of a convolution of `size` places."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def up(self, size: int) -> int:
        """The output's size of a transposed convolution of `size` places."""
        return (size - 1) * self.stride - 2 * self.padding + self.kernel + self.output_padding


def image_dimensions(image_shape: Sequence[int], outputs: int = 1) -> tuple[int, int, int]:
    """Channels that a decoder puts out, `outputs * C`, and the image's height and width, of `image_shape` `(C, H, W)`."""
    fits = len(image_shape) == 3 and min(image_shape) >= 1
    require(fits, "image_shape", list(image_shape), "channels, height and width, each at least 1")
    require(outputs >= 1, "outputs", outputs, "at least 1")
    channels, height, width = image_shape
    return outputs * channels, height, width


def padding_to_fit(image_shape: Sequence[int], windows: Sequence[Window]) -> tuple[tuple[int, int, int, int], Size]:
    """What to add left, right, above and below an image for convolutions to reach all of it, and the size that comes out.

    Nothing is added to an image of MNIST's shape, whose last rows and columns are black: these nets are as they always were.

    Raises:
        ConfigurationError: the image is smaller than what one place of the output sees.

    >>> padding_to_fit((1, 30, 28), [Window(5, stride=2), Window(5, stride=2)])
    ((0, 1, 1, 2), (6, 5))
    """
    _, height, width = image_dimensions(image_shape)
    smallest = _seen(1, windows)
    require(min(height, width) >= smallest, "image_shape", list(image_shape), f"at least {smallest} high and wide")
    padding, sizes = [], []
    for size in (width, height):
        reached = size
        for window in windows:
            reached = window.down(reached)
        if _seen(reached, windows) < size and tuple(image_shape) != MNIST_SHAPE:
            reached += 1
        missing = max(0, _seen(reached, windows) - size)
        padding += [missing // 2, missing - missing // 2]
        sizes.append(reached)
    left, right, above, below = padding
    return (left, right, above, below), (sizes[1], sizes[0])


def _seen(size: int, windows: Sequence[Window]) -> int:
    """How many places of the image `size` neighbouring places of the output see."""
    for window in reversed(windows):
        size = (size - 1) * window.stride + window.kernel
    return size


def sizes_before(size: Size, ups: Sequence[Callable[[int], int]]) -> list[Size]:
    """The height and width before each layer of a decoder, and `size` after the last, the smallest that suffice.

    >>> sizes_before((28, 32), [lambda size: 2 * size, lambda size: 2 * size])
    [(7, 8), (14, 16), (28, 32)]
    """
    sizes = [size]
    for up in reversed(ups):
        height, width = (next(before for before in count(1) if up(before) >= after) for after in sizes[0])
        sizes.insert(0, (height, width))
    return sizes


class Crop(nn.Module):
    """The middle of images, `(*, H, W)` to `(*, *size)`.

    >>> import torch
    >>> Crop((2, 1))(torch.arange(12.0).view(1, 4, 3)).tolist()
    [[[4.0], [7.0]]]
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (rows, columns) = self.size, x.shape[-2:]
        above, left = (rows - height) // 2, (columns - width) // 2
        return x[..., above : above + height, left : left + width]

    def extra_repr(self) -> str:
        return f"size={self.size}"


def crop(up: Callable[[int], int], before: Size, after: Size) -> list[nn.Module]:
    """The layer that keeps `after` of what `up` makes of `before`; none where it makes just that."""
    return [] if (up(before[0]), up(before[1])) == after else [Crop(after)]
