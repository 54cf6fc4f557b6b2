"""Information of posteriors that are known: apart, alike, and those of a linear-Gaussian model."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal
from toys import LinearGaussian

from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.information import (
    dimension_report,
    information_report,
    log_aggregate_posterior,
    rate_distortion_report,
)
from vae_lightning.types import Estimate


def images(model: LinearGaussian, count: int) -> Tensor:
    torch.manual_seed(0)
    return model.marginal().sample((count,)).detach()


@pytest.mark.parametrize("max_batch", [1, 4000])
def test_aggregate_is_the_mean_of_all_posteriors(max_batch: int) -> None:
    q = [Independent(Normal(torch.randn(count, 3).double(), torch.rand(count, 3).double() + 0.1), 1) for count in (4, 2)]
    z = torch.randn(7, 3).double()
    explicit = torch.cat([q[0].log_prob(z.unsqueeze(1)), q[1].log_prob(z.unsqueeze(1))], dim=1).exp().mean(1).log()
    torch.testing.assert_close(log_aggregate_posterior(q, z, max_batch), explicit)


def test_densities_that_are_dear_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="factorised"):
        log_aggregate_posterior([MultivariateNormal(torch.zeros(2, 3), torch.eye(3))], torch.zeros(1, 3), 10)


def test_images_that_share_a_posterior_cannot_be_told_apart() -> None:
    model = LinearGaussian()
    report = information_report(model, images(model, 1).expand(50, -1), None, "none", Budget(4000))
    assert report["mutual_information"].value == pytest.approx(0, abs=1e-9)


def test_images_far_apart_are_told_apart_wholly() -> None:
    model = LinearGaussian()
    report = information_report(model, 1e4 * images(model, 50), None, "none", Budget(4000))
    assert report["mutual_information"].value == pytest.approx(math.log(50), abs=1e-9)


def test_exact_posteriors_of_the_models_own_images_make_up_the_prior() -> None:
    """Then I(x; z) is the model's own, 1/2 log det(I + W'W / s^2)."""
    model = LinearGaussian()
    report = information_report(model, images(model, 2000), None, "none", Budget(4000))
    exact = 0.5 * torch.logdet(torch.eye(2, dtype=torch.float64) + model.weight.mT @ model.weight / model.noise**2).item()
    estimate = report["mutual_information"]
    assert estimate.value == pytest.approx(exact, abs=3 * estimate.standard_error + 0.02)
    assert report["aggregate_kl"].value == pytest.approx(0, abs=0.05)


def test_a_prior_of_each_label_is_refused() -> None:
    class Labelled(LinearGaussian):
        def prior(self, y: Tensor | None = None) -> Independent:
            assert y is not None
            return Independent(Normal(self.bias[y][:, :2], 1.0), 1)

    model = Labelled(num_classes=2)
    y = torch.arange(4) % 2
    with pytest.raises(NotImplementedError, match="depends on the label"):
        information_report(model, torch.zeros(4, 5).double(), y, "none", Budget(10))


def test_dimensions_are_those_of_the_closed_form() -> None:
    model = LinearGaussian(latent_dim=3)
    with torch.no_grad():
        model.slope[2] = 0  # which makes the third dimension's mean the same for all images
    x = images(model, 30)
    report = dimension_report(model, x, None, "none")
    q = model.posterior(x)
    for d in range(3):
        closed = 0.5 * (q.mean[:, d] ** 2 + q.variance[:, d] - 1 - q.variance[:, d].log())
        assert report[f"kl_per_dimension/{d:02}"].value == pytest.approx(closed.mean().item(), abs=1e-9)
    assert report["active_units"].value == 2


def test_rate_and_distortion_are_the_terms_of_the_elbo() -> None:
    terms = {"kl": Estimate(25.0, 0.1, 10, 1, "none", ""), "log_likelihood": Estimate(-70.0, 0.2, 10, 1, "none", "")}
    report = rate_distortion_report(terms)
    assert (report["rate"].value, report["distortion"].value) == (25.0, 70.0)
    assert report["distortion"].standard_error == 0.2
