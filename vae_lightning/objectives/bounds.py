r"""Objectives: per-image terms to what is maximised. All in nats per image, higher is better, loss = -mean over the batch.

With $z_k \sim q(z \mid x)$, $k = 1..K$, and $w_k = p(x \mid z_k)\, p(z_k) / q(z_k \mid x)$:

- ELBO: $\frac1K \sum_k \log p(x \mid z_k) - KL(q(z \mid x) \,\|\, p(z))$, the KL in closed form where torch has it
  ("Auto-encoding variational Bayes", Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114).
- beta-VAE: the KL times $\beta$ ("beta-VAE: learning basic visual concepts with a constrained variational framework",
  Higgins et al., 2017, https://openreview.net/forum?id=Sy2fzU9gl).
- capacity: $-\gamma\, |KL - C|$ in place of $-KL$, C growing from 0 ("Understanding disentangling in beta-VAE",
  Burgess et al., 2018, https://arxiv.org/abs/1804.03599).
- importance-weighted bound: $\log \frac1K \sum_k w_k \le \log p(x)$ ("Importance weighted autoencoders",
  Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519).
- the mean of $M$ such bounds of $K/M$ samples each (MIWAE), and the ELBO mixed with the bound (CIWAE) ("Tighter variational
  bounds are not necessarily better", Rainforth et al., 2018, https://arxiv.org/abs/1802.04537).
- its doubly reparameterised gradient ("Doubly reparameterized gradient estimators for Monte Carlo objectives",
  Tucker et al., 2019, https://arxiv.org/abs/1810.04152).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from vae_lightning.distributions.factors import factors
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.types import Draw

__all__ = [
    "LinearWarmup",
    "active_units",
    "beta_objective",
    "capacity_objective",
    "detached",
    "doubly_reparameterised",
    "elbo",
    "iwae_bound",
    "kl",
    "kl_between",
    "kl_is_closed",
    "kl_per_dimension",
    "log_likelihood",
    "log_weights",
    "mean_log_likelihood",
    "mean_of_bounds",
    "partially_weighted",
    "systematic_resampling",
]


def kl(draw: Draw) -> Tensor:
    """KL(q(z|x) || p(z)), `(B,)` nats: closed form where torch has it, else the mean over the samples at hand."""
    return kl_between(draw.posterior, draw.prior, draw.z)


def kl_between(posterior: Distribution, prior: Distribution, z: Tensor) -> Tensor:
    """KL(`posterior` || `prior`), `(B,)` nats: closed form where torch has it, else by samples `z` `(K, B, D)` of the posterior."""
    try:
        return kl_divergence(posterior, prior)
    except NotImplementedError:
        return (posterior.log_prob(z) - prior.log_prob(z)).mean(0)


def kl_is_closed(posterior: Distribution, prior: Distribution) -> bool:
    """Whether `kl_between` is exact: torch has a closed form for these two distributions."""
    try:
        kl_divergence(posterior, prior)
    except NotImplementedError:
        return False
    return True


def kl_per_dimension(posterior: Distribution, prior: Distribution) -> Tensor:
    """KL(q(z_d|x) || p(z_d)) of each latent dimension, `(B, D)` nats, where both factorise over dimensions.

    Raises:
        NotImplementedError: one of them does not, so its KL is no sum over dimensions.
    """
    posteriors, priors = factors(posterior), factors(prior)
    if posteriors is None or priors is None:
        whole = posterior if posteriors is None else prior
        raise NotImplementedError(f"{kind_of(whole)} does not factorise over dimensions, so its KL is no sum over them")
    return kl_divergence(posteriors, priors)


def active_units(means: Tensor) -> Tensor:
    """Which latent dimensions are in use, bool `(D,)`: where posterior means `(N, D)` have a variance over images above 0.01.

    The measure of Burda, Grosse and Salakhutdinov (2016).
    """
    return means.var(0, correction=min(1, len(means) - 1)) > 0.01  # of one image there is no variance


def mean_log_likelihood(draw: Draw, x: Tensor) -> Tensor:
    """The mean of log p(x|z) over the samples, `(B,)` nats."""
    return log_likelihood(draw, x).mean(0)


def log_likelihood(draw: Draw, x: Tensor) -> Tensor:
    """log p(x|z), `(K, B)` nats."""
    known = getattr(draw, "known", None)  # an own model may draw records of its own
    found: Tensor = known[2] if known and known[0] is draw.likelihood and known[1] is x else draw.likelihood.log_prob(x)
    return found


def elbo(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    """The evidence lower bound from its two terms, `(B,)` nats."""
    return log_likelihood - kl


def beta_objective(log_likelihood: Tensor, kl: Tensor, beta: float | Tensor) -> Tensor:
    """ELBO with the KL weighted by `beta`, `(B,)` nats."""
    return log_likelihood - beta * kl


def capacity_objective(log_likelihood: Tensor, kl: Tensor, gamma: float | Tensor, capacity: Tensor) -> Tensor:
    """Burgess' objective, `(B,)` nats: each image's KL is drawn to `capacity` with force `gamma`.

    The absolute value is taken per image, as the paper writes it, so the meaning does not change with the batch size.
    """
    return log_likelihood - gamma * (kl - capacity).abs()


def log_weights(draw: Draw, x: Tensor, beta: float | Tensor = 1.0, *, fixed_density: bool = False) -> Tensor:
    """log w = log p(x|z) + beta (log p(z) - log q(z|x)), `(K, B)` nats.

    `fixed_density`: let gradients reach the posterior through z only, as the doubly reparameterised gradient wants.
    """
    posterior = detached(draw.posterior) if fixed_density else draw.posterior
    log_ratio = draw.prior.log_prob(draw.z) - posterior.log_prob(draw.z)
    return log_likelihood(draw, x) + beta * log_ratio


def iwae_bound(log_weights: Tensor) -> Tensor:
    """log of the mean weight over the K samples, `(K, B)` to `(B,)` nats."""
    return log_weights.logsumexp(0) - math.log(log_weights.shape[0])


def mean_of_bounds(log_weights: Tensor, bounds: int) -> Tensor:
    """The mean of `bounds` importance-weighted bounds, each on as many of the K samples, `(K, B)` to `(B,)` nats.

    1 bound is `iwae_bound`, K are the mean of the log weights.

    Raises:
        ConfigurationError: K is no multiple of `bounds`.
    """
    _require_shares(log_weights, bounds)
    of_bounds: Tensor = log_weights.unflatten(0, (bounds, -1)).logsumexp(1)
    return of_bounds.mean(0) - math.log(log_weights.shape[0] // bounds)


def _require_shares(log_weights: Tensor, bounds: int) -> None:
    samples = log_weights.shape[0]
    if samples % bounds:
        raise ConfigurationError(f"objective.bounds={bounds}: the number of samples, here {samples}, must be a multiple of it")


def partially_weighted(draw: Draw, x: Tensor, bounds: int, beta: float | Tensor = 1.0) -> Tensor:
    """A surrogate `(B,)` whose gradient is that of `iwae_bound` in p(x|z) and p(z), and of `mean_of_bounds` in q(z|x).

    The surrogate's value means nothing. The posterior must be a diagonal Gaussian.

    Raises:
        ConfigurationError: the number of samples is no multiple of `bounds`.
    """
    of_samples = log_weights(draw, x, beta, fixed_density=True)
    _require_shares(of_samples, bounds)
    fixed = of_samples.detach()
    inference = fixed.unflatten(0, (bounds, -1)).softmax(1).flatten(0, 1) / bounds
    # not 0, by which the gradient that comes back through z is divided to be weighted anew
    generative = fixed.softmax(0).clamp(min=torch.finfo(fixed.dtype).tiny * 2**24)
    if draw.z.requires_grad:
        draw.z.register_hook(lambda gradient: gradient * (inference / generative).unsqueeze(-1))
    density = draw.posterior.log_prob(draw.z.detach())
    surrogate: Tensor = (generative * of_samples - beta * inference * density).sum(0)
    return surrogate


def systematic_resampling(shares: Tensor, uniform: Tensor, count: int) -> Tensor:
    """Places of `count` samples, `(count, B)`, drawn with replacement: each in expectation `count` times its share `(K, B)`.

    One number of `uniform` `(B,)` an image says where the points `(n + uniform) / count` lie in [0, 1), which the samples divide by
    their shares ("Monte Carlo filter and smoother for non-Gaussian nonlinear state space models", Kitagawa, 1996,
    https://doi.org/10.1080/10618600.1996.10474692).

    >>> systematic_resampling(torch.tensor([[0.7], [0.1], [0.2]]), torch.tensor([0.5]), count=4).flatten().tolist()
    [0, 0, 0, 2]
    """
    # sums of whole numbers are the same in any order, so that a GPU chooses alike each time
    ends = (shares * 2.0**24).long().cumsum(0)
    points = (torch.arange(count, device=uniform.device).unsqueeze(-1) + uniform) / count
    return (points.unsqueeze(1) >= ends / ends[-1:]).sum(1).clamp(max=len(shares) - 1)


def doubly_reparameterised(
    log_weights: Tensor,
    z: Tensor,
    beta: float | Tensor = 1.0,
    weights: Tensor | None = None,
    probability: Tensor | None = None,
) -> Tensor:
    """A surrogate `(B,)` whose gradient is the bound's doubly reparameterised one; the surrogate's value means nothing.

    `log_weights` `(K, B)` come from `log_weights(..., beta, fixed_density=True)` and `z` `(K, B, D)` is what they were
    computed from. With normalised weights v, the generative parameters get sum v d(log w), the posterior's
    sum v (1 - beta + beta v) d(log w)/dz dz, which for beta = 1 is the paper's v^2.

    Of samples that were drawn from all by `systematic_resampling`, v and the probability of being drawn are `weights` and
    `probability`, both as `log_weights`: then the gradient is the same in expectation.
    """
    if weights is None:
        weights = log_weights.detach().softmax(0)
    if z.requires_grad:
        # of the density's own gradient, -beta v d(log q), the paper's identity makes -beta v (1 - v) d(log w)/dz dz
        z.register_hook(lambda gradient: gradient * (1 - beta + beta * weights).unsqueeze(-1))
    if probability is None:
        return (weights * log_weights).sum(0)
    return (weights / probability * log_weights).mean(0)


def detached(distribution: Distribution) -> Distribution:
    """The diagonal Gaussian `distribution` with parameters that no gradient reaches."""
    base = factors(distribution)
    if isinstance(base, Normal):
        fixed = Normal(base.loc.detach(), base.scale.detach(), validate_args=False)
        return Independent(fixed, len(distribution.event_shape), validate_args=False)
    raise NotImplementedError(f"cannot detach {kind_of(distribution)}")


@dataclass(frozen=True)
class LinearWarmup:
    """A weight that grows linearly to `end` over `steps` optimizer steps and stays there; `end` at once for 0 steps.

    The weight is a function of the global step alone, so a resumed run goes on where it stood. The fields may be tensors `()` too.

    >>> ramp = LinearWarmup(start=0.0, end=4.0, steps=8)
    >>> [float(ramp(torch.tensor(s))) for s in (0, 4, 8, 100)]
    [0.0, 2.0, 4.0, 4.0]
    """

    end: float = 1.0
    steps: int = 0
    start: float = 0.0

    def __call__(self, step: Tensor) -> Tensor:
        fraction = torch.where(step >= self.steps, 1.0, step / self.steps)
        return self.start + (self.end - self.start) * fraction
