"""Images in, images out: reconstructions and prior samples.

Every function takes a model by the protocol, and images `(N, C, H, W)` in [0, 1] with their labels `(N,)` (which models
without labels ignore), and gives a matplotlib Figure. What says mean is a mean; what says sample is drawn by `seed`.
"""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.abilities import Labels, classes_of
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.figures.registry import declare, needs_latent
from vae_lightning.figures.style import figure, named, show_tiles
from vae_lightning.figures.subject import Subject
from vae_lightning.inference.chunks import chunks
from vae_lightning.inference.elbo import bound_at
from vae_lightning.noise import generator, global_noise, standard_normal
from vae_lightning.types import LatentVariableModel

__all__ = ["elbo_per_image", "reconstruction_pairs", "reconstructions", "reproductions", "samples"]


@declare("reconstructions", "images", needs_latent, settings=("seed",))
def _reconstructions(s: Subject) -> Figure:
    """Test images with the highest, middle and lowest ELBO of all (above each, in nats): the input, the mean of p(x | z) for a
    sample z of q(z | x), and a sample of p(x | z).

    Good: the middle ones are of the same class and style as their input; the worst are odd to the eye too.
    """
    return reconstructions(s.model, s.x, s.y, seed=s.seed)


@declare("reconstruction_pairs", "images", needs_latent, settings=("seed",))
def _reconstruction_pairs(s: Subject) -> Figure:
    """Sixteen test images chosen at random with their labels: the input, and beside it p(x | z)'s mean at the mean of q(z | x).

    Good: each pair shows the same thing; blur is where the model is unsure.
    """
    return reconstruction_pairs(s.model, s.x, s.y, seed=s.seed, labels=s.labels)


@declare("reproductions", "images", needs_latent)
def _reproductions(s: Subject) -> Figure:
    """The first 100 test images and the means of p(x | z) at the means of q(z | x).

    Good: the right side can be read like the left.
    """
    return reproductions(s.model, s.x, s.y)


@declare("samples", "images", needs_latent, settings=("seed",))
def _samples(s: Subject) -> Figure:
    """Above, means of p(x | z) for z from the prior; below, a sample of p(x | z) for the same z.

    Good: each is an image that could be of the data set, and they differ. Shapes between the classes mean that the prior covers
    latents which no image uses.
    """
    return samples(s.model, num_classes=s.num_classes, seed=s.seed, device=s.x.device, labels=s.labels)


@torch.no_grad()
def elbo_per_image(model: LatentVariableModel, x: Tensor, y: Tensor, seed: int = 0, max_batch: int = 1000) -> Tensor:
    """The ELBO of each image, `(N,)` nats, from one sample of the posterior."""
    bounds = []
    for number, (images, labels) in enumerate(chunks(max_batch, x, y)):
        posterior = model.posterior(images, labels)
        epsilon = standard_normal((1, *posterior.mean.shape), posterior.mean, seed, "elbo per image", number)
        bounds.append(bound_at(model, posterior, from_noise(posterior, epsilon), images, labels).elbo)
    return torch.cat(bounds)


@torch.no_grad()
def reconstructions(model: LatentVariableModel, x: Tensor, y: Tensor, columns: int = 5, seed: int = 0) -> Figure:
    """The images with the highest, middle and lowest ELBO: input, mean of p(x | z), a sample of it; z a sample of q(z | x)."""
    values, columns = elbo_per_image(model, x, y, seed), min(columns, len(x))
    order, middle = values.argsort(descending=True), (len(values) - columns) // 2
    groups = {"best": order[:columns], "middle": order[middle : middle + columns], "worst": order[-columns:]}
    fig, axes = figure(10.5, 2.6, columns=3)
    for panel, (name, chosen) in zip(axes, groups.items(), strict=True):
        posterior = model.posterior(x[chosen], y[chosen])
        epsilon = standard_normal(posterior.mean.shape, posterior.mean, seed, "reconstructions", name)
        likelihood = model.likelihood(from_noise(posterior, epsilon), y[chosen])
        rows = torch.cat([x[chosen], likelihood.mean, _sample(likelihood, seed, "pixels", name)])
        elbos = [f"{value:.0f}" for value in values[chosen].tolist()]
        names = ["input", "mean", "sample"] if panel is axes[0] else ["", "", ""]
        show_tiles(panel, rows, columns, row_names=names, column_names=elbos)
        panel.set_title(f"{name} of {len(x):,} by ELBO (nats)")
    return fig


