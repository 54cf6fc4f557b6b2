r"""Distributions of latents, and how standard normal noise becomes a sample of one.

Everything random in this project is a function of noise that is drawn beforehand, so a sample is $z = f(\epsilon)$ with
$\epsilon \sim N(0, I)$ ("Auto-encoding variational Bayes", Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114).
"""

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal
from torch.special import ndtr, ndtri

from vae_lightning.distributions.factors import factors, has_quantiles
from vae_lightning.errors import kind_of

__all__ = ["GaussianMixture", "diagonal_gaussian", "from_noise"]

TINY = 2.0**-53
"""Half the distance from 1 to the next number in double precision."""


def diagonal_gaussian(loc: Tensor, log_variance: Tensor) -> Distribution:
    """The Gaussian N(loc, diag exp(log_variance)) with event shape `(D,)`.

    >>> diagonal_gaussian(torch.zeros(4, 2), torch.zeros(4, 2)).log_prob(torch.zeros(2)).shape
    torch.Size([4])
    """
    return Independent(Normal(loc, (0.5 * log_variance).exp(), validate_args=False), 1, validate_args=False)


class GaussianMixture(MixtureSameFamily):
    r"""A mixture of K diagonal Gaussians in D dimensions whose density takes memory for K numbers a point, not K D.

    With precisions $\tau_{kd} = 1 / \sigma_{kd}^2$, a component's $\sum_d \tau_{kd} (z_d - \mu_{kd})^2$ is
    $\sum_d \tau_{kd} z_d^2 - 2 \sum_d \tau_{kd} \mu_{kd} z_d + \mathrm{const}_k$: one matrix product for all k.

    Args:
        logits: logits of the components' weights, `(K,)`.
        components: an Independent Normal of batch shape `(K,)` and event shape `(D,)`.

    >>> mixture = GaussianMixture(torch.zeros(5), diagonal_gaussian(torch.zeros(5, 2), torch.zeros(5, 2)))
    >>> mixture.log_prob(torch.zeros(2))
    tensor(-1.8379)
    """

    def __init__(self, logits: Tensor, components: Distribution) -> None:
        super().__init__(Categorical(logits=logits, validate_args=False), components, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density of points `(*, D)`, `(*)` nats."""
        # in double precision, as the large squares of narrow components cancel, and not in the bfloat16 of autocast
        with torch.autocast(value.device.type, enabled=False):
            z, loc, variance = (v.double() for v in (value, self.component_distribution.mean, self.component_distribution.variance))
            slopes = torch.cat([loc / variance, -0.5 / variance], dim=-1)
            constant = -0.5 * (loc.square() / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
            each = torch.cat([z, z.square()], dim=-1) @ slopes.mT + constant + self.mixture_distribution.logits
            return each.logsumexp(-1).to(value.dtype)


def from_noise(distribution: Distribution, epsilon: Tensor) -> Tensor:
    """A sample `(*, D)` of `distribution`, as a function of standard normal noise `epsilon` of that shape.

    The sample is differentiable in the distribution's parameters, except for the choice of a mixture's component, which may be of
    any kind that is known. A user's distribution needs a method `from_noise(epsilon)`.

    >>> from_noise(diagonal_gaussian(torch.ones(2), torch.zeros(2)), torch.tensor([0.5, -0.5]))
    tensor([1.5000, 0.5000])

    Raises:
        NotImplementedError: there is no such method, and the distribution is none that is known.
    """
    transform = getattr(distribution, "from_noise", None)
    sample: Tensor
    if transform is not None:
        sample = transform(epsilon)
        return sample
    if isinstance(distribution, MixtureSameFamily):
        return _from_mixture(distribution, epsilon)
    if isinstance(distribution, MultivariateNormal):
        return distribution.loc + (distribution.scale_tril @ epsilon.unsqueeze(-1)).squeeze(-1)
    dimensions = factors(distribution)
    if isinstance(dimensions, Normal):
        return distribution.mean + distribution.stddev * epsilon
    if dimensions is not None and dimensions.has_rsample and has_quantiles(dimensions):
        # in double precision, and never 1, of which a quantile is infinite: float32 draws beyond 5.3 have a share of 1
        share = ndtr(epsilon.double()).clamp(TINY, 1 - TINY)
        sample = dimensions.icdf(share).to(epsilon.dtype)
        return sample
    raise NotImplementedError(f"{kind_of(dimensions or distribution)} has no from_noise(epsilon), so it cannot be sampled here")


def _from_mixture(mixture: MixtureSameFamily, epsilon: Tensor) -> Tensor:
    """Samples of a mixture from noise whose first number chooses the component, and serves as that component's noise too.

    u = Phi(epsilon_1) is uniform on [0, 1], where each component has a share as long as its weight. Given the share that u falls
    into, the place of u within the share is uniform again, and its quantile standard normal.
    """
    epsilon = epsilon.expand(torch.broadcast_shapes(epsilon.shape, (*mixture.batch_shape, epsilon.shape[-1])))
    share = mixture.mixture_distribution.probs.double()
    u = ndtr(epsilon[..., :1].double())
    ends = share.cumsum(-1)
    chosen = (u >= ends[..., :-1]).sum(-1, keepdim=True)
    start, size = ((values.expand(*u.shape[:-1], -1).gather(-1, chosen)) for values in (ends - share, share))
    place = ((u - start) / size).clamp(1e-12, 1 - 1e-12)
    noise = torch.cat([ndtri(place).to(epsilon.dtype), epsilon[..., 1:]], dim=-1)
    parts = mixture.component_distribution
    index = chosen.unsqueeze(-1).expand(*chosen.shape, epsilon.shape[-1])

    def of_chosen(values: Tensor) -> Tensor:
        """`(*, D)` of the chosen component, of `(*, K, D)` of all."""
        return values.expand(*epsilon.shape[:-1], *values.shape[-2:]).gather(-2, index).squeeze(-2)

    if isinstance(factors(parts), Normal):  # which spares the samples of all components
        return of_chosen(parts.mean) + of_chosen(parts.stddev) * noise
    each = (*noise.shape[:-1], *parts.batch_shape[-1:], noise.shape[-1])
    return of_chosen(from_noise(parts, noise.unsqueeze(-2).expand(each)))
