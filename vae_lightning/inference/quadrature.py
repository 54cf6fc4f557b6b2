r"""Exact inference for models of one or two latent dimensions: the integral over z as a sum over a grid.

$\log p(x_O \mid y) = \log \int p(x_O \mid z, y)\, p(z \mid y)\, dz \approx \log \sum_g p(x_O, z_g \mid y)\, h^D$ over the
centres $z_g$ of cells of side h, which converges faster than any power of h for smooth integrands that vanish at the edge
("The exponentially convergent trapezoidal rule", Trefethen and Weideman, 2014, https://doi.org/10.1137/130932132).

The posterior of a trained model is far narrower than the prior, and elsewhere for each image. So a coarse grid that all
images share finds the box that holds an image's mass, coarse grids over that box narrow it, and a fine one over what is
left gives the integral.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import require
from vae_lightning.inference.observed import log_joint, require_images
from vae_lightning.types import LatentVariableModel

__all__ = ["Quadrature", "kl_to_exact", "log_joint_on", "quadrature"]

NEGLIGIBLE = 30.0
"""Points so many nats below the best one do not count: exp(-30) of its density, in a box of some hundred of its widths."""
REACH = 7.0
"""Standard deviations to each side that hold all of a Gaussian."""


@dataclass(frozen=True)
class Quadrature:
    """The exact posterior of B images, and the grid that it was found on.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=1, net={"name": "mlp", "hidden": [8]}).eval()
    >>> exact = quadrature(model, torch.zeros(3, 1, 28, 28), points=16)
    >>> exact.z.shape, [round(total, 4) for total in exact.weights.sum(0).tolist()]
    (torch.Size([16, 3, 1]), [1.0, 1.0, 1.0])
    """

    z: Tensor
    """Centres of the cells, `(G, B, D)`: a regular grid for each image, over the box that holds its mass."""
    log_joint: Tensor
    """log p(observed x, z | y) there, `(G, B)` nats."""
    log_cell: Tensor
    """Log of the volume of a cell of each image, `(B,)`."""
    log_evidence: Tensor
    """log p(observed x | y), `(B,)` nats, float64."""
    error: Tensor
    """How far the sums over every second point are from each other, `(B,)` nats; the error of the whole sum is far below it."""
    log_joint_at: Callable[[Tensor], Tensor]
    """log p(observed x, z | y), `(K, B)` nats, of any latents `(K, B, D)` or `(K, 1, D)`."""

    @property
    def log_posterior(self) -> Tensor:
        """Log density p(z | observed x, y) on the grid, `(G, B)` nats."""
        return self.log_joint - self.log_evidence

    @property
    def weights(self) -> Tensor:
        """Probability of each cell, `(G, B)`: sums to 1 over G."""
        return (self.log_posterior + self.log_cell).exp()


@torch.no_grad()
def quadrature(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None = None,
    mask: Tensor | None = None,
    extent: float = 6.0,
    points: int = 64,
    max_batch: int = 4000,
) -> Quadrature:
    """The exact posterior p(z | observed pixels, y) of each image, holding about `max_batch` decoded images at a time.

    Args:
        x: images `(B, *event)`.
        y: labels `(B,)` of a conditional model; None for others, which is faster, as they share what is decoded.
        mask: bool, `event` or `(B, *event)`, True where observed; None: everywhere.
        extent: the mass is looked for in [-extent, extent]^D.
        points: of the fine grid along a dimension, even; more for posteriors of several narrow modes, where `error` is large.

    Raises:
        ConfigurationError: the latent has more than two dimensions, or the images or the labels are not the model's.
    """
    require(model.latent_dim <= 2, "latent_dim", model.latent_dim, "at most 2 for exact integrals over a grid of latents")
    require_images(model, x, y, mask)
    require(extent > 0, "extent", extent, "positive")
    require(points >= 16 and points % 2 == 0, "points", points, "even and at least 16")

    def log_joint_at(z: Tensor) -> Tensor:
        return log_joint(model, z, x, y, mask, max_batch)

    low = torch.full((1, model.latent_dim), -extent, device=x.device, dtype=model.prior(y).mean.dtype)
    high = -low
    for coarse in (2 * points, points // 2, points // 2):
        z = _grid(low, high, coarse)
        low, high = _box_of_mass(z, log_joint_at(z), (high - low) / coarse)
    z, log_cell = _grid(low, high, points), ((high - low) / points).double().log().sum(-1)
    joint = log_joint_at(z)
    parts = _every_second(joint.double(), points, model.latent_dim).logsumexp(1)
    log_evidence = joint.double().logsumexp(0) + log_cell
    return Quadrature(z, joint, log_cell, log_evidence, parts.amax(0) - parts.amin(0), log_joint_at)


@torch.no_grad()
def log_joint_on(
    model: LatentVariableModel,
    z: Tensor,
    x: Tensor,
    y: Tensor | None = None,
    mask: Tensor | None = None,
    max_batch: int = 4000,
) -> Tensor:
    """log p(observed pixels, z | y), `(G, B)` nats, of latents `(G, D)` and images `(B, *event)`; see `quadrature`.

    Raises:
        ConfigurationError: the images, labels or mask are not the model's.
    """
    require_images(model, x, y, mask)
    return log_joint(model, z.unsqueeze(1), x, y, mask, max_batch)


@torch.no_grad()
def kl_to_exact(q: Distribution, exact: Quadrature, points: int = 64) -> Tensor:
    """KL(q || p(z | observed x, y)), `(B,)` nats, of the diagonal Gaussians `q`, batch shape `(B,)` and event shape `(D,)`.

    Summed over a grid of its own that holds q, which may lie where the exact posterior has no mass.
    """
    low, high = q.mean - REACH * q.stddev, q.mean + REACH * q.stddev
    z = _grid(low, high, points)
    log_q = q.log_prob(z).double()
    weights = log_q.softmax(0)
    return (weights * (log_q - exact.log_joint_at(z))).sum(0) + exact.log_evidence


def _grid(low: Tensor, high: Tensor, points: int) -> Tensor:
    """Centres of `points`^D equal cells `(G, B, D)` of the boxes from `low` to `high`, `(B, D)`."""
    centres = (torch.arange(points, device=low.device, dtype=low.dtype) + 0.5) / points
    unit = torch.stack(torch.meshgrid(*[centres] * low.shape[-1], indexing="ij"), dim=-1).flatten(0, -2)
    return low + (high - low) * unit.unsqueeze(1)


def _box_of_mass(z: Tensor, log_joint: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest corner `(B, D)` of what counts, and two cells more, as the peak may lie between the points."""
    counts = (log_joint > log_joint.amax(0) - NEGLIGIBLE).unsqueeze(-1)
    low = torch.where(counts, z, torch.inf).amin(0)
    high = torch.where(counts, z, -torch.inf).amax(0)
    return low - 2 * cell, high + 2 * cell


def _every_second(values: Tensor, points: int, dimensions: int) -> Tensor:
    """The 2^D grids of every second point, `(2^D, G / 2^D, B)`, of values `(G, B)`."""
    halves: Tensor = values.unflatten(0, [points // 2, 2] * dimensions)
    odd = [2 * d + 1 for d in range(dimensions)]
    return halves.movedim(odd, list(range(dimensions))).flatten(dimensions, -2).flatten(0, dimensions - 1)
