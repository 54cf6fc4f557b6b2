"""Grey levels to pixels, on whatever device the images are on.

- dynamic: each pixel is drawn Bernoulli(grey level / 255) every time the image is used ("On the quantitative analysis of
  deep belief networks", Salakhutdinov and Murray, 2008, https://doi.org/10.1145/1390156.1390266).
- static: drawn once and for all, by Larochelle ("The neural autoregressive distribution estimator", Larochelle and
  Murray, 2011, http://proceedings.mlr.press/v15/larochelle11a.html); it has files of its own.
- threshold: 1 where the grey level is above one half.
- none: grey level / 255, not binary at all.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from vae_lightning.noise import Source, bits15

__all__ = ["BINARIZATIONS", "Binarization", "binarize", "draw_pixels", "draw_pixels_once", "to_unit_interval"]

Binarization = Literal["dynamic", "static", "threshold", "none"]
BINARIZATIONS: tuple[str, ...] = get_args(Binarization)


def draw_pixels(images: Tensor, source: Source) -> Tensor:
    """Pixels 0 or 1, float32 `(B, *)`, each 1 with probability grey level / 255, of grey levels uint8 `(B, *)`.

    Probabilities are exact to 2^-16, and those of black and white are exact.
    """
    levels = images.to(torch.int32)
    # of 65,536 equally likely integers, the first 257 * level make the pixel white: half of all at 127.5, and all at 255
    whites = levels * 257 + (levels >> 7)
    return (source.integers16("pixels", images[0].numel()).view(images.shape) < whites).to(torch.float32)


def draw_pixels_once(images: Tensor, source: torch.Generator) -> Tensor:
    """Pixels 0 or 1, uint8 `(*)`, of grey levels uint8 `(*)`, for images that are drawn once and kept.

    Probabilities are exact to 2^-16, and those of black and white are exact.
    """
    # of 32,768 equally likely integers, the first round(p * 32768) make the pixel white
    last_white = (images * (32768 / 255)).round_().sub_(1).to(torch.int16)
    # a view, because torch converts from bool four times as slowly as from uint8
    return (bits15(images.shape, source) <= last_white).view(torch.uint8)


def binarize(images: Tensor, binarization: str, source: torch.Generator | None = None) -> Tensor:
    """Pixels 0 or 255, uint8 `(*)`, of grey levels uint8 `(*)`; grey levels unchanged for "none" and "static".

    "dynamic" draws from `source`.
    """
    if binarization == "dynamic":
        assert source is not None, "dynamic binarization needs a generator"
        return draw_pixels_once(images, source) * 255
    if binarization == "threshold":
        return (images > 127).view(torch.uint8) * 255
    return images


def to_unit_interval(images: Tensor) -> Tensor:
    """Grey levels uint8 `(*)` as float32 in [0, 1]."""
    return images.to(torch.float32) / 255
