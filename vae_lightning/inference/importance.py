r"""Importance-weighted estimates of log p(x), batched over images and samples, summed in log space.

$\log p(x) \ge E\left[\log \frac1K \sum_k p(x, z_k) / q(z_k \mid x)\right]$, $z_k \sim q(z \mid x)$, equal in the limit of K
("Importance weighted autoencoders", Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.types import LatentVariableModel

__all__ = ["ImportanceEstimate", "importance_sampling"]


class ImportanceEstimate(NamedTuple):
    """Per image, `(B,)` each."""

    log_marginal: Tensor
    """The estimate of log p(x), or log p(x | y), nats: a lower bound in expectation."""
    effective_sample_size: Tensor
    """(sum w)^2 / sum w^2, from 1 to K: how many of the K samples count."""


@torch.no_grad()
def importance_sampling(
    model: LatentVariableModel, x: Tensor, y: Tensor | None, num_samples: int, source: torch.Generator, max_batch: int = 4000
) -> ImportanceEstimate:
    """Estimate log p(x) of each image with `num_samples` samples, holding about `max_batch` decoded images at a time.

    Args:
        x: images `(B, *event)`.
        y: labels `(B,)` of a conditional model, whose log p(x | y) it is then; ignored by others.
        source: generator on the device of `x`.
    """
    require(num_samples >= 1, "num_samples", num_samples, "at least 1")
    posterior, prior = model.posterior(x, y), model.prior(y)
    loc, scale = posterior.mean, posterior.stddev
    at_once = max(1, max_batch // len(x))
    log_sum = torch.full((len(x),), -torch.inf, device=x.device, dtype=torch.float64)
    log_sum_of_squares = log_sum.clone()
    for start in range(0, num_samples, at_once):
        count = min(at_once, num_samples - start)
        z = loc + scale * torch.randn(count, *loc.shape, generator=source, device=x.device, dtype=loc.dtype)
        log_weights = model.likelihood(z, y).log_prob(x) + prior.log_prob(z) - posterior.log_prob(z)
        log_weights = log_weights.double()
        log_sum = torch.logaddexp(log_sum, log_weights.logsumexp(0))
        log_sum_of_squares = torch.logaddexp(log_sum_of_squares, (2 * log_weights).logsumexp(0))
    return ImportanceEstimate(log_sum - math.log(num_samples), (2 * log_sum - log_sum_of_squares).exp())
