"""What lies where in latent space: decoded meshes and traversals, posteriors by label, lines between images."""

from collections.abc import Callable, Sequence
from typing import get_args

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.abilities import Labels, classes_of
from vae_lightning.arguments import choose, require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.registry import declare, needs_latent, needs_more_than, needs_plane
from vae_lightning.figures.style import class_bar, colored_by_class, figure, show_tiles, tile_center
from vae_lightning.figures.subject import Projection, Subject
from vae_lightning.inference import latents
from vae_lightning.inference.chunks import over_chunks
from vae_lightning.inference.latents import (
    great_circle,
    labels_for,
    latent_mesh,
    line,
    mean_images,
    quantile_mesh,
    traversals,
)
from vae_lightning.noise import generator, standard_normal
from vae_lightning.objectives.bounds import kl_per_dimension
from vae_lightning.types import LatentVariableModel

__all__ = [
    "interpolations",
    "kl_bars",
    "latent_grid",
    "latent_quantile_grid",
    "latent_traversals",
    "mean_kl_per_dimension",
    "one_of_each",
    "plane_of",
    "posterior_means",
    "posterior_samples",
    "projected",
]

PAIRS = ((1, 2), (3, 8), (4, 5))
"""Classes that `interpolations` goes between where there are such: of digits, those between which it is worth to look."""
AT_ONCE = 1000
"""Images that are encoded at once."""


@declare("kl_per_dimension", "latent space", needs_latent)
def _kl_per_dimension(s: Subject) -> Figure:
    """KL(q(z | x) || p(z)) of each latent dimension, mean over all test images, in falling order.

    Good: no dimension near 0 that the model could have used; those near 0 say nothing about the image.
    """
    return kl_bars(s.model, s.x, s.y)


@declare("latent_grid_10x10", "latent space", needs_plane, settings=("extent", "label"))
def _latent_grid_10x10(s: Subject) -> Figure:
    """Means of p(x | z) on a mesh of 10 x 10 latents, z_0 to the right, z_1 upwards.

    Good: neighbours resemble each other, and all kinds of image have a place.
    """
    return latent_grid(s.model, s.extent, 10, _label(s), s.x.device, s.labels)


@declare("latent_grid_20x20", "latent space", needs_plane, settings=("extent", "label"))
def _latent_grid_20x20(s: Subject) -> Figure:
    """Means of p(x | z) on a mesh of 20 x 20 latents, which shows the borders between kinds of image.

    The corners are far out in the prior and hardly ever sampled. Good: borders are narrow.
    """
    return latent_grid(s.model, s.extent, 20, _label(s), s.x.device, s.labels)


@declare("latent_grid_quantiles", "latent space", needs_plane, settings=("label",))
def _latent_grid_quantiles(s: Subject) -> Figure:
    """Means of p(x | z) at equal steps of the prior's probability, so that every tile stands for the same share of samples.

    Good: each kind of image has as many tiles as its share of the data.
    """
    return latent_quantile_grid(s.model, 20, _label(s), s.x.device, s.labels)


@declare("traversals", "latent space", needs_more_than(2))
def _traversals(s: Subject) -> Figure:
    """The most active latent dimensions, each moved from -3 to 3 while the others stay at the first test image's posterior mean.

    Activity is the KL over the test images, or the variance of posterior means where the KL is no sum over dimensions. Good: a row
    changes one thing, such as slant or width; a row that changes nothing is unused.
    """
    return latent_traversals(s.model, s.x, s.y)


@declare("posterior_means", "latent space", needs_latent, settings=("projection",))
def _posterior_means(s: Subject) -> Figure:
    """The mean of q(z | x) of every test image in the colour of its label, which an unconditional model has not seen.

    Latents of more than two dimensions are projected to a plane, by principal components if not asked otherwise. Good: classes form
    groups; in a conditional model they must not, for the label is known already and z is left for the style.
    """
    return posterior_means(s.model, s.x, s.y, s.projection, s.labels)


@declare("posterior_samples", "latent space", needs_latent, settings=("seed", "projection"))
def _posterior_samples(s: Subject) -> Figure:
    """One sample of q(z | x) of every test image: together, the aggregate posterior.

    Good: it fills the prior, a round cloud of standard deviation 1, without holes.
    """
    return posterior_samples(s.model, s.x, s.y, s.seed, s.projection, s.labels)


@declare("interpolations", "latent space", needs_latent)
def _interpolations(s: Subject) -> Figure:
    """Means of p(x | z) at ten equal steps between the posterior means of the first test images of two classes.

    Of images without labels, between the first test images. A conditional model keeps the label it starts from. Good: every step is
    an image that could be real, not two images laid over each other.
    """
    return interpolations(s.model, s.x, s.y, labels=s.labels)


