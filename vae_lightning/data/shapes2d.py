r"""Shapes whose factors of variation are known: shape, scale, rotation, x and y, rendered and never downloaded.

The factors are those of dSprites ("dSprites: disentanglement testing sprites dataset", Matthey, Higgins, Hassabis and
Lerchner, 2017, https://github.com/google-deepmind/dsprites-dataset), 3 x 6 x 40 x 32 x 32 = 737,280 images, at 28 x 28
pixels where dSprites has 64 x 64, so images and estimates are of this data set alone, not of dSprites. A grey level is the
share of a pixel's 4 x 4 points that lie in the shape.

Each shape lies in a circle of radius 6.24 scale around its centre of mass, and centres are half a pixel apart, from 6.25 to
21.75 pixels: the largest shape just stays inside the image, and a shape looks one of two ways along x and one of two along
y, wherever it is. So all images are 2,880 sprites of 13 x 13 pixels put in places, and rendering is copying.

The 40 rotations are 9 degrees apart from 0 to 351 (dSprites has 0 and 360 degrees, which look the same). As there, a square
looks the same after 90 degrees and an ellipse after 180, which leaves 1,680 sprites of different grey levels; 1,638 still
differ when thresholded at one half.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.data.binarization import Binarization, binarize, to_unit_interval
from vae_lightning.data.module import ImageDataModule
from vae_lightning.noise import generator

__all__ = ["FACTORS", "FACTOR_SIZES", "SHAPES", "Shapes2DDataModule", "render"]

FACTORS = ("shape", "scale", "rotation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
"""How many values each factor has; a factor is given as the number of its value, from 0."""
NUM_COMBINATIONS = math.prod(FACTOR_SIZES)
IMAGE_SHAPE = (1, 28, 28)
"""Channels, height and width."""

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
RADIUS = 6.24
"""Pixels from a shape's centre to its farthest point at scale 1; not 6.25, where points would lie on outlines."""
MARGIN = 6.25
"""Pixels from the border of the image to the nearest centre."""
STEP = 0.5
"""Pixels between two places."""
PHASES = 2
"""Places a pixel."""
POINTS = 4
"""Points a pixel, in each direction, that its grey level is the mean of."""
SPRITE = 13
"""Pixels a side that hold the largest shape in either phase."""

HEART_CENTRE = (math.pi / 2 + 2 / 3) / (4 + math.pi)
"""Both coordinates of the centre of mass of the square [-1, 1]^2 with half discs of radius 1 on two sides."""


def _in_square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) <= math.sqrt(0.5)


def _in_ellipse(u: Tensor, v: Tensor) -> Tensor:
    return u**2 + (2 * v) ** 2 <= 1


def _in_heart(u: Tensor, v: Tensor) -> Tensor:
    """A square that stands on a corner, v pointing down, with half discs on its upper sides."""
    radius = math.sqrt(2) * (1 + HEART_CENTRE)  # from the centre of mass to the corner
    p, q = HEART_CENTRE + radius * (u - v) / math.sqrt(2), HEART_CENTRE - radius * (u + v) / math.sqrt(2)
    square = torch.maximum(p.abs(), q.abs()) <= 1
    return square | ((p - 1) ** 2 + q**2 <= 1) | (p**2 + (q - 1) ** 2 <= 1)


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"square": _in_square, "ellipse": _in_ellipse, "heart": _in_heart}
"""Whether points (u, v) are inside the shape of radius 1 around its centre of mass (0, 0), by the factor's value."""


