"""Movements of images: none leaves them alone, a known one goes where it should, and each image has its own."""

import torch

from vae_lightning.data.augmentation import move_at_random
from vae_lightning.noise import generator


def square(count: int = 1) -> torch.Tensor:
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    images[..., 10:18, 10:18] = 255
    return images


def uniform(count: int) -> torch.Tensor:
    return torch.rand(count, 4, generator=generator(0))


def centre(images: torch.Tensor) -> torch.Tensor:
    weight = images.double().sum(1)
    where = torch.arange(28.0, dtype=torch.float64)
    total = weight.sum((1, 2))
    return torch.stack([(weight.sum(1) * where).sum(-1) / total, (weight.sum(2) * where).sum(-1) / total], -1)


def test_no_movement_leaves_images_alone() -> None:
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8, generator=generator("images"))
    assert torch.equal(move_at_random(images, 0, 0, 0, uniform(5)), images)


def test_shifts_fill_the_range_and_keep_the_mass() -> None:
    moved = move_at_random(square(2000), 3, 0, 0, uniform(2000))
    offset = centre(moved) - centre(square())
    assert 2.9 < offset.abs().max() < 3.01
    assert offset.std(0).sub(3 / 3**0.5).abs().max() < 0.1
    assert torch.allclose(moved.double().sum((1, 2, 3)), square().double().sum(), rtol=0.01)


def test_rotation_and_scale_keep_the_centre() -> None:
    moved = move_at_random(square(500), 0, 20, 0.2, uniform(500))
    assert (centre(moved) - centre(square())).abs().max() < 0.05
    area = moved.double().sum((1, 2, 3)) / (64 * 255)
    assert 0.6 < area.min() < 0.75
    assert 1.3 < area.max() < 1.46
    assert len(moved.flatten(1).unique(dim=0)) == 500


def test_a_quarter_turn_of_an_image_that_is_not_square_keeps_lengths() -> None:
    bar = torch.zeros(1, 3, 20, 40, dtype=torch.uint8)
    bar[..., 9:11, 12:28] = 255  # 16 wide, 2 high
    turned = move_at_random(bar, 0, 90, 0, torch.ones(1, 4))
    assert turned[..., 2:18, 19:21].min() == 255
    assert int(turned.sum()) == int(bar.sum())
