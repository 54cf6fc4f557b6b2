r"""Importance-weighted estimates of log p(x), batched over images and samples, summed in log space.

$\log p(x) \ge E\left[\log \frac1K \sum_k p(x, z_k) / q(z_k \mid x)\right]$, $z_k \sim q(z \mid x)$, equal in the limit of K
("Importance weighted autoencoders", Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.chunks import rows_at_once
from vae_lightning.machine.compilation import compiled
from vae_lightning.types import LatentVariableModel

__all__ = ["COMPILE_AFTER", "ImportanceEstimate", "LogLikelihood", "importance_curve", "importance_sampling", "importance_weighted"]

COMPILE_AFTER = 300
"""Calls with one shape after which a `LogLikelihood` compiles for this shape."""


class ImportanceEstimate(NamedTuple):
    """The estimates from K importance samples of each of B images.

    >>> from torch.distributions import Independent, Normal
    >>> q = Independent(Normal(torch.zeros(1, 2), 1.0), 1)
    >>> (estimate,) = importance_weighted(q, q.log_prob, [5], torch.Generator())
    >>> estimate.log_marginal.item(), round(estimate.effective_sample_size.item(), 6)
    (0.0, 5.0)
    """

    log_marginal: Tensor
    """The estimate of log p(x), or log p(x | y), `(B,)` nats: a lower bound in expectation."""
    effective_sample_size: Tensor
    """How many of the K samples count: (sum w)^2 / sum w^2, `(B,)`, from 1 to K."""


class LogLikelihood:
    """The function log p(x | z, y) of a model whose weights do not change, compiled after many calls.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    >>> LogLikelihood(model)(torch.zeros(5, 3, 2), torch.zeros(3, 1, 28, 28), None).shape
    torch.Size([5, 3])
    """

    def __init__(self, model: LatentVariableModel) -> None:
        self.model = model
        self._calls: Counter[tuple[Any, ...]] = Counter()
        self._graphs: dict[tuple[Any, ...], Callable[..., Tensor]] = {}

    def __call__(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """The values of log p(x | z, y), `(K, B)` nats, of latents `(K, B, D)`, images `(B, *event)` and labels `(B,)`."""
        shape = (z.shape, x.shape, y is None)
        self._calls[shape] += 1
        if self._calls[shape] == COMPILE_AFTER:
            graph = compiled(self._plain, z, x, y)
            self._graphs[shape] = self._plain if graph is None else graph
        return self._graphs.get(shape, self._plain)(z, x, y)

    def _plain(self, z: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        return self.model.likelihood(z, y).log_prob(x)


def importance_sampling(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None,
    num_samples: int,
    source: torch.Generator,
    max_batch: int = 4000,
    log_likelihood: LogLikelihood | None = None,
) -> ImportanceEstimate:
    """Estimate log p(x) of each image with `num_samples` samples, holding about `max_batch` decoded images at a time.

    Args:
        x: images `(B, *event)`.
        y: labels `(B,)` of a conditional model, of which log p(x | y) is estimated; ignored by other models.
        source: generator on the device of `x`.
        log_likelihood: the `LogLikelihood` of `model`; a caller with many batches keeps one, so that it compiles only once.
    """
    return importance_curve(model, x, y, [num_samples], source, max_batch, log_likelihood)[-1]


def importance_curve(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None,
    counts: Sequence[int],
    source: torch.Generator,
    max_batch: int = 4000,
    log_likelihood: LogLikelihood | None = None,
) -> list[ImportanceEstimate]:
    """The estimates after each of `counts` samples, in ascending order, from one pass over as many samples as the last of them."""
    likelihood = log_likelihood or LogLikelihood(model)
    with torch.no_grad():
        posterior, prior = model.posterior(x, y), model.prior(y)

        def log_joint(z: Tensor) -> Tensor:
            return likelihood(z, x, y) + prior.log_prob(z)

        return importance_weighted(posterior, log_joint, counts, source, max_batch, prior.mean.dtype)


@torch.no_grad()
def importance_weighted(
    proposal: Distribution,
    log_density: Callable[[Tensor], Tensor],
    counts: Sequence[int],
    source: torch.Generator,
    max_batch: int = 4000,
    dtype: torch.dtype = torch.float32,
) -> list[ImportanceEstimate]:
    """Estimate the integral of a density over z after each of `counts` samples; the integral of p(x, z) is p(x).

    Args:
        proposal: the distribution that points are drawn from, batch shape `(B,)`, event shape `(D,)`.
        log_density: gives the log density `(K, B)`, in nats, of points `(K, B, D)`.
        source: generator on the device of `proposal`.
        dtype: the dtype of the points.
    """
    require(len(counts) > 0 and counts[0] >= 1, "num_samples", counts[0] if counts else None, "at least 1")
    require(all(a < b for a, b in pairwise(counts)), "num_samples", list(counts), "ascending")
    images, shape = proposal.batch_shape, (*proposal.batch_shape, *proposal.event_shape)
    at_once = rows_at_once(max_batch, images.numel())
    log_sum = torch.full(images, -torch.inf, device=source.device, dtype=torch.float64)
    log_sum_of_squares = log_sum.clone()
    estimates = []
    for start in range(0, counts[-1], at_once):
        count = min(at_once, counts[-1] - start)
        z = from_noise(proposal, torch.randn(count, *shape, generator=source, device=source.device, dtype=dtype))
        log_weights = log_density(z) - proposal.log_prob(z)
        reached = [c for c in counts if start < c <= start + count]
        parts = log_weights.double().tensor_split([c - start for c in reached])
        for part, total in zip_longest(parts, reached):
            if len(part):
                log_sum = torch.logaddexp(log_sum, part.logsumexp(0))
                log_sum_of_squares = torch.logaddexp(log_sum_of_squares, (2 * part).logsumexp(0))
            if total:
                estimates.append(ImportanceEstimate(log_sum - math.log(total), (2 * log_sum - log_sum_of_squares).exp()))
    return estimates
