"""Integrals over a grid against a linear-Gaussian model, whose evidence and posterior given any of its pixels are known."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence
from toys import LinearGaussian, Painter

from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.quadrature import kl_to_exact, log_joint_on, quadrature

SEEN = torch.tensor([True, True, False, True, False])
ALL = torch.ones(5, dtype=torch.bool)


class Precise(LinearGaussian):
    """Its posteriors are a five-hundredth as wide as the prior."""

    noise = 0.003


def images(model: LinearGaussian, count: int, y: Tensor | None = None) -> Tensor:
    torch.manual_seed(1)
    return model.marginal(y).sample((count,) if y is None else ()).detach()


def log_evidence(model: LinearGaussian, x: Tensor, mask: Tensor, y: Tensor | None = None) -> Tensor:
    whole = model.marginal(y)
    return MultivariateNormal(whole.mean[..., mask], whole.covariance_matrix[..., mask, :][..., mask]).log_prob(x[:, mask]).detach()


def exact_posterior(model: LinearGaussian, x: Tensor, mask: Tensor) -> MultivariateNormal:
    seen, rest = model.weight.detach()[mask], (x - model.bias.detach()[0])[:, mask]
    precision = torch.eye(model.latent_dim, dtype=torch.float64) + seen.mT @ seen / model.noise**2
    return MultivariateNormal(torch.linalg.solve(precision, rest @ seen / model.noise**2, left=False), precision_matrix=precision)


@pytest.mark.parametrize("mask", [None, ALL, SEEN, ~SEEN], ids=["none", "all", "some", "others"])
@pytest.mark.parametrize("model", [LinearGaussian(latent_dim=1), LinearGaussian(), Precise(latent_dim=1), Precise()], ids=str)
def test_evidence_and_posterior_are_those_in_closed_form(model: LinearGaussian, mask: Tensor | None) -> None:
    x = images(model, 5)
    seen = ALL if mask is None else mask
    result = quadrature(model, x, mask=mask)
    torch.testing.assert_close(result.log_evidence, log_evidence(model, x, seen), atol=1e-6, rtol=0)
    posterior = exact_posterior(model, x, seen)
    torch.testing.assert_close(result.log_posterior, posterior.log_prob(result.z), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(result.weights.sum(0), torch.ones(5).double())
    mean = (result.weights.unsqueeze(-1) * result.z).sum(0)
    torch.testing.assert_close(mean, posterior.mean, atol=1e-6, rtol=0)
    variance = (result.weights.unsqueeze(-1) * (result.z - mean).square()).sum(0)
    torch.testing.assert_close(variance, posterior.variance, atol=0, rtol=1e-5)


def test_images_have_masks_and_labels_of_their_own() -> None:
    model, y = LinearGaussian(num_classes=3), torch.tensor([2, 0, 1])
    x, masks = images(model, 3, y), torch.stack([SEEN, ~SEEN, ALL])
    result = quadrature(model, x, y, masks)
    for i, mask in enumerate(masks):
        expected = log_evidence(model, x[i : i + 1], mask, y[i : i + 1])
        torch.testing.assert_close(result.log_evidence[i : i + 1], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("max_batch", [1000, 100_000])
def test_parts_make_no_difference(max_batch: int) -> None:
    model = LinearGaussian()
    x = images(model, 3)
    torch.testing.assert_close(quadrature(model, x, max_batch=max_batch).log_joint, quadrature(model, x).log_joint)


class TwoModes(nn.Module):
    """p(z) of two narrow modes, one of them with a fifth of the mass, and an image that says nothing of z."""

    latent_dim = 2

    def __init__(self, width: float) -> None:
        super().__init__()
        loc = torch.tensor([[-3.0, 1.0], [2.0, -1.5]], dtype=torch.float64)
        modes = Independent(Normal(loc, width), 1)
        self.p = MixtureSameFamily(Categorical(torch.tensor([0.2, 0.8], dtype=torch.float64)), modes)

    def prior(self, y: Tensor | None = None) -> Distribution:
        return self.p

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        raise AssertionError("the exact posterior asks no encoder")

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(0 * z[..., :1], 1.0), 1)


def test_both_modes_are_found_and_the_error_tells_when_the_grid_is_too_coarse() -> None:
    x = torch.zeros(1, 1, dtype=torch.float64)
    expected = Normal(0.0, 1.0).log_prob(torch.zeros(1)).double()
    wide = quadrature(TwoModes(0.2), x)
    torch.testing.assert_close(wide.log_evidence, expected, atol=1e-3, rtol=0)
    left = (wide.weights * (wide.z[..., 0] < 0)).sum(0)
    torch.testing.assert_close(left, torch.full((1,), 0.2).double(), atol=1e-3, rtol=0)
    for points in (32, 64, 256):
        narrow = quadrature(TwoModes(0.05), x, points=points)
        assert (narrow.log_evidence - expected).abs() <= narrow.error + 1e-6
        assert bool(narrow.error < 0.01) == (points == 256)


@pytest.mark.parametrize("model", [LinearGaussian(latent_dim=1), LinearGaussian(), Precise()], ids=str)
@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), (0.5, 1.5), (3.0, 0.2), (-2.0, 4.0)])
def test_kl_is_that_between_gaussians(model: LinearGaussian, shift: float, stretch: float) -> None:
    """Also where the two hardly overlap, and the grid of the exact posterior does not hold q."""
    x = images(model, 4)
    posterior = exact_posterior(model, x, SEEN)
    q = Independent(Normal(posterior.mean + shift * posterior.stddev, stretch * posterior.stddev), 1)
    expected = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), posterior)
    torch.testing.assert_close(kl_to_exact(q, quadrature(model, x, mask=SEEN)), expected, atol=1e-5, rtol=1e-5)


def test_kl_of_the_exact_posterior_is_none() -> None:
    model = LinearGaussian()
    x = images(model, 4)
    result = kl_to_exact(model.exact_posterior(x), quadrature(model, x))
    torch.testing.assert_close(result, torch.zeros(4).double(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("y", [None, torch.tensor([0, 1, 1])], ids=["plain", "labels"])
def test_joint_on_a_mesh_is_prior_times_likelihood(y: Tensor | None) -> None:
    model = LinearGaussian(num_classes=0 if y is None else 2)
    x, z = images(model, 1 if y is None else 3, y), torch.randn(7, 2, dtype=torch.float64)
    x = x.expand(3, -1)
    result = log_joint_on(model, z, x, y, SEEN, max_batch=6)
    assert result.shape == (7, 3)
    for g in range(7):
        pixels = Normal((z[g] @ model.weight.mT + model.offset(y)).detach(), model.noise).log_prob(x)[..., SEEN].sum(-1)
        torch.testing.assert_close(result[g], model.prior().log_prob(z[g]) + pixels)
    assert not result.requires_grad


def test_mass_is_found_in_as_small_a_box_as_one_says() -> None:
    model = Precise(latent_dim=1)
    x = (model.weight @ torch.tensor([0.1], dtype=torch.float64) + model.bias)[:1].detach().expand(1, -1)
    found = quadrature(model, x, extent=0.5).log_evidence
    torch.testing.assert_close(found, log_evidence(model, x, ALL), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"extent": 0.0}, "extent=0.0: must be positive"),
        ({"points": 15}, "points=15: must be even and at least 16"),
        ({"points": 17}, "points=17: must be even and at least 16"),
    ],
)
def test_wrong_grids_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        quadrature(LinearGaussian(), torch.zeros(1, 5).double(), **arguments)


def test_three_dimensions_are_too_many() -> None:
    with pytest.raises(ConfigurationError, match=r"^latent_dim=3: must be at most 2"):
        quadrature(LinearGaussian(latent_dim=3), torch.zeros(1, 5).double())


def test_bernoulli_estimates_of_grey_levels_are_below_those_of_their_dynamic_binarizations() -> None:
    source = torch.Generator().manual_seed(0)
    model, grey = Painter(), torch.rand(1, 1, 28, 28, generator=source)
    binary = (torch.rand(40, 1, 28, 28, generator=source) < grey).float()
    of_grey, of_binary = (quadrature(model, x, extent=4.0, points=32).log_evidence for x in (grey, binary))
    assert float(of_grey) < float(of_binary.mean()) - 3 * float(of_binary.std()) / 40**0.5