@declare("interpolations_spherical", "latent space", needs_latent, needs_more_than(1))
def _interpolations_spherical(s: Subject) -> Figure:
    """Means of p(x | z) along great circles between the posterior means of the first test images of two classes.

    Great circles keep to the distance from the origin where a prior of many dimensions has its mass. Good: every step is an image
    that could be real, not two images laid over each other.
    """
    return interpolations(s.model, s.x, s.y, spherical=True, labels=s.labels)


def _label(s: Subject) -> int | None:
    """The class that a conditional model decodes a mesh with."""
    if not s.num_classes:
        return None
    require(s.label < s.num_classes, "label", s.label, f"below {s.num_classes}, the classes")
    return s.label


def require_two_dimensions(model: LatentVariableModel, name: str) -> None:
    """Raise unless the latent of `model` has two dimensions."""
    if model.latent_dim != 2:
        raise ConfigurationError(f"{name}: needs a latent of two dimensions, this model has {model.latent_dim}")


def latent_grid(
    model: LatentVariableModel,
    extent: float = 4.0,
    rows: int = 20,
    label: int | None = None,
    device: torch.device | str = "cpu",
    labels: Labels | None = None,
) -> Figure:
    """Means decoded from a mesh of `rows` x `rows` latents on [-extent, extent]^2; with `label` for a conditional model.

    `device` is where the model is.
    """
    require_two_dimensions(model, "latent_grid")
    fig, axes = figure(6, 6.2)
    z = latent_mesh(extent, rows).to(device)
    images = mean_images(model, z, labels_for(z, label))
    show_tiles(axes, images, rows)
    ends = [f"{-extent:g}", "0", f"{extent:g}"]
    marked = (0, (rows - 1) / 2, rows - 1)
    _mark_tiles(axes, images, marked, ends)
    axes.set(xlabel="$z_0$", ylabel="$z_1$", title=_title(label, labels))
    return fig


