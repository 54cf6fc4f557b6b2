"""Distances whose values are known in closed form."""

import math

import pytest
import scipy.linalg
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.distances import frechet_distance, frechet_distances, kernel_distance
from vae_lightning.noise import generator


def normal(count: int, features: int, *key: int | str) -> Tensor:
    return torch.randn(count, features, generator=generator("test samples", *key), dtype=torch.float64)


def with_moments(count: int, mean: Tensor, covariance: Tensor, *key: int | str) -> Tensor:
    """Features that have these moments exactly."""
    rest = normal(count, len(mean), *key)
    rest = rest - rest.mean(0)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(rest.mT @ rest / (count - 1)), rest.mT, upper=False).mT
    return mean + whitened @ torch.linalg.cholesky(covariance).mT


def test_frechet_distance_of_gaussians_with_the_same_axes_is_that_of_means_and_deviations() -> None:
    mean, a, b = (
        torch.tensor([1.0, -2.0, 0.5]).double(),
        torch.tensor([1.0, 2.0, 3.0]).double(),
        torch.tensor([2.0, 0.5, 3.0]).double(),
    )
    one, other = with_moments(50, 0 * mean, a.square().diag(), 0), with_moments(70, mean, b.square().diag(), 1)
    expected = (mean.square() + (a - b).square()).sum().item()
    assert frechet_distance(one, other) == pytest.approx(expected, abs=1e-9)
    assert frechet_distance(other, one) == pytest.approx(expected, abs=1e-9)


def test_frechet_distance_of_gaussians_with_other_axes_agrees_with_the_matrix_root() -> None:
    a, b = (normal(9, 4, key).T @ normal(9, 4, key) for key in (0, 1))
    zero = torch.zeros(4, dtype=torch.float64)
    expected = (a + b).trace().item() - 2 * scipy.linalg.sqrtm((a @ b).numpy()).trace().real
    assert frechet_distance(with_moments(30, zero, a, 2), with_moments(30, zero, b, 3)) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("features", [3, 40])
def test_frechet_distance_of_a_set_from_itself_is_zero_also_with_more_features_than_images(features: int) -> None:
    a = normal(30, features, 0)
    a[:, 0] = 0  # which covariances have no inverse of
    assert frechet_distance(a, a[torch.randperm(30)]) == pytest.approx(0, abs=1e-9)


def test_pooled_parts_have_the_moments_of_the_whole() -> None:
    a, b = normal(100, 5, 0) + 100, normal(131, 5, 1) * 2
    assert frechet_distances(a, b).distance == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_extrapolation_takes_away_the_bias_that_few_images_bring() -> None:
    """Two sets of N(0, I) in 20 dimensions, of unequal size: at a distance of 0, which the plain distance exceeds by 0.1."""
    found = [frechet_distances(normal(1000, 20, "a", i), normal(1500, 20, "b", i)) for i in range(12)]
    plain, infinity = (torch.tensor([getattr(f, name) for f in found]).double() for name in ("distance", "infinity"))
    error = infinity.std().item() / math.sqrt(len(found))
    assert plain.mean() > 0.1
    assert abs(infinity.mean().item()) < 3 * error + 0.01 * plain.mean().item() + 1e-3
    assert abs(infinity.mean().item()) < 0.1 * plain.mean().item()


def test_extrapolation_ends_in_the_distance_of_the_distributions_where_that_is_not_zero() -> None:
    scale = torch.linspace(0.5, 1.5, 20, dtype=torch.float64)
    exact = (20 * 0.3**2 + (scale - 1).square().sum()).item()
    found = [frechet_distances(normal(800, 20, "a", i) * scale + 0.3, normal(800, 20, "b", i)) for i in range(12)]
    infinity = torch.tensor([f.infinity for f in found]).double()
    plain = torch.tensor([f.distance for f in found]).double()
    assert infinity.mean().item() == pytest.approx(exact, abs=3 * infinity.std().item() / math.sqrt(12))
    assert (infinity.mean() - exact).abs() < 0.3 * (plain.mean() - exact).abs()
    # the jackknife foresees the spread, of which 12 values tell a fifth more or less
    spread = [f.infinity_error for f in found]
    assert sum(spread) / 12 == pytest.approx(infinity.std().item(), rel=0.6)
    assert sum(f.error for f in found) / 12 == pytest.approx(plain.std().item(), rel=0.6)


def test_line_is_through_the_distances_of_smaller_and_smaller_parts() -> None:
    line = frechet_distances(normal(1200, 5, 0), normal(2400, 5, 1)).line
    assert list(line) == [1200, 600, 400, 300]
    assert sorted(line.values()) == list(line.values())


def test_kernel_distance_of_two_halves_is_zero_within_its_error() -> None:
    both = normal(4000, 10, 0)
    value, error, subset = kernel_distance(both[:2000], both[2000:])
    assert abs(value) < 3 * error
    assert subset == 200


def test_kernel_distance_of_a_shifted_gaussian_is_that_of_its_first_three_moments() -> None:
    """In one dimension (x y + 1)^3 = sum of C(3, j) x^j y^j, so the squared MMD is sum of C(3, j) (difference of moments)^2."""
    m = 0.7
    exact = 3 * m**2 + 3 * (m**2) ** 2 + (m**3 + 3 * m) ** 2
    value, error, _ = kernel_distance(normal(5000, 1, 0) + m, normal(5000, 1, 1))
    assert value == pytest.approx(exact, abs=3 * error)
    assert error < 0.1 * exact


def test_kernel_distance_has_no_bias_for_small_subsets() -> None:
    values = [kernel_distance(normal(40, 3, "a", i), normal(40, 3, "b", i))[0] for i in range(100)]
    assert abs(sum(values) / 100) < 3 * torch.tensor(values).std().item() / math.sqrt(100)


@pytest.mark.parametrize("distance", [frechet_distances, kernel_distance])
def test_too_few_images_are_refused(distance: object) -> None:
    with pytest.raises(ConfigurationError, match="images=23: must be at least 24"):
        distance(normal(100, 2, 0), normal(23, 2, 1))  # type: ignore[operator]
