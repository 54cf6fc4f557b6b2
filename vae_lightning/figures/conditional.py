"""What only labels make possible: a style in every class, an image with every label, class means."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.figures.latents import one_of_each
from vae_lightning.figures.style import figure, show_tiles
from vae_lightning.inference.latents import mean_images
from vae_lightning.noise import standard_normal
from vae_lightning.types import LatentVariableModel

__all__ = ["chosen_digit", "class_means", "class_style_grid", "style_transfer"]


@torch.no_grad()
def class_style_grid(
    model: LatentVariableModel, num_classes: int = 10, styles: int = 12, seed: int = 0, device: torch.device | str = "cpu"
) -> Figure:
    """Means of p(x | z, y): a latent a column, a class a row; `device` is where the model is."""
    y = torch.arange(num_classes, device=device)
    prior = model.prior(y)
    epsilon = standard_normal((styles, prior.mean.shape[-1]), prior.mean, seed, "styles")
    # of a prior that depends on the class, the same place relative to it
    z = from_noise(prior, epsilon.unsqueeze(1)).expand(-1, num_classes, -1).transpose(0, 1).flatten(0, 1)
    made, axes = figure(0.55 * styles + 0.5, 0.55 * num_classes + 0.4)
    images = mean_images(model, z, y.repeat_interleave(styles))
    show_tiles(axes, images, styles, row_names=[str(i) for i in range(num_classes)])
    axes.set_title("mean of p(x | z, y): one z a column, one digit a row")
    return made


@torch.no_grad()
def style_transfer(model: LatentVariableModel, x: Tensor, y: Tensor, num_classes: int = 10) -> Figure:
    """The first image of each class, encoded with its label and decoded with every label, a row an image."""
    chosen = one_of_each(y)
    loc = model.posterior(x[chosen], y[chosen]).mean
    labels = torch.arange(num_classes, device=y.device)
    decoded = mean_images(model, loc.repeat_interleave(num_classes, 0), labels.repeat(len(chosen)))
    rows = torch.cat([x[chosen].unsqueeze(1), decoded.view(len(chosen), num_classes, *x.shape[1:])], dim=1)
    made, axes = figure(0.52 * (num_classes + 1) + 0.5, 0.52 * len(chosen) + 0.5)
    names = ["input", *(str(label) for label in range(num_classes))]
    show_tiles(axes, rows.flatten(0, 1), num_classes + 1, column_names=names)
    axes.set_title("mean of p(x | z, y): z of the image, every y")
    return made


def class_means(model: LatentVariableModel, x: Tensor, y: Tensor, noise: float = 0.1, rows: int = 4, seed: int = 0) -> Figure:
    """Decoded class means of the latent: first row as they are, below with Gaussian noise of standard deviation `noise`."""
    means, labels = class_mean_latents(model, x, y)
    z = torch.cat([means, _with_noise(means.repeat(rows, 1), noise, seed)])
    made, axes = figure(0.6 * len(labels) + 0.9, 0.6 * (rows + 1) + 0.5)
    names = ["mean", *["" for _ in range(rows)]]
    names[1 + rows // 2] = f"+ N(0, {noise:g}²)"
    images = mean_images(model, z, labels.repeat(rows + 1))
    show_tiles(axes, images, len(labels), row_names=names, column_names=[str(label) for label in labels.tolist()])
    axes.set_title("decoded mean latent of each class")
    return made


def chosen_digit(
    model: LatentVariableModel, x: Tensor, y: Tensor, digit: int = 3, noise: float = 1.0, count: int = 40, seed: int = 0
) -> Figure:
    """One class only: its mean latent with Gaussian noise of standard deviation `noise` added, decoded with its label."""
    means, labels = class_mean_latents(model, x, y)
    require(digit in labels.tolist(), "digit", digit, f"one of {labels.tolist()}")
    z = _with_noise(means[labels == digit].expand(count, -1), noise, seed)
    made, axes = figure(6, 2.9)
    show_tiles(axes, mean_images(model, z, labels.new_full((count,), digit)), 10)
    axes.set_title(f"digit {digit}: its mean latent + N(0, {noise:g}²)")
    return made


@torch.no_grad()
def class_mean_latents(model: LatentVariableModel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the posterior means of each class that has images, `(C, D)`, and the classes `(C,)`."""
    loc = torch.cat([model.posterior(*part).mean for part in zip(x.split(1000), y.split(1000), strict=True)])
    classes = y.unique()
    return torch.stack([loc[y == label].mean(0) for label in classes]), classes


def _with_noise(z: Tensor, noise: float, seed: int) -> Tensor:
    return z + noise * standard_normal(z.shape, z, seed, "class means")
