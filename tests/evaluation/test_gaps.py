"""The gaps of a linear-Gaussian model: the best Gaussian is the exact posterior, so all that is lost is the encoder's."""

import pytest
import torch
from torch.distributions import kl_divergence
from toys import LinearGaussian

from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.evidence import Evidence
from vae_lightning.evaluation.gaps import elbo_of, gap_report
from vae_lightning.inference.ais import AISSettings
from vae_lightning.inference.svi import SVISettings


def test_amortisation_gap_is_the_divergence_of_the_encoder_and_no_approximation_gap_is_left() -> None:
    model = LinearGaussian(shift=0.4, stretch=1.5)
    torch.manual_seed(0)
    x = model.marginal().sample((6,)).detach()
    evidence = Evidence(model, x, None, "none", 100, AISSettings(), Budget(4000))
    report = gap_report(evidence, SVISettings(max_steps=300))
    kl = kl_divergence(model.posterior(x), model.exact_posterior(x)).mean().item()
    assert report["gap/approximation"].value == pytest.approx(0, abs=0.05)
    assert report["gap/amortisation"].value == pytest.approx(kl, abs=0.1)
    assert report["gap/log_marginal"].value == pytest.approx(model.marginal().log_prob(x).mean().item(), abs=1e-6)
    whole = report["gap/log_marginal"].value - report["gap/elbo"].value
    assert report["gap/approximation"].value + report["gap/amortisation"].value == pytest.approx(whole, abs=1e-9)
    assert report["gap/amortisation"].settings["log_marginal"] == "quadrature"


def test_elbo_does_not_depend_on_how_much_is_computed_at_once_and_is_that_of_the_closed_form() -> None:
    model = LinearGaussian(shift=0.4)
    x = model.marginal().sample((40,)).detach()
    q = model.posterior(x)
    small, large = (elbo_of(model, q, x, None, (0, "test"), at_once) for at_once in (10, 10_000))
    torch.testing.assert_close(small, large)
    closed = model.marginal().log_prob(x) - kl_divergence(q, model.exact_posterior(x))
    # noise of its own for each image, so that it averages out
    assert (large - closed).mean().abs() < 0.05
