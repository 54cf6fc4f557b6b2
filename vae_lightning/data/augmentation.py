"""Small random movements of training images, each image its own: a classifier generalises better that has seen them.

A generative model of such images is one of moved images: its likelihoods are not those of the data set.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_lightning.arguments import require

__all__ = ["check_augmentation", "move_at_random"]


def move_at_random(images: Tensor, shift: float, rotation: float, scale: float, uniform: Tensor) -> Tensor:
    """uint8 images `(B, C, H, W)`, shifted, turned and scaled about their centre, interpolated bilinearly on black.

    Args:
        shift: at most so many pixels in each direction.
        rotation: at most so many degrees either way.
        scale: at most by so large a fraction, up or down.
        uniform: noise on [0, 1), `(B, 4)`: for the movement right and down, the turn and the growth of each image.
    """
    count, _, height, width = images.shape
    right, down, turn, grow = (2 * uniform - 1).unbind(-1)
    angle = turn * (rotation * math.pi / 180)
    cosine, sine = angle.cos() / (1 + grow * scale), angle.sin() / (1 + grow * scale)
    # where in the old image each pixel of the new one comes from, in units of half an image
    # (of its width and of its height, so that a turn of an image that is not square takes their ratio)
    ratio = height / width
    rows = (cosine, sine * ratio, right * (2 * shift / width), -sine / ratio, cosine, down * (2 * shift / height))
    grid = F.affine_grid(torch.stack(rows, -1).view(count, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return moved.round_().to(torch.uint8)


def check_augmentation(shift: float, rotation: float, scale: float, *, static: bool, permuted: bool) -> None:
    """Refuse numbers of no movement, and any movement of images without grey levels, or with their pixels permuted."""
    require(0 <= shift < float("inf"), "augment_shift", shift, "at least 0 (pixels)")
    require(0 <= rotation <= 180, "augment_rotation", rotation, "from 0 to 180 (degrees)")
    require(0 <= scale < 1, "augment_scale", scale, "from 0 to below 1")
    reason = "static binarization has no grey levels" if static else "permuted pixels have no neighbours"
    for name, value in (("augment_shift", shift), ("augment_rotation", rotation), ("augment_scale", scale)):
        require(not value or not (static or permuted), name, value, f"0: {reason} to move images by")