def latent_quantile_grid(
    model: LatentVariableModel,
    rows: int = 20,
    label: int | None = None,
    device: torch.device | str = "cpu",
    labels: Labels | None = None,
) -> Figure:
    """Means decoded at equal steps of the prior's probability: each tile stands for as much of it as every other.

    Raises:
        NotImplementedError: the prior does not factorise over dimensions.
    """
    require_two_dimensions(model, "latent_quantile_grid")
    fig, axes = figure(6, 6.2)
    y = None if label is None else torch.full((rows * rows,), label, device=device)
    images = mean_images(model, quantile_mesh(model.prior(y), rows).to(device), y)
    show_tiles(axes, images, rows)
    marked = (0, rows // 4, rows // 2, 3 * rows // 4, rows - 1)
    shares = [f"{(i + 0.5) / rows:.1%}" for i in marked]
    _mark_tiles(axes, images, marked, shares)
    axes.set(xlabel="share of the prior below $z_0$", ylabel="share of the prior below $z_1$", title=_title(label, labels))
    return fig


def _mark_tiles(axes: Axes, images: Tensor, places: Sequence[int | float], names: Sequence[str]) -> None:
    """Name the tiles that stand at `places` of a square mesh of images `(*, H, W)`: to the right below, upwards at the left."""
    down, across = ([tile_center(place, size) for place in places] for size in images.shape[-2:])
    axes.set_xticks(across, names)
    axes.set_yticks(down, names[::-1])
    axes.tick_params(labeltop=False, labelbottom=True)


def _title(label: int | None, labels: Labels | None) -> str:
    labels = labels or Labels()
    return "mean of p(x | z)" if label is None else f"mean of p(x | z, y), {labels.noun} {labels.name(label)}"


@torch.no_grad()
def mean_kl_per_dimension(model: LatentVariableModel, x: Tensor, y: Tensor, max_batch: int = 1000) -> Tensor:
    """KL(q(z_d | x) || p(z_d)) of each latent dimension, the mean over the images: `(D,)` nats."""

    def divergence(images: Tensor, labels: Tensor) -> Tensor:
        return kl_per_dimension(model.posterior(images, labels), model.prior(labels))

    return over_chunks(divergence, x, y, size=max_batch).mean(0)


@torch.no_grad()
def latent_traversals(
    model: LatentVariableModel, x: Tensor, y: Tensor, units: int = 10, steps: int = 11, extent: float = 3.0
) -> Figure:
    """The most active units, each moved from -extent to extent, the others at the first image's mean.

    Activity is the KL over the images, or the variance of posterior means where the KL is no sum over dimensions.
    """
    try:
        activity, words = mean_kl_per_dimension(model, x, y), "{:.2f} nats"
    except NotImplementedError:
        activity, words = latents.posterior_means(model, x, y, AT_ONCE).var(0), "var {:.2f}"
    active = activity.argsort(descending=True)[:units]
    anchor = model.posterior(x[:1], y[:1]).mean[0]
    values = torch.linspace(-extent, extent, steps)
    z = traversals(anchor, active, values).flatten(0, 1)
    images = mean_images(model, z, y[:1].expand(len(z)))
    fig, axes = figure(0.55 * steps + 1.6, 0.52 * len(active) + 0.6)
    names = [f"unit {unit}: {words.format(activity[unit])}" for unit in active.tolist()]
    show_tiles(axes, images, steps, row_names=names, column_names=[f"{round(value, 1) + 0:g}" for value in values.tolist()])
    axes.set_title("mean of p(x | z), one unit of z moved")
    return fig


@torch.no_grad()
def kl_bars(model: LatentVariableModel, x: Tensor, y: Tensor) -> Figure:
    """KL of each latent dimension over the images, in falling order."""
    divergence = mean_kl_per_dimension(model, x, y)
    order = divergence.argsort(descending=True).cpu()
    fig, axes = figure(max(4.0, 0.22 * len(order) + 1.2), 2.8)
    axes.bar(range(len(order)), divergence.cpu()[order].numpy())
    axes.set_xticks(range(len(order)), [str(unit) for unit in order.tolist()], fontsize=7 if len(order) > 25 else 9)
    axes.set(xlabel="latent dimension", ylabel="KL (nats)", title=f"{float(divergence.sum()):.2f} nats in all, {len(x):,} images")
    return fig


# ---- posteriors by label


def posterior_means(
    model: LatentVariableModel, x: Tensor, y: Tensor, projection: Projection = "pca", labels: Labels | None = None
) -> Figure:
    """Means of q(z | x) in the colour of their labels; of more than two dimensions, in the plane of `projection`."""
    return _by_label(latents.posterior_means(model, x, y, AT_ONCE), y, r"\mu", "means of q(z | x)", projection, labels or Labels())


def posterior_samples(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    seed: int = 0,
    projection: Projection = "pca",
    labels: Labels | None = None,
) -> Figure:
    """One sample of each q(z | x) in the colour of its label: together, samples of the aggregate posterior."""
    noise = standard_normal((len(x), model.latent_dim), model.prior(y[:1]).mean, seed, "posterior samples")

    def sample(images: Tensor, labels: Tensor, epsilon: Tensor) -> Tensor:
        return from_noise(model.posterior(images, labels), epsilon)

    z = over_chunks(sample, x, y, noise, size=AT_ONCE)
    return _by_label(z, y, "z", "one sample of each q(z | x)", projection, labels or Labels())


def _by_label(z: Tensor, y: Tensor, symbol: str, title: str, projection: Projection, labels: Labels) -> Figure:
    points, names = projected(z, symbol, projection)
    shuffled = torch.randperm(len(y), generator=generator("order of drawing"))  # or the last class would hide the others
    fig, axes = figure(6, 5)
    colored_by_class(axes, points.cpu()[shuffled], y.cpu()[shuffled], labels)
    class_bar(fig, axes, labels, labels.classes_in(y))
    axes.set(xlabel=names[0], ylabel=names[1], title=f"{title}, {len(y):,} images", aspect="equal" if z.shape[-1] == 2 else "auto")
    return fig


Plane = Callable[[Tensor], Tensor]


def projected(z: Tensor, symbol: str = "z", projection: Projection = "pca") -> tuple[Tensor, tuple[str, str]]:
    """Latents `(N, D)` as points `(N, 2)` with the names of both axes: themselves if D is 2, else projected."""
    z = z.detach().double().cpu()
    choose("projection", projection, dict.fromkeys(get_args(Projection)))
    if z.shape[-1] > 2 and projection == "umap":
        return _umap(z), ("UMAP 1", "UMAP 2")
    project, names = plane_of(z, symbol)
    return project(z), names


def plane_of(z: Tensor, symbol: str = "z") -> tuple[Plane, tuple[str, str]]:
    """The map of latents `(*, D)` to points `(*, 2)`: the first two principal components of `z` `(N, D)`, and the axes' names.

    Of two dimensions themselves; of one, with a height at random.
    """
    if z.shape[-1] == 2:
        return lambda points: points, (f"${symbol}_0$", f"${symbol}_1$")
    if z.shape[-1] == 1:
        height = torch.rand(len(z), 1, generator=generator("height"), dtype=z.dtype)
        return lambda points: torch.cat([points, height], dim=-1), (f"${symbol}_0$", "at random, to set points apart")
    centre = z.mean(0)
    directions = torch.linalg.svd(z - centre, full_matrices=False)
    vectors = directions.Vh[:2]
    # a direction's sign is arbitrary, and so fixed here
    vectors = vectors * vectors.gather(1, vectors.abs().argmax(1, keepdim=True)).sign()
    shares = directions.S.square() / directions.S.square().sum()
    names = f"first principal component ({shares[0]:.0%})", f"second principal component ({shares[1]:.0%})"
    return lambda points: (points - centre) @ vectors.mT, names


def _umap(z: Tensor) -> Tensor:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ConfigurationError("projection=umap: needs umap-learn: pip install umap-learn") from error
    return torch.from_numpy(UMAP(random_state=0).fit_transform(z.numpy()))


# ---- lines


@torch.no_grad()
def interpolations(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    pairs: Sequence[tuple[int, int]] | None = None,
    steps: int = 10,
    spherical: bool = False,
    labels: Labels | None = None,
) -> Figure:
    """Means decoded between the posterior means of the first image of each class of a pair, a row a pair.

    Straight with equal steps, or `spherical`. A conditional model decodes each row with the label it starts from.

    Args:
        pairs: of classes; None: three pairs of those that have images, or, of images without labels, the first six images.

    Raises:
        ConfigurationError: a class has no image, or all images are of one class.
    """
    labels = labels or Labels()
    rows, names = [], []
    for (start, end), name in _ends(y, pairs, labels):
        loc = model.posterior(x[[start, end]], y[[start, end]]).mean
        z = (great_circle if spherical else line)(loc[0], loc[1], steps)
        rows.append(mean_images(model, z, y[[start]].expand(steps)))
        names.append(name + (f", as {labels.name(int(y[start]))}" if classes_of(model) else ""))
    fig, axes = figure(0.6 * steps + 0.8, 0.62 * len(rows) + 0.4)
    show_tiles(axes, torch.cat(rows), steps, row_names=names)
    axes.set_title(f"mean of p(x | z), {'on a circle' if spherical else 'on a line'} between posterior means")
    return fig


def _ends(y: Tensor, pairs: Sequence[tuple[int, int]] | None, labels: Labels) -> list[tuple[tuple[int, int], str]]:
    """The places of the two images that each interpolation goes between, and their names."""
    if not labels.exist:
        if len(y) < 2:
            raise ConfigurationError(f"interpolations: need two images, and there is {len(y)}")
        return [((place, place + 1), f"image {place} to {place + 1}") for place in range(0, min(6, len(y)) - 1, 2)]
    chosen = pairs_among(y) if pairs is None else pairs
    return [
        ((first_of_class(y, a, labels), first_of_class(y, b, labels)), f"{labels.name(a)} to {labels.name(b)}") for a, b in chosen
    ]


def pairs_among(y: Tensor, count: int = 3) -> list[tuple[int, int]]:
    """At most `count` pairs of the classes in labels `(N,)`: 1 and 2, 3 and 8, 4 and 5 where there are such, then neighbours.

    >>> pairs_among(torch.arange(10)), pairs_among(torch.tensor([0, 1, 2]))
    ([(1, 2), (3, 8), (4, 5)], [(1, 2), (0, 1), (2, 0)])
    """
    classes = y.unique().tolist()
    if len(classes) < 2:
        raise ConfigurationError(f"interpolations: need images of two classes, and all {len(y)} are of class {classes[0]}")
    wanted = [pair for pair in PAIRS if set(pair) <= set(classes)]
    around = zip(classes, classes[1:] + classes[:1], strict=True)
    pairs: dict[frozenset[int], tuple[int, int]] = {}
    for pair in [*wanted, *around]:
        pairs.setdefault(frozenset(pair), pair)
    return [*pairs.values()][:count]


def first_of_class(y: Tensor, label: int, labels: Labels | None = None) -> int:
    """The place of the first image of class `label` among labels `(N,)`."""
    places = (y == label).nonzero()
    if not len(places):
        labels = labels or Labels()
        raise ConfigurationError(f"{labels.noun} {labels.name(label)}: none of the {len(y)} images has it")
    return int(places[0])


def one_of_each(y: Tensor) -> list[int]:
    """The places of the first images of each class among labels `(N,)`."""
    return [first_of_class(y, label) for label in y.unique().tolist()]
