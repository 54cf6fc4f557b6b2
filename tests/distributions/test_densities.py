"""Integrals of densities whose integral is known, on a grid and by sampling, and densities by change of variables."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, StudentT

from vae_lightning.distributions.densities import integral_by_grid, integral_by_sampling, is_one_to_one, transported
from vae_lightning.distributions.sampling import GaussianMixture, diagonal_gaussian


class Scaled(Normal):
    """A Gaussian whose density is three times one."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + math.log(3)


@pytest.mark.parametrize(
    ("density", "total"),
    [
        (Independent(Normal(torch.tensor([[3.0], [-40.0]]), 0.01), 1), 1.0),
        (Independent(Scaled(torch.zeros(2, 1), 2.0), 1), 3.0),
        (Independent(Scaled(torch.zeros(2), 0.5), 1), 9.0),
        (Independent(Laplace(torch.zeros(2), 1.0), 1), 1.0),
        (Independent(StudentT(5.0, torch.zeros(1), 1.0), 1), 1.0),
    ],
    ids=["narrow and far", "thrice", "nine times", "a kink", "heavy tails"],
)
def test_integral_on_a_grid_is_within_the_error_that_it_states(density: Independent, total: float) -> None:
    for points in (64, 256):
        integral = integral_by_grid(density, points)
        assert bool(((integral.value - total).abs() <= integral.error + 1e-5).all())
    assert float(integral.error.max()) < 0.01


@pytest.mark.parametrize("dimensions", [3, 40])
def test_integral_by_sampling_of_three_times_a_density_a_dimension(dimensions: int) -> None:
    scaled = Independent(Scaled(torch.ones(4, dimensions), 0.1), 1)
    noise = torch.randn(2000, 4, dimensions, generator=torch.Generator().manual_seed(0))
    integral = integral_by_sampling(scaled, noise)
    assert bool(((integral.value / 3**dimensions - 1).abs() < 5 * integral.error / 3**dimensions).all())
    assert float(integral.error.max()) / 3**dimensions < 0.02, "even weights, whatever the dimensions"


def test_mixture_of_narrow_components_is_sampled_where_they_are() -> None:
    parts = diagonal_gaussian(10 * torch.randn(50, 30, generator=torch.Generator().manual_seed(0)), torch.full((50, 30), -6.0))
    mixture = GaussianMixture(torch.linspace(0, 2, 50), parts)
    noise = torch.randn(2000, 30, generator=torch.Generator().manual_seed(1))
    integral = integral_by_sampling(mixture, noise)
    assert float(integral.value) == pytest.approx(1.0, abs=5 * float(integral.error))
    assert float(integral.error) < 0.02


def test_density_by_change_of_variables_is_that_of_the_closed_form() -> None:
    factor = torch.tensor([[1.0, 0.0], [-2.0, 0.5]])
    density = MultivariateNormal(torch.tensor([1.0, -1.0]), scale_tril=factor)
    noise = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    z, log_prob = transported(density, noise)
    torch.testing.assert_close(z, density.mean + noise @ factor.mT)
    torch.testing.assert_close(log_prob.float(), density.log_prob(z))
    assert is_one_to_one(density)
    assert not is_one_to_one(GaussianMixture(torch.zeros(3), diagonal_gaussian(torch.zeros(3, 2), torch.zeros(3, 2))))
