"""Small random movements of training images, each image its own: a classifier generalises better that has seen them.

A generative model of such images is one of moved digits: its figures are not of MNIST.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["move_at_random"]


def move_at_random(images: Tensor, shift: float, rotation: float, scale: float, source: torch.Generator) -> Tensor:
    """uint8 images `(B, 1, H, W)`, shifted, turned and scaled about their centre, interpolated bilinearly on black.

    Args:
        shift: at most so many pixels in each direction.
        rotation: at most so many degrees either way.
        scale: at most by so large a fraction, up or down.
        source: generator on the device of `images`.
    """
    count, _, height, width = images.shape
    right, down, turn, grow = 2 * torch.rand(4, count, generator=source, device=images.device) - 1
    angle = turn * (rotation * math.pi / 180)
    cosine, sine = angle.cos() / (1 + grow * scale), angle.sin() / (1 + grow * scale)
    # where in the old image each pixel of the new one comes from, in units of half an image
    rows = (cosine, sine, right * (2 * shift / width), -sine, cosine, down * (2 * shift / height))
    grid = F.affine_grid(torch.stack(rows, -1).view(count, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images.float(), grid, align_corners=False)
    return moved.round_().to(torch.uint8)
