r"""Places in latent space, and what a model decodes there: meshes, straight and round lines, traversals.

Everything is written against the protocol in `vae_lightning.types`. Latents have shape `(*, D)`.
"""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.abilities import classes_of
from vae_lightning.arguments import require
from vae_lightning.distributions.factors import factors, has_quantiles
from vae_lightning.errors import kind_of
from vae_lightning.inference.chunks import over_chunks
from vae_lightning.types import LatentVariableModel

__all__ = [
    "classes_of",
    "great_circle",
    "labels_for",
    "latent_mesh",
    "line",
    "mean_images",
    "posterior_means",
    "quantile_mesh",
    "traversals",
]


def latent_mesh(extent: float = 4.0, rows: int = 20) -> Tensor:
    """Points `(rows * rows, 2)` of the square [-extent, extent]^2, as one reads: from the top left, z_0 to the right, z_1 up."""
    require(extent > 0, "extent", extent, "positive")
    require(rows >= 2, "rows", rows, "at least 2")
    return _mesh(torch.linspace(-extent, extent, rows))


def quantile_mesh(prior: Distribution, rows: int = 20) -> Tensor:
    """Points `(rows * rows, 2)` at equal steps of the probability of `prior`, of event shape `(2,)`, in the order of `latent_mesh`.

    Each point stands for as much of that probability as any other.

    Raises:
        NotImplementedError: the prior does not factorise over dimensions, so its quantiles make no mesh, or has no `icdf`.
    """
    require(rows >= 2, "rows", rows, "at least 2")
    dimensions = factors(prior)
    if dimensions is None:
        raise NotImplementedError(f"{kind_of(prior)} does not factorise over dimensions, so its quantiles make no mesh")
    if not has_quantiles(dimensions):
        raise NotImplementedError(f"{kind_of(dimensions)} has no quantile function icdf, of which a mesh could be made")
    points: Tensor = dimensions.icdf(_mesh((torch.arange(rows) + 0.5) / rows).to(prior.mean))
    return points


def _mesh(side: Tensor) -> Tensor:
    return torch.cartesian_prod(side.flip(0), side).flip(-1)


def line(start: Tensor, end: Tensor, steps: int = 10) -> Tensor:
    """Equal steps from `start` to `end`, `(*, D)` each: `(steps, *, D)`."""
    weight = _weights(start, steps)
    return (1 - weight) * start + weight * end


def great_circle(start: Tensor, end: Tensor, steps: int = 10) -> Tensor:
    """Steps of equal angle from `start` to `end`, the length changing evenly too, as a sample's length is what a prior fixes.

    "Sampling generative networks", White, 2016, https://arxiv.org/abs/1609.04468.
    """
    weight = _weights(start, steps)
    lengths = start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True)
    first, last = start / lengths[0], end / lengths[1]
    angle = (first * last).sum(-1, keepdim=True).clamp(-1, 1).arccos()
    directions = (((1 - weight) * angle).sin() * first + (weight * angle).sin() * last) / angle.sin()
    # there is no one circle through points on one line with the origin
    directions = torch.where(angle.sin() > 1e-4, directions, torch.nn.functional.normalize(line(first, last, steps), dim=-1))
    between: Tensor = directions * line(*lengths, steps)
    return between


def traversals(anchor: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """`anchor` `(D,)` with each of `units` `(U,)` in turn set to each of `values` `(V,)`: `(U, V, D)`."""
    z = anchor.expand(len(units), len(values), -1).clone()
    for row, unit in enumerate(units.tolist()):
        z[row, :, unit] = values.to(z)
    return z


def _weights(like: Tensor, steps: int) -> Tensor:
    require(steps >= 2, "steps", steps, "at least 2")
    return torch.linspace(0, 1, steps, device=like.device, dtype=like.dtype).view(-1, *[1] * like.dim())


@torch.no_grad()
def mean_images(model: LatentVariableModel, z: Tensor, y: Tensor | None = None, max_batch: int = 1000) -> Tensor:
    """Means of p(x | z, y), `(B, *event)` for latents `(B, D)` and labels `(B,)`, holding `max_batch` at a time."""
    return over_chunks(lambda latents, labels: model.likelihood(latents, labels).mean, z, y, size=max_batch)


@torch.no_grad()
def posterior_means(model: LatentVariableModel, x: Tensor, y: Tensor | None = None, max_batch: int = 500) -> Tensor:
    """Means of q(z | x, y), `(B, D)` for images `(B, *event)` and labels `(B,)`, holding `max_batch` at a time."""
    return over_chunks(lambda images, labels: model.posterior(images, labels).mean, x, y, size=max_batch)


def labels_for(z: Tensor, label: int | None) -> Tensor | None:
    """`label` for each of the latents `(*, B, D)`, `(B,)`; None for a model without labels."""
    return None if label is None else torch.full((z.shape[-2],), label, device=z.device)