def render(factors: Tensor) -> Tensor:
    """Grey levels uint8 `(N, 1, 28, 28)` of factors int64 `(N, 5)`, on the CPU: a few microseconds an image."""
    shape, scale, rotation, x, y = factors.unbind(-1)
    sprites = _sprites()[shape, scale, rotation, x % PHASES, y % PHASES]
    corner = (y // PHASES) * IMAGE_SHAPE[2] + x // PHASES
    images = torch.zeros(len(factors), math.prod(IMAGE_SHAPE), dtype=torch.uint8)
    images.scatter_(1, corner.unsqueeze(-1) + _pixels(), sprites.flatten(1))
    return images.view(-1, *IMAGE_SHAPE)


@functools.cache
def _sprites() -> Tensor:
    """Grey levels uint8 `(3, 6, 40, 2, 2, 13, 13)` by shape, scale, rotation, phase along x and phase along y."""
    angles = 2 * math.pi / FACTOR_SIZES[2] * torch.arange(FACTOR_SIZES[2], dtype=torch.float64)
    cosine, sine = angles.cos().view(-1, 1, 1, 1, 1), angles.sin().view(-1, 1, 1, 1, 1)
    points = (torch.arange(SPRITE * POINTS, dtype=torch.float64) + 0.5) / POINTS
    # in units of the radius, by phase and point
    along = (points - MARGIN - STEP * torch.arange(PHASES).unsqueeze(-1)) / RADIUS
    x, y = along.view(PHASES, 1, 1, -1), along.view(1, PHASES, -1, 1)
    u, v = cosine * x + sine * y, cosine * y - sine * x
    sprites = torch.stack([torch.stack([_coverage(inside(u / s, v / s)) for s in SCALES]) for inside in SHAPES.values()])
    return (255 * sprites).round().to(torch.uint8)


def _coverage(inside: Tensor) -> Tensor:
    """Share of each pixel's points that are inside, `(*, 13, 13)`, of points `(*, 52, 52)`."""
    pixels: Tensor = inside.float().unflatten(-1, (SPRITE, POINTS)).unflatten(-3, (SPRITE, POINTS))
    return pixels.mean((-3, -1))


@functools.cache
def _pixels() -> Tensor:
    """Places, in the flattened image, of the pixels of a sprite in the upper left corner, `(169,)`."""
    return (IMAGE_SHAPE[2] * torch.arange(SPRITE).unsqueeze(-1) + torch.arange(SPRITE)).flatten()


class Shapes2DDataModule(ImageDataModule):
    """The shapes in three classes: 0 square, 1 ellipse, 2 heart.

    Training, validation and test images are drawn without replacement from the 737,280 combinations, by `eval_seed`.
    Thresholded images are functions of their factors; where binarization is dynamic, so are the probabilities of their pixels.
    Nothing is fetched, read or written.

    >>> data = Shapes2DDataModule(train_size=100, val_size=10, test_size=10)
    >>> x, y = data.evaluation_images("test")
    >>> x.shape, data.label_names
    (torch.Size([10, 1, 28, 28]), ('square', 'ellipse', 'heart'))
    >>> bool((x == data.images_of(data.factors("test"))).all())
    True

    Args:
        binarization: "dynamic", "threshold" or "none"; see `data.binarization`.
        train_size, val_size, test_size: how many images each split has.
        root, static_root: mean nothing here; the run folders of earlier versions name them.
        images: see `ImageDataModule`.
    """

    dataset: ClassVar[str] = "shapes2d"
    image_shape = IMAGE_SHAPE
    label_names = tuple(SHAPES)
    label_noun: ClassVar[str] = "shape"

    def __init__(
        self,
        binarization: Binarization = "threshold",
        train_size: int = 50_000,
        val_size: int = 5000,
        test_size: int = 10_000,
        root: str = "data",
        static_root: str | None = None,
        **images: Any,
    ) -> None:
        super().__init__(binarization, **images)
        self.check_numbers(self.image_shape, self.num_classes)
        require(self.num_labels is None, "num_labels", self.num_labels, "null: the shapes keep all their labels")
        for name, size in (("train_size", train_size), ("val_size", val_size), ("test_size", test_size)):
            require(size >= 1, name, size, "at least 1")
        rest = NUM_COMBINATIONS - val_size - test_size
        require(train_size <= rest, "train_size", train_size, f"at most {rest}, as there are {NUM_COMBINATIONS} combinations")
        self.sizes = {"train": train_size, "val": val_size, "test": test_size}

    def prepare_data(self) -> None:
        """Nothing is needed."""

    def checksums(self) -> dict[str, str]:
        """MD5 of what defines the images, of 500 from all over the combinations, and of the images that each split holds.

        Training images are grey where they are binarized at each use.
        """
        settings = {"sizes": self.sizes, "eval_seed": self.eval_seed, "binarization": self.binarization}
        definition = json.dumps(
            [dict(zip(FACTORS, FACTOR_SIZES, strict=True)), list(SHAPES), SCALES, RADIUS, MARGIN, STEP, POINTS, settings]
        )
        images = render(combinations(torch.arange(500) * NUM_COMBINATIONS // 500))
        in_use = {f"shapes2d {split}": hashlib.md5(self._split(split)[0].numpy().tobytes()).hexdigest() for split in self.sizes}
        return {
            "shapes2d settings": hashlib.md5(definition.encode()).hexdigest(),
            "shapes2d images": hashlib.md5(images.numpy().tobytes()).hexdigest(),
            **in_use,
        }

    def settings(self) -> dict[str, Any]:
        sizes = {f"{split}_size": size for split, size in self.sizes.items()}
        return {**super().settings(), **sizes}

    # ---- the ground truth, for evaluation

    factor_names: ClassVar[tuple[str, ...]] = FACTORS
    factor_sizes: ClassVar[tuple[int, ...]] = FACTOR_SIZES

    def images_of(self, factors: Tensor) -> Tensor:
        """Images `(N, 1, 28, 28)` in [0, 1] of factors int64 `(N, 5)`, binarized as the splits are, their pixels in place.

        Where binarization is dynamic, the pixels are drawn by `eval_seed` and all of `factors`.
        """
        key = hashlib.md5(factors.numpy().tobytes()).hexdigest()
        images = binarize(render(factors), self.binarization, generator(self.eval_seed, "images of factors", key))
        return to_unit_interval(images)

    def factors(self, split: str) -> Tensor:
        """Factors int64 `(N, 5)` of the images of "train", "val" or "test", in their order."""
        order = torch.randperm(NUM_COMBINATIONS, generator=generator(self.eval_seed, "combinations"))
        parts = order[: sum(self.sizes.values())].split(list(self.sizes.values()))
        return combinations(dict(zip(self.sizes, parts, strict=True))[split])

    def read(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        factors = {split: self.factors(split) for split in self.sizes}
        return {split: (torch.cat([render(part) for part in f.split(10_000)]), f[:, 0].clone()) for split, f in factors.items()}


def combinations(index: Tensor) -> Tensor:
    """Factors int64 `(N, 5)` of the combinations `index` `(N,)`, counted with y fastest."""
    return torch.stack(torch.unravel_index(index, FACTOR_SIZES), -1)
