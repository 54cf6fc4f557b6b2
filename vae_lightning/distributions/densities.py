r"""Integrals of densities over latents, which are one where `log_prob` is normalised, and densities by change of variables.

- Of one or two dimensions: the sum over a grid $z = m + s \sinh(u)$ with the distribution's own mean m and standard deviation s,
  which is fine where the mass is and reaches out to 500 s.
- Of more: the mean over samples of another density r, $\int p(z)\, dz = E_r[p(z) / r(z)]$. The other density is the distribution's
  own way from noise to samples, $z = f(\epsilon)$, with noise that is wider by $c = 1 + 1 / (4 \sqrt{D})$, so that the weights are
  even in any number of dimensions: the variance of a Gaussian's is 0.13. By change of variables
  $\log r(z) = \log N(\epsilon; 0, c^2 I) - \log |\det \partial f / \partial \epsilon|$, the determinant by automatic
  differentiation and not by `log_prob`. Of a mixture of Gaussians, in which several $\epsilon$ lead to one z, it is the mixture of
  wider components.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, MultivariateNormal, Normal, TransformedDistribution

from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.sampling import from_noise

__all__ = ["Integral", "integral_by_grid", "integral_by_sampling", "is_one_to_one", "transported"]

REACH = 7.0
"""How far u goes to each side: sinh(7) is 548."""
AT_ONCE = 1 << 20
"""Points of a grid, or samples, whose densities are computed at once."""


class Integral(NamedTuple):
    """Integrals of B densities, and how far each may be off.

    >>> from vae_lightning.distributions.sampling import diagonal_gaussian
    >>> integral = integral_by_grid(diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2)))
    >>> integral.value.shape, bool((integral.value - 1).abs().max() < 1e-5)
    (torch.Size([3]), True)
    """

    value: Tensor
    """The integrals, `(B,)`, float64."""
    error: Tensor
    """How far the sum over a coarser grid is from the value, or the standard error over samples, `(B,)`."""


@torch.no_grad()
def integral_by_grid(density: Distribution, points: int = 256) -> Integral:
    """The integrals of densities of event shape `(1,)` or `(2,)`, batch shape `()` or `(B,)`, over a grid of `points`^D points."""
    value = _sum_over_grid(density, points)
    # not of every second point, which a kink of the density in the middle would be as far from as from the others
    return Integral(value, (value - _sum_over_grid(density, points * 2 // 3)).abs())


def _sum_over_grid(density: Distribution, points: int) -> Tensor:
    mean, width = (values.reshape(-1, values.shape[-1]) for values in (density.mean, density.stddev))
    u = torch.linspace(-REACH, REACH, points, device=mean.device, dtype=torch.float64)
    sides = [torch.meshgrid(*[side] * mean.shape[-1], indexing="ij") for side in (u.sinh(), u.cosh().log() + (u[1] - u[0]).log())]
    unit, log_cell = torch.stack(sides[0], -1).flatten(0, -2), torch.stack(sides[1]).sum(0).flatten()
    total = torch.zeros(len(mean), dtype=torch.float64, device=mean.device)
    at_once = max(1, AT_ONCE // (64 * len(mean)))
    for some, log_weights in zip(unit.split(at_once), log_cell.split(at_once), strict=True):
        z = mean + width * some.unsqueeze(1).to(mean)
        log_prob = density.log_prob(z if density.batch_shape else z.squeeze(1)).double().view(len(some), -1)
        total += (log_prob + log_weights.unsqueeze(-1) + width.double().log().sum(-1)).exp().sum(0)
    return total


def integral_by_sampling(density: Distribution, noise: Tensor) -> Integral:
    """The integrals of densities of event shape `(D,)`, batch shape `()` or `(B,)`, by importance sampling.

    Args:
        noise: standard normal, `(K, *batch, D)`.

    Raises:
        NotImplementedError: there is no way from noise to samples of `density`, or it is no smooth one.
    """
    wide = 1 + 0.25 / math.sqrt(noise.shape[-1])
    if isinstance(density, MixtureSameFamily):
        z, log_proposal = _from_wide_mixture(density, noise, wide)
    else:
        z, log_map = transported(density, wide * noise)
        log_proposal = log_map + (wide**2 - 1) / 2 * noise.double().square().sum(-1) - noise.shape[-1] * math.log(wide)
    with torch.no_grad():
        # another tensor than the sample, of which some distributions know the density
        weights = (density.log_prob(z.clone()).double() - log_proposal).exp().view(len(noise), -1)
    return Integral(weights.mean(0), weights.std(0) / math.sqrt(len(noise)))


def transported(density: Distribution, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""Samples `(K, *batch, D)` from `noise`, and $\log N(\epsilon; 0, I) - \log |\det \partial z / \partial \epsilon|$, float64.

    That is log p(z), nats, where noise and samples are one to one. Each sample must be of its own noise alone.
    """
    with torch.inference_mode(False), torch.enable_grad():
        epsilon = noise.detach().clone().requires_grad_()
        z = from_noise(density, epsilon)
        if not z.requires_grad:
            raise NotImplementedError("samples do not depend on the noise by a function that can be differentiated")
        rows = [torch.autograd.grad(z[..., d].sum(), epsilon, retain_graph=True)[0] for d in range(z.shape[-1])]
    jacobian = torch.stack(rows, -2).double()
    log_noise = Normal(0.0, 1.0).log_prob(epsilon.detach().double()).sum(-1)
    return z.detach(), log_noise - torch.linalg.slogdet(jacobian).logabsdet


def is_one_to_one(density: Distribution) -> bool:
    """Whether noise and samples are known to be one to one: of Gaussians, factors, and chains of `steps` or transforms."""
    known = isinstance(density, MultivariateNormal | TransformedDistribution) or hasattr(density, "steps")
    return known or (factors(density) is not None and not isinstance(density, MixtureSameFamily))


@torch.no_grad()
def _from_wide_mixture(mixture: MixtureSameFamily, noise: Tensor, wide: float) -> tuple[Tensor, Tensor]:
    """Samples of a mixture of diagonal Gaussians whose components are wider, `(K, *batch, D)`, and their log density, float64."""
    parts = mixture.component_distribution
    if not isinstance(factors(parts), Normal) or mixture.batch_shape:
        raise NotImplementedError("a mixture of other components than Gaussians with independent dimensions, or one a label")
    loc, scale = parts.mean.double(), wide * parts.stddev.double()
    # one draw of a component each, evenly: the k-th of K samples stands at (k + 1/2) / K of their cumulated weights
    ends = mixture.mixture_distribution.probs.double().cumsum(-1)
    share = (torch.arange(len(noise), dtype=torch.float64, device=loc.device) + 0.5) / len(noise)
    chosen = torch.searchsorted(ends, share).clamp(max=len(loc) - 1)
    z = (loc[chosen] + scale[chosen] * noise.double()).to(noise.dtype)
    log_weights = mixture.mixture_distribution.logits.double().log_softmax(-1)
    densities = [
        (log_weights + Normal(loc, scale).log_prob(some.double().unsqueeze(-2)).sum(-1)).logsumexp(-1)
        for some in z.split(max(1, AT_ONCE // max(1, loc.numel())))
    ]
    return z, torch.cat(densities)
