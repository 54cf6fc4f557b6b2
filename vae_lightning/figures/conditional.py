"""What only labels make possible: a style in every class, an image with every label, class means."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.abilities import Labels, classes_of
from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.figures.registry import declare, needs_conditional, needs_labels, needs_latent
from vae_lightning.figures.style import figure, named, show_tiles
from vae_lightning.figures.subject import MOST_CLASSES, Subject, first_images
from vae_lightning.inference.latents import mean_images, posterior_means
from vae_lightning.noise import standard_normal
from vae_lightning.types import LatentVariableModel

__all__ = ["chosen_class", "class_means", "class_samples", "class_style_grid", "style_transfer"]


@declare("class_samples", "classes", needs_conditional, settings=("seed",))
def _class_samples(s: Subject) -> Figure:
    """Ten samples of each class, a class a row: means of p(x | z, y), every one of a z of its own from the prior.

    Good: each row holds ten different images, and every one can be read as its class.
    """
    return class_samples(s.model, s.num_classes, seed=s.seed, device=s.x.device, labels=s.labels)


@declare("class_style_grid", "classes", needs_conditional, settings=("seed",))
def _class_style_grid(s: Subject) -> Figure:
    """Means of p(x | z, y): a latent from the prior a column, a class a row.

    Good: a row is one class, a column one style.
    """
    return class_style_grid(s.model, s.num_classes, seed=s.seed, device=s.x.device, labels=s.labels)


@declare("style_transfer", "classes", needs_conditional, needs_labels)
def _style_transfer(s: Subject) -> Figure:
    """The first test image of each class, encoded with its label and decoded with every label.

    Good: a row keeps the style of its input (of a digit, slant and width) in all classes.
    """
    return style_transfer(s.model, s.x, s.y, s.num_classes, labels=s.labels)


@declare("class_means", "classes", needs_latent, needs_labels, settings=("seed",))
def _class_means(s: Subject) -> Figure:
    """The mean latent of each class's test images, decoded (first row), and with Gaussian noise of standard deviation 0.1 added.

    Good: the typical form of each class, and small changes of it below.
    """
    return class_means(s.model, s.x, s.y, seed=s.seed, labels=s.labels)


@declare("chosen_class", "classes", needs_latent, needs_labels, settings=("label", "seed"))
def _chosen_class(s: Subject) -> Figure:
    """One class: its mean latent with Gaussian noise of standard deviation 1, decoded.

    Good, of a conditional model: the same class in many styles. Of others the noise leads to other classes.
    """
    return chosen_class(s.model, s.x, s.y, s.label, seed=s.seed, labels=s.labels)


@torch.no_grad()
def class_style_grid(
    model: LatentVariableModel,
    num_classes: int | None = None,
    styles: int = 12,
    seed: int = 0,
    device: torch.device | str = "cpu",
    labels: Labels | None = None,
) -> Figure:
    """Means of p(x | z, y): a latent a column, a class a row; of more than twenty classes, the first.

    Args:
        num_classes: of the labels; None: the model's own `num_classes`.
        device: where the model is.
    """
    labels, count = labels or Labels(), _shown(model, num_classes)
    y = torch.arange(count, device=device)
    prior = model.prior(y)
    epsilon = standard_normal((styles, prior.mean.shape[-1]), prior.mean, seed, "styles")
    # of a prior that depends on the class, the same place relative to it
    z = from_noise(prior, epsilon.unsqueeze(1)).expand(-1, count, -1).transpose(0, 1).flatten(0, 1)
    fig, axes = figure(max(3.9, 0.55 * styles + 0.5), 0.55 * count + 0.4)
    images = mean_images(model, z, y.repeat_interleave(styles))
    show_tiles(axes, images, styles, row_names=labels.listed(count))
    axes.set_title(f"mean of p(x | z, y): one z a column, one {labels.noun} a row")
    return fig


@torch.no_grad()
def class_samples(
    model: LatentVariableModel,
    num_classes: int | None = None,
    count: int = 10,
    seed: int = 0,
    device: torch.device | str = "cpu",
    labels: Labels | None = None,
) -> Figure:
    """Means of p(x | z, y), a class a row, each of a latent of its own from p(z | y); of more than twenty classes, the first.

    Args:
        num_classes: of the labels; None: the model's own `num_classes`.
        count: images of each class.
        device: where the model is.
    """
    labels, classes = labels or Labels(), _shown(model, num_classes)
    y = torch.arange(classes, device=device).repeat_interleave(count)
    prior = model.prior(y)
    epsilon = standard_normal((len(y), prior.mean.shape[-1]), prior.mean, seed, "class samples")
    fig, axes = figure(max(3.9, 0.55 * count + 0.5), 0.55 * classes + 0.4)
    show_tiles(axes, mean_images(model, from_noise(prior, epsilon), y), count, row_names=labels.listed(classes))
    axes.set_title(f"mean of p(x | z, y): a z of its own each, one {labels.noun} a row")
    return fig


def _shown(model: LatentVariableModel, num_classes: int | None) -> int:
    """How many classes are shown."""
    count = classes_of(model) if num_classes is None else num_classes
    require(count > 0, "num_classes", count, "at least 1: this model ignores labels")
    return min(count, MOST_CLASSES)


@torch.no_grad()
def style_transfer(
    model: LatentVariableModel, x: Tensor, y: Tensor, num_classes: int | None = None, labels: Labels | None = None
) -> Figure:
    """The first image of each class, encoded with its label and decoded with every label, a row an image.

    Of more than twenty classes, the first.
    """
    labels, count = labels or Labels(), _shown(model, num_classes)
    chosen = first_images(y, labels)
    loc = model.posterior(x[chosen], y[chosen]).mean
    every = torch.arange(count, device=y.device)
    decoded = mean_images(model, loc.repeat_interleave(count, 0), every.repeat(len(chosen)))
    rows = torch.cat([x[chosen].unsqueeze(1), decoded.view(len(chosen), count, *x.shape[1:])], dim=1)
    fig, axes = figure(max(3.9, 0.52 * (count + 1) + 0.5), 0.52 * len(chosen) + 0.5)
    names = labels.listed(count)
    show_tiles(axes, rows.flatten(0, 1), count + 1, column_names=["input", *names])
    named(names, axes.xaxis)
    axes.set_title("mean of p(x | z, y): z of the image, every y")
    return fig


def class_means(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    noise: float = 0.1,
    rows: int = 4,
    seed: int = 0,
    labels: Labels | None = None,
) -> Figure:
    """Decoded class means of the latent: first row as they are, below with Gaussian noise of standard deviation `noise`.

    Of more than twenty classes, the first.
    """
    means, classes = (tensor[:MOST_CLASSES] for tensor in class_mean_latents(model, x, y))
    z = torch.cat([means, _with_noise(means.repeat(rows, 1), noise, seed)])
    fig, axes = figure(max(3.9, 0.6 * len(classes) + 0.9), 0.6 * (rows + 1) + 0.5)
    row_names = ["mean", *["" for _ in range(rows)]]
    row_names[1 + rows // 2] = f"+ N(0, {noise:g}²)"
    images, names = mean_images(model, z, classes.repeat(rows + 1)), (labels or Labels()).listed(classes.tolist())
    show_tiles(axes, images, len(classes), row_names=row_names, column_names=names)
    named(names, axes.xaxis)
    axes.set_title("decoded mean latent of each class")
    return fig


def chosen_class(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    label: int = 0,
    noise: float = 1.0,
    count: int = 40,
    seed: int = 0,
    labels: Labels | None = None,
) -> Figure:
    """One class only: its mean latent with Gaussian noise of standard deviation `noise` added, decoded with its label."""
    labels = labels or Labels()
    means, classes = class_mean_latents(model, x, y)
    require(label in classes.tolist(), "label", label, f"one of {classes.tolist()}, the classes that have images")
    z = _with_noise(means[classes == label].expand(count, -1), noise, seed)
    fig, axes = figure(6, 2.9)
    show_tiles(axes, mean_images(model, z, classes.new_full((count,), label)), 10)
    axes.set_title(f"{labels.noun} {labels.name(label)}: its mean latent + N(0, {noise:g}²)")
    return fig


@torch.no_grad()
def class_mean_latents(model: LatentVariableModel, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the posterior means of each class that has images, `(C, D)`, and the classes `(C,)`."""
    loc = posterior_means(model, x, y, 1000)
    classes = y.unique()
    return torch.stack([loc[y == label].mean(0) for label in classes]), classes


def _with_noise(z: Tensor, noise: float, seed: int) -> Tensor:
    return z + noise * standard_normal(z.shape, z, seed, "class means")
