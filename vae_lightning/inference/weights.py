r"""Importance-weighted estimates of log p(x), batched over images and samples, summed in log space.

$\log p(x) \ge E\left[\log \frac1K \sum_k p(x, z_k) / q(z_k \mid x)\right]$, $z_k \sim q(z \mid x)$, equal in the limit of K
("Importance weighted autoencoders", Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519).

The noise of an image is a function of a key and the image's place alone, so that its estimate depends, but for rounding, neither on
the images beside it nor on how many samples are decoded at once.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.chunks import rows_at_once
from vae_lightning.noise import Source

__all__ = ["ImportanceEstimate", "Sums", "importance_weighted", "log_weights", "require_counts"]


class ImportanceEstimate(NamedTuple):
    """The estimates from K importance samples of each of B images.

    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.zeros(1, 2), 1.0), 1)
    >>> (estimate,) = importance_weighted(q, q.log_prob, [5], Source.of(torch.zeros(1), "example"))
    >>> estimate.log_marginal.item(), round(estimate.effective_sample_size.item(), 6)
    (0.0, 5.0)
    """

    log_marginal: Tensor
    """The estimate of log p(x), or log p(x | y), `(B,)` nats: a lower bound in expectation."""
    effective_sample_size: Tensor
    """How many of the K samples count: (sum w)^2 / sum w^2, `(B,)`, from 1 to K."""


class Sums(NamedTuple):
    """Sums of the importance weights of B images so far, for each of C numbers of samples, in log space.

    >>> counts = torch.tensor([1, 3], dtype=torch.int32)
    >>> sums = Sums.zero(counts, 1).plus(torch.zeros(2, 1), 0, counts).plus(torch.zeros(2, 1), 2, counts)
    >>> [round(estimate.effective_sample_size.item(), 6) for estimate in sums.estimates(counts)]
    [1.0, 3.0]
    """

    log_sum: Tensor
    """Log of the sum of the first weights, float64 `(C, B)`."""
    log_sum_of_squares: Tensor
    """Log of the sum of their squares, float64 `(C, B)`."""

    @classmethod
    def zero(cls, counts: Tensor, images: int) -> "Sums":
        """The sums of no weights, of `images` images, for the numbers of samples `counts`, int32 `(C,)`."""
        nothing = torch.full((len(counts), images), -torch.inf, dtype=torch.float64, device=counts.device)
        return cls(nothing, nothing.clone())

    def plus(self, log_weights: Tensor, first: int | Tensor, counts: Tensor) -> "Sums":
        """The sums with `log_weights` `(n, B)` of the samples from the number `first` on; those from `counts` on do not count."""
        numbers = torch.arange(len(log_weights), dtype=torch.int32, device=counts.device) + first
        beyond = (numbers >= counts.unsqueeze(-1)).unsqueeze(-1)
        weights = log_weights.double().masked_fill(beyond, -torch.inf)
        return Sums(
            torch.logaddexp(self.log_sum, weights.logsumexp(1)),
            torch.logaddexp(self.log_sum_of_squares, (2 * weights).logsumexp(1)),
        )

    def estimates(self, counts: Tensor) -> list[ImportanceEstimate]:
        """The estimates after each of `counts` samples."""
        means = self.log_sum - counts.double().log().unsqueeze(-1)
        sizes = (2 * self.log_sum - self.log_sum_of_squares).exp()
        return [ImportanceEstimate(*each) for each in zip(means, sizes, strict=True)]


def require_counts(counts: Sequence[int]) -> None:
    """Refuse numbers of samples that are not whole ones, ascending from 1 or more."""
    require(all(isinstance(count, int) for count in counts), "num_samples", list(counts), "whole numbers")
    require(len(counts) > 0 and counts[0] >= 1, "num_samples", counts[0] if counts else None, "at least 1")
    require(all(a < b for a, b in pairwise(counts)), "num_samples", list(counts), "ascending")


def log_weights(
    proposal: Distribution, log_density: Callable[[Tensor], Tensor], source: Source, samples: int, first: int | Tensor, like: Tensor
) -> Tensor:
    """Log importance weights `(samples, B)`, nats, of the samples of `proposal` from the number `first` on.

    Args:
        proposal: batch shape `(B,)`, event shape `(D,)`.
        log_density: gives the log density `(K, B)`, in nats, of points `(K, B, D)`.
        source: of the noise.
        like: a tensor whose dtype the points have.
    """
    z = from_noise(proposal, source.normal("importance", samples, proposal.event_shape[0], first).to(like))
    return log_density(z) - proposal.log_prob(z)


@torch.no_grad()
def importance_weighted(
    proposal: Distribution,
    log_density: Callable[[Tensor], Tensor],
    counts: Sequence[int],
    source: Source,
    max_batch: int = 4000,
    dtype: torch.dtype = torch.float32,
) -> list[ImportanceEstimate]:
    """Estimate the integral of a density over z after each of `counts` samples; the integral of p(x, z) is p(x).

    Args:
        proposal: the distribution that points are drawn from, batch shape `(B,)`, event shape `(D,)`.
        log_density: gives the log density `(K, B)`, in nats, of points `(K, B, D)`.
        source: of the noise of the B integrals, on the device of `proposal`.
        dtype: the dtype of the points.
    """
    require_counts(counts)
    device = source.places.device
    like, ends = torch.empty((), dtype=dtype, device=device), torch.tensor(list(counts), dtype=torch.int32, device=device)
    at_once = min(counts[-1], rows_at_once(max_batch, len(source.places)))
    sums = Sums.zero(ends, len(source.places))
    for first in range(0, counts[-1], at_once):
        # the last chunk is only as long as it need be
        samples = min(at_once, counts[-1] - first)
        sums = sums.plus(log_weights(proposal, log_density, source, samples, first, like), first, ends)
    return sums.estimates(ends)
