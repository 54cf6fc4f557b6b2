"""Every estimator against a linear-Gaussian model, whose log p(x) is known."""

import pytest
import torch
from toys import LinearGaussian

from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.evidence import Evidence
from vae_lightning.inference.ais import AISSettings

AIS = AISSettings(num_chains=16, num_distributions=60, leapfrog_steps=5)


def evidence(model: LinearGaussian, count: int = 12) -> Evidence:
    torch.manual_seed(3)
    y = torch.arange(count) % model.num_classes if model.num_classes else None
    x = model.marginal(y).sample((count,) if y is None else ()).detach()
    return Evidence(model, x, y, "none", num_samples=400, ais=AIS, budget=Budget(4000))


@pytest.mark.parametrize("num_classes", [0, 3])
def test_all_estimators_agree_with_the_exact_value(num_classes: int) -> None:
    model = LinearGaussian(num_classes=num_classes, shift=0.2, stretch=1.2)
    found = evidence(model)
    exact = -model.marginal(found.y).log_prob(found.x)
    report = found.importance_report() | found.ais_report() | found.quadrature_report()
    assert report["nll/quadrature"].value == pytest.approx(exact.mean().item(), abs=1e-6)
    for name in ("importance", "ais", "ais_from_encoder"):
        estimate, distance = report[f"nll/{name}"], report[f"nll_less_exact/{name}"]
        # the distance is of the same images, so its standard error is the estimator's own
        assert abs(distance.value) < 3 * distance.standard_error + 0.01, name
        assert distance.value == pytest.approx(estimate.value - exact.mean().item(), abs=1e-6)
        assert estimate.num_images == len(found.x)
        assert estimate.seconds > 0
        assert ("log p(x | y)" in estimate.estimator) == bool(num_classes)
    assert report["nll/ais"].settings["num_distributions"] == 60


def test_bounds_of_bidirectional_monte_carlo_are_close() -> None:
    report = evidence(LinearGaussian()).bidirectional_report(20, 0)
    gap = report["bdmc/gap"]
    assert gap.value == pytest.approx(report["bdmc/upper"].value - report["bdmc/lower"].value, abs=1e-9)
    assert abs(gap.value) < 0.05 + 3 * gap.standard_error
    assert {estimate.binarization for estimate in report.values()} == {"simulated"}


def test_best_is_exact_where_that_can_be_and_else_the_highest_bound() -> None:
    flat = evidence(LinearGaussian(latent_dim=2, shift=0.4))
    torch.testing.assert_close(flat.best[0], flat.model.marginal().log_prob(flat.x), atol=1e-6, rtol=0)
    assert flat.best[1] == "quadrature"
    deep = evidence(LinearGaussian(latent_dim=3, shift=1.5, stretch=0.5))
    bounds = [found.log_marginal.mean() for found in (deep.by_importance[0], deep.by_ais[0], deep.by_ais_from_encoder[0])]
    assert deep.best[0].mean() == max(bounds)
    assert "lower bounds" in deep.best[1]
    assert not [name for name in deep.importance_report() if name.startswith("nll_less_exact")]