@torch.no_grad()
def reconstruction_pairs(
    model: LatentVariableModel, x: Tensor, y: Tensor, rows: int = 4, seed: int = 0, labels: Labels | None = None
) -> Figure:
    """`rows` x 4 images drawn at random: each beside the decoded mean of its posterior, under its label."""
    labels = labels or Labels()
    chosen = torch.randperm(len(x), generator=generator(seed, "pairs"))[: 4 * rows].sort().values.to(x.device)
    pairs = torch.stack([x[chosen], model.likelihood(model.posterior(x[chosen], y[chosen]).mean, y[chosen]).mean], dim=1)
    rows = -(-len(pairs) // 4)
    fig, axes = figure(7.6, 1.15 * rows + 0.5, rows=rows, columns=4, squeeze=False)
    for panel in axes.flat[len(pairs) :]:
        panel.axis("off")
    for panel, pair, label in zip(axes.flat, pairs, y[chosen].tolist(), strict=False):
        show_tiles(panel, pair, 2)
        if labels.exist:
            panel.set_title(labels.name(label), pad=2)
    if x.shape[1] == 1:
        bar = fig.colorbar(axes[0, 0].images[0], ax=axes, shrink=0.6, pad=0.02)
        # along few rows there is no room for all of it
        bar.set_label("grey level" if rows < 4 else "grey level of the input, left; mean of p(x | z), right")
    if x.shape[1] > 1 or rows < 4:
        fig.suptitle("input, left; mean of p(x | z), right")
    return fig


@torch.no_grad()
def reproductions(model: LatentVariableModel, x: Tensor, y: Tensor, columns: int = 10) -> Figure:
    """The first `columns`^2 images, and beside them the decoded means of their posteriors."""
    x, y = x[: columns**2], y[: columns**2]
    fig, (left, right) = figure(9, 4.6, columns=2)
    show_tiles(left, x, columns)
    show_tiles(right, model.likelihood(model.posterior(x, y).mean, y).mean, columns)
    left.set_title("input")
    right.set_title("reproduction: mean of p(x | z) at the mean of q(z | x)")
    return fig


@torch.no_grad()
def samples(
    model: LatentVariableModel,
    count: int = 10,
    num_classes: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    labels: Labels | None = None,
) -> Figure:
    """Means of p(x | z) for z from the prior, and below each a sample of it; of a conditional model, one class after another.

    Args:
        num_classes: of the labels; None: the model's own `num_classes`, if it has any.
        device: where the model is.
    """
    num_classes = classes_of(model) if num_classes is None else num_classes
    y = torch.arange(count, device=device) % num_classes if num_classes else None
    prior = model.prior(y)
    epsilon = standard_normal((count, prior.mean.shape[-1]), prior.mean, seed, "samples")
    likelihood = model.likelihood(from_noise(prior, epsilon), y)
    fig, axes = figure(8, 1.9)
    names = None if y is None else (labels or Labels()).listed(y.tolist())
    rows = torch.cat([likelihood.mean, _sample(likelihood, seed, "samples")])
    show_tiles(axes, rows, count, row_names=["mean", "sample"], column_names=names)
    named(names or [], axes.xaxis)
    return fig


def _sample(likelihood: torch.distributions.Distribution, *key: int | str) -> Tensor:
    """A sample of each image."""
    with global_noise(generator(*key).initial_seed(), likelihood.mean.device):
        return likelihood.sample().clamp(0, 1)
