"""Samples from noise have the distribution they are of."""

import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    StudentT,
)

from vae_lightning.distributions.sampling import GaussianMixture, diagonal_gaussian, from_noise

EPSILON = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LOC = torch.tensor([1.0, -2.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
MIXTURE = MixtureSameFamily(
    Categorical(probs=torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)),
    diagonal_gaussian(
        torch.tensor([[-3.0, 0.0], [1.0, 1.0], [2.0, -4.0]], dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64) - 2
    ),
)


@pytest.mark.parametrize(
    "distribution",
    [diagonal_gaussian(LOC, LOC), MultivariateNormal(LOC, COVARIANCE), Independent(Laplace(LOC, LOC.abs()), 1), MIXTURE],
    ids=lambda d: type(d).__name__,
)
def test_moments_are_the_distributions(distribution: torch.distributions.Distribution) -> None:
    z = from_noise(distribution, EPSILON)
    error = distribution.stddev / len(z) ** 0.5
    assert ((z.mean(0) - distribution.mean).abs() < 4 * error).all()
    torch.testing.assert_close(z.std(0), distribution.stddev, rtol=0.02, atol=0)


CORRELATED = MultivariateNormal(
    torch.tensor([[-0.5, -0.5], [0.5, 3.0]], dtype=torch.float64),
    scale_tril=torch.tensor([[[1.0, 0.0], [1.5, 0.4]], [[0.5, 0.0], [-2.0, 1.0]]], dtype=torch.float64),
)
PEAKED = Independent(
    Laplace(torch.tensor([[-2.0, 0.0], [2.0, 1.0]], dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)), 1
)


@pytest.mark.parametrize("components", [CORRELATED, PEAKED], ids=["correlated", "peaked"])
def test_samples_of_a_mixture_are_those_of_its_components_of_whatever_kind(components: torch.distributions.Distribution) -> None:
    """By moments of all orders that tell these from diagonal Gaussians, each within five of its errors."""
    mixture = MixtureSameFamily(Categorical(probs=torch.tensor([0.3, 0.7], dtype=torch.float64)), components)
    torch.manual_seed(0)
    drawn, z = mixture.sample((400_000,)), from_noise(mixture, EPSILON)
    for moment in (lambda v: v[:, 0] * v[:, 1], lambda v: (v - mixture.mean)[:, 1] ** 4, lambda v: (v[:, 0] ** 2) * (v[:, 1] > 1)):
        mine, torchs = moment(z), moment(drawn)
        error = math.hypot(mine.std() / len(mine) ** 0.5, torchs.std() / len(torchs) ** 0.5)
        assert abs(mine.mean() - torchs.mean()) < 5 * error
    each_has_one = MixtureSameFamily(Categorical(torch.ones(4, 2)), components.expand((4, 2)))
    assert from_noise(each_has_one, torch.randn(7, 1, 2, dtype=torch.float64)).shape == (7, 4, 2)


def test_sample_of_a_rare_draw_is_finite() -> None:
    """In float32, the share of a standard normal below 5.6 is 1, of which a quantile is infinite."""
    laplace = Independent(Laplace(torch.zeros(1), torch.ones(1)), 1)
    epsilon = torch.tensor([[-40.0], [-5.6], [5.6], [40.0]])
    z = from_noise(laplace, epsilon)
    quantile = torch.special.log_ndtr(epsilon[1:2].double()).float() + math.log(2)
    torch.testing.assert_close(z[1:3], torch.cat([quantile, -quantile]), rtol=1e-6, atol=0)
    assert z.isfinite().all()
    assert from_noise(MIXTURE, torch.tensor([[-40.0, 0.0], [40.0, 0.0]], dtype=torch.float64)).isfinite().all()


def test_a_mixtures_components_come_up_by_their_shares_and_keep_their_shape() -> None:
    z = from_noise(MIXTURE, EPSILON)
    loc, scale = MIXTURE.component_distribution.mean, MIXTURE.component_distribution.stddev
    nearest = torch.cdist(z, loc).argmin(-1)
    for number, share in enumerate([0.2, 0.5, 0.3]):
        own = (z[nearest == number] - loc[number]) / scale[number]
        assert abs(len(own) / len(z) - share) < 4 * (share * (1 - share) / len(z)) ** 0.5
        assert own.mean(0).abs().max() < 0.02
        # standard normal in each number and between them: the choice leaves no trace in the first
        torch.testing.assert_close(own.mT.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.03)


def test_shapes_broadcast_like_those_of_a_gaussian() -> None:
    many = MixtureSameFamily(Categorical(torch.ones(4, 3)), diagonal_gaussian(torch.zeros(4, 3, 2), torch.zeros(4, 3, 2)))
    assert from_noise(many, torch.randn(7, 1, 2)).shape == (7, 4, 2)
    assert from_noise(MIXTURE, torch.randn(7, 5, 2)).shape == (7, 5, 2)


def test_ones_own_distribution_says_how() -> None:
    class Mine(Normal):
        def from_noise(self, epsilon: torch.Tensor) -> torch.Tensor:
            return epsilon + 5

    assert torch.equal(from_noise(Mine(LOC, LOC.exp()), EPSILON), EPSILON + 5)


def test_unknown_ones_are_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"LowRankMultivariateNormal has no from_noise"):
        from_noise(LowRankMultivariateNormal(LOC, torch.ones(2, 1).double(), LOC.exp()), EPSILON)
    with pytest.raises(NotImplementedError, match=r"StudentT has no from_noise"):
        from_noise(Independent(StudentT(torch.tensor(3.0), LOC, LOC.exp()), 1), EPSILON)
    heavy = Independent(StudentT(torch.tensor(3.0), LOC.expand(3, 2), LOC.exp()), 1)
    with pytest.raises(NotImplementedError, match=r"StudentT has no from_noise"):
        from_noise(MixtureSameFamily(Categorical(torch.ones(3)), heavy), EPSILON)


@pytest.mark.parametrize("offset", [0.0, 20.0])
def test_density_of_many_gaussians_is_that_of_torchs_mixture_to_within_a_thousandth_of_a_nat(offset: float) -> None:
    """In single precision, with components narrow and far from 0, whose large squares cancel; and under autocast."""
    torch.manual_seed(0)
    loc, log_variance = 2 * torch.randn(500, 40) + offset, -4 + torch.rand(500, 40)
    logits, z = torch.randn(500), loc[:60].unflatten(0, (3, 20)) + 0.2 * torch.randn(3, 20, 40)
    mixture = GaussianMixture(logits, diagonal_gaussian(loc, log_variance))
    exact = MixtureSameFamily(Categorical(logits=logits.double()), diagonal_gaussian(loc.double(), log_variance.double()))
    expected = exact.log_prob(z.double())
    found = mixture.log_prob(z)
    assert (found.dtype, found.shape) == (torch.float32, (3, 20))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixture.log_prob(z), found)


def test_gradients_of_many_gaussians_are_those_of_torchs_mixture() -> None:
    torch.manual_seed(0)
    logits, loc, log_variance, z = (torch.randn(*shape).double().requires_grad_() for shape in ((7,), (7, 3), (7, 3), (4, 5, 3)))
    components, inputs = diagonal_gaussian(loc, log_variance), (logits, loc, log_variance, z)
    densities = GaussianMixture(logits, components), MixtureSameFamily(Categorical(logits=logits), components)
    sums = [density.log_prob(z).square().sum() for density in densities]
    found, expected = (torch.autograd.grad(total, inputs, retain_graph=True) for total in sums)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
