"""Which distributions are products over their numbers, and of what."""

import pytest
import torch
from torch.distributions import Bernoulli, Dirichlet, Distribution, Independent, Laplace, MultivariateNormal, Normal

from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.posteriors import FlowDistribution
from vae_lightning.distributions.sampling import GaussianMixture, diagonal_gaussian

GAUSSIAN = diagonal_gaussian(torch.randn(4, 2), torch.randn(4, 2))


@pytest.mark.parametrize(
    ("distribution", "kind"),
    [
        (GAUSSIAN, Normal),
        (Independent(Laplace(torch.zeros(4, 2), 1.0), 1), Laplace),
        (Independent(Bernoulli(torch.full((5, 3, 8, 8), 0.5)), 3), Bernoulli),
        (Independent(Independent(Normal(torch.zeros(4, 3, 2), 1.0), 1), 1), Normal),
    ],
)
def test_the_factors_log_densities_sum_to_the_whole(distribution: Distribution, kind: type) -> None:
    parts, x = factors(distribution), distribution.sample()
    assert isinstance(parts, kind)
    assert parts.batch_shape == (*distribution.batch_shape, *distribution.event_shape)
    sums = parts.log_prob(x).flatten(len(distribution.batch_shape)).sum(-1)
    torch.testing.assert_close(distribution.log_prob(x), sums)


@pytest.mark.parametrize(
    "distribution",
    [
        MultivariateNormal(torch.zeros(2), torch.eye(2)),
        GaussianMixture(torch.zeros(4), GAUSSIAN),
        FlowDistribution(GAUSSIAN, []),
        Independent(Dirichlet(torch.ones(3, 2)), 1),
    ],
    ids=lambda d: type(d).__name__,
)
def test_others_have_none(distribution: Distribution) -> None:
    assert factors(distribution) is None
