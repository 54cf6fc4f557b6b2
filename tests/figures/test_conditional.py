"""A column is one style, a row one class, and labels are those they are said to be."""

import pytest
import torch
from torch import Tensor
from toys import Painter

from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.conditional import chosen_class, class_means, class_samples, class_style_grid, style_transfer


def odd(tile: Tensor) -> Tensor:
    """Which digits the toy drew, by its first row."""
    return tile[..., 0, 0].round()


def test_style_grid_has_one_latent_a_column_and_one_class_a_row(shown) -> None:  # type: ignore[no-untyped-def]
    grid = shown(class_style_grid(Painter(num_classes=10), styles=6).axes[0])
    assert grid.shape[:2] == (10, 6)
    assert torch.equal(odd(grid), (torch.arange(10) % 2.0).unsqueeze(1).expand(10, 6))
    assert torch.equal(grid[..., 1:, :], grid[:1, ..., 1:, :].expand(10, 6, 27, 28)), "a column keeps its style"
    assert grid[0, :, 5, 0].unique().numel() == 6


def test_samples_of_each_class_are_ten_different_ones_of_that_class(shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter(num_classes=10)
    grid = shown(class_samples(model).axes[0])
    assert grid.shape[:2] == (10, 10)
    assert torch.equal(odd(grid), (torch.arange(10) % 2.0).unsqueeze(1).expand(10, 10))
    assert grid[..., 5, 0].unique().numel() == 100, "each has a latent of its own"
    assert torch.equal(grid, shown(class_samples(model).axes[0])), "the seed fixes them"
    assert not torch.equal(grid, shown(class_samples(model, seed=1).axes[0]))


def test_samples_of_each_class_are_of_the_prior(shown) -> None:  # type: ignore[no-untyped-def]
    grid = shown(class_samples(Painter(num_classes=2), count=2000).axes[0])
    z = grid[..., 5, 0].logit()
    assert abs(float(z.mean())) < 0.1
    assert abs(float(z.std()) - 1) < 0.1


def test_style_transfer_keeps_the_style_of_its_input_in_every_label(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter(num_classes=10)
    grid = shown(style_transfer(model, x, y).axes[0])
    assert torch.equal(grid[:, 0], x[:10, 0])
    assert torch.equal(odd(grid[:, 1:]), (torch.arange(10) % 2.0).expand(10, 10))
    left = model.posterior(x[:10], y[:10]).mean[:, 0].sigmoid()
    assert torch.allclose(grid[:, 1:, 5, 0], left.unsqueeze(1).expand(10, 10))


def test_class_means_are_means_of_the_class_first_without_and_then_with_noise(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    model = Painter(num_classes=10)
    grid = shown(class_means(model, x, y, noise=0.5, rows=50).axes[0])
    loc = model.posterior(x, y).mean
    means = torch.stack([loc[y == label].mean(0) for label in range(10)])
    assert torch.allclose(grid[0, :, 5, 0].logit(), means[:, 0], atol=1e-4)
    noise = grid[1:, :, 5, 0].logit() - means[:, 0]
    assert abs(float(noise.std()) - 0.5) < 0.05
    assert abs(float(noise.mean())) < 0.1


def test_chosen_class_is_that_class_only(x: Tensor, y: Tensor, shown) -> None:  # type: ignore[no-untyped-def]
    for label in (4, 7):
        grid = shown(chosen_class(Painter(num_classes=10), x, y, label=label).axes[0])
        assert torch.equal(odd(grid), torch.full((4, 10), label % 2.0))
    with pytest.raises(ConfigurationError, match="label=11: must be one of"):
        chosen_class(Painter(num_classes=10), x, y, label=11)
