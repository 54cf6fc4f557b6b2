"""The report against a linear-Gaussian model, whose every estimate is known in closed form."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl, kl_divergence
from toys import LinearGaussian

from vae_lightning.evaluation.report import Settings, classifier_report, latent_variable_report, marginal_report
from vae_lightning.evaluation.sanity import warnings_of
from vae_lightning.models import VAE
from vae_lightning.models.base import EVALUATION_SEED
from vae_lightning.noise import Source, key_of
from vae_lightning.types import Estimate

SETTINGS = Settings(num_samples=500, elbo_samples=100)


def data_set(model: LinearGaussian, count: int = 200) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    y = torch.arange(count) % max(1, model.num_classes)
    x = model.marginal(y).sample(() if model.num_classes else (count,)).detach()
    return x, y


def in_batches(x: Tensor, y: Tensor, size: int = 80) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


def report_of(model: LinearGaussian, x: Tensor, y: Tensor, settings: Settings = SETTINGS) -> dict[str, Estimate]:
    return latent_variable_report(model, in_batches(x, y), "test", "none", settings, model.num_classes)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_figure_is_that_of_the_closed_form(num_classes: int) -> None:
    model = LinearGaussian(num_classes=num_classes, shift=0.2, stretch=1.3)
    x, y = data_set(model)
    report = report_of(model, x, y)
    log_marginal, posterior = model.marginal(y).log_prob(x), model.posterior(x, y)
    kl, gap = kl_divergence(posterior, model.prior()), kl_divergence(posterior, model.exact_posterior(x, y))
    # the noise of 100 samples on 200 images; that of the importance weights is smaller
    assert report["kl"].value == pytest.approx(kl.mean().item(), abs=1e-9)
    assert report["kl"].standard_error == pytest.approx(kl.std().item() / math.sqrt(200), rel=1e-9)
    assert report["elbo"].value == pytest.approx((log_marginal - gap).mean().item(), abs=0.03)
    assert report["log_likelihood"].value == pytest.approx((log_marginal - gap + kl).mean().item(), abs=0.03)
    assert report["nll"].value == pytest.approx(-log_marginal.mean().item(), abs=0.02)
    assert report["nll"].standard_error == pytest.approx(log_marginal.std().item() / math.sqrt(200), rel=0.05)


def test_estimates_fit_each_other() -> None:
    model = LinearGaussian(shift=0.2, stretch=1.3)
    report = report_of(model, *data_set(model))
    assert report["elbo"].value == pytest.approx(report["log_likelihood"].value - report["kl"].value, abs=1e-9)
    assert report["elbo"].value < -report["nll"].value
    assert 1 < report["effective_sample_size"].value < SETTINGS.num_samples


def test_gap_is_the_mean_of_what_each_image_loses() -> None:
    model = LinearGaussian(shift=0.2, stretch=1.3)
    x, y = data_set(model)
    x = 5 * x
    report = report_of(model, x, y)
    gap, exact = report["variational_gap"], kl_divergence(model.posterior(x, y), model.exact_posterior(x, y))
    assert gap.value == pytest.approx(-report["nll"].value - report["elbo"].value, abs=1e-9)
    assert gap.value == pytest.approx(exact.mean().item(), abs=0.05)
    # images differ by nats, but not in how far their bound is below them
    assert gap.standard_error < 0.1 * report["elbo"].standard_error


class TooGood(LinearGaussian):
    """Its KL is counted half, as by a wrong factor in a closed form."""

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return HalfCounted(super().posterior(x, y))


class HalfCounted(Independent):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner.base_dist, 1)


@kl.register_kl(HalfCounted, Independent)
def _half(p: HalfCounted, q: Independent) -> Tensor:
    return 0.5 * kl_divergence(Independent(p.base_dist, 1), q)


@pytest.mark.parametrize("exact", [True, False])
def test_bound_that_is_above_the_likelihood_is_warned_of_and_one_that_is_right_is_not(exact: bool) -> None:
    """The exact posterior is the hardest case: nothing is between bound and likelihood."""
    right, wrong = (kind(shift=0.0 if exact else 0.2) for kind in (LinearGaussian, TooGood))
    x, y = data_set(right, 1000)
    for samples in (1, 10):
        settings = Settings(num_samples=samples)
        assert warnings_of({"test": report_of(right, x, y, settings)}, None) == []
        report = report_of(wrong, x, y, settings)
        assert 0.5 < report["elbo"].value - report_of(right, x, y, settings)["elbo"].value < 2
        (warning,) = warnings_of({"test": report}, None)
        assert "test/elbo, a lower bound of log p(x), is" in warning


def test_exact_posterior_closes_the_gap_and_every_sample_counts() -> None:
    model = LinearGaussian()
    x, y = data_set(model)
    report = report_of(model, x, y, Settings(num_samples=7))
    assert report["nll"].value == pytest.approx(-model.marginal().log_prob(x).mean().item(), abs=1e-9)
    assert report["effective_sample_size"].value == pytest.approx(7)


def test_every_estimate_says_what_it_is_an_estimate_of() -> None:
    model = LinearGaussian(num_classes=2)
    x, y = data_set(model, 20)
    report = latent_variable_report(model, in_batches(x, y), "val", "threshold", Settings(num_samples=5, elbo_samples=3), 2)
    assert {e.num_images for e in report.values()} == {20}
    assert {e.binarization for e in report.values()} == {"threshold"}
    assert {name: e.num_samples for name, e in report.items()} == {
        "elbo": 3,
        "log_likelihood": 3,
        "kl": 0,
        "nll": 5,
        "variational_gap": 5,
        "effective_sample_size": 5,
    }
    assert "log p(x | y)" in report["nll"].estimator
    unconditional = report_of(LinearGaussian(), *data_set(LinearGaussian(), 20))
    assert "log p(x)" in unconditional["nll"].estimator


def test_split_and_seed_decide_the_noise_and_nothing_else_does() -> None:
    model = LinearGaussian(shift=0.5)
    batches = in_batches(*data_set(model, 20))

    def nll(split: str, seed: int) -> float:
        torch.manual_seed(seed + 7)
        return latent_variable_report(model, batches, split, "", Settings(num_samples=3, seed=seed))["nll"].value

    assert nll("test", 0) == nll("test", 0)
    assert len({nll("test", 0), nll("val", 0), nll("test", 1)}) == 3


def test_elbo_is_the_very_figure_of_the_models_own_test_step() -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=3, net={"name": "mlp", "hidden": [8], "dropout": 0.2})
    x, y = torch.rand(10, 1, 28, 28).round(), torch.arange(10)
    batches = in_batches(x, y, 4)
    own: list[Tensor] = []
    for (images, labels), places in zip(batches, torch.arange(10, dtype=torch.int32).split(4), strict=True):
        noise = model.draw_noise(images, Source(key_of("test", EVALUATION_SEED), places), training=False)
        own.append(model.terms(model(images, labels, noise), images, labels, torch.tensor(0.0))["elbo"].detach())
    report = latent_variable_report(model, batches, "test", "", Settings(num_samples=2))
    assert report["elbo"].value == pytest.approx(torch.cat(own).double().mean().item(), abs=1e-9)


def test_marginal_estimate_is_the_nll_with_labels_summed_over() -> None:
    model = LinearGaussian(num_classes=3, stretch=1.2)
    x, y = data_set(model)
    result = marginal_report(model, in_batches(x, y), "test", "none", SETTINGS, 3)["nll_marginal"]
    exact = -model.log_marginal_over_labels(x)
    assert result.value == pytest.approx(exact.mean().item(), abs=0.03)
    assert result.standard_error == pytest.approx(exact.std().item() / math.sqrt(200), rel=0.05)
    assert (result.num_images, result.num_samples, result.binarization) == (200, 500, "none")


def test_curve_and_classes_are_parts_of_the_same_pass() -> None:
    model = LinearGaussian(num_classes=2, shift=0.3, stretch=1.4)
    x, y = data_set(model, 60)
    settings = Settings(num_samples=50, convergence=(1, 10, 70), per_class=True)
    report = report_of(model, x, y, settings)
    assert [name for name in report if name.startswith("nll")] == ["nll", "nll/k_1", "nll/k_10", "nll_of_class/0", "nll_of_class/1"]
    assert report["nll/k_1"].value > report["nll/k_10"].value > report["nll"].value
    assert report["nll/k_10"].num_samples == 10
    alone = report_of(model, x, y, Settings(num_samples=50))["nll"]
    assert report["nll"].value == pytest.approx(alone.value, abs=1e-9), "the noise is the same whatever is stated beside it"
    assert [report[f"nll_of_class/{label}"].num_images for label in (0, 1)] == [30, 30]
    both = (report["nll_of_class/0"].value + report["nll_of_class/1"].value) / 2
    assert both == pytest.approx(report["nll"].value, abs=1e-9)


def test_bayes_rule_finds_the_label_that_the_exact_likelihoods_find() -> None:
    model = LinearGaussian(num_classes=3)
    x, y = data_set(model)
    found = marginal_report(model, in_batches(x, y), "test", "none", Settings(num_samples=5), 3)["bayes_accuracy"]
    exact = torch.stack([model.marginal(torch.tensor(label)).log_prob(x) for label in range(3)]).argmax(0)
    assert found.value == pytest.approx((exact == y).double().mean().item(), abs=1e-9)


def test_marginal_estimate_does_not_look_at_the_labels() -> None:
    model = LinearGaussian(num_classes=3, shift=0.3)
    x, y = data_set(model, 30)
    settings = Settings(num_samples=2)
    one, other = (
        marginal_report(model, in_batches(x, labels), "test", "", settings, 3)["nll_marginal"].value for labels in (y, y.flip(0))
    )
    assert one == other


def test_accuracy_is_the_share_of_right_classes() -> None:
    y = torch.tensor([0, 1, 2, 0, 1])
    predicted = torch.tensor([0, 1, 2, 1, 2])
    batches = [(predicted[:3], y[:3]), (predicted[3:], y[3:])]
    result = classifier_report(lambda x: torch.eye(3)[x], batches, "none")["accuracy"]
    assert result.value == pytest.approx(0.6)
    assert result.standard_error == pytest.approx(math.sqrt(0.6 * 0.4 / 4))
    assert result.num_images == 5
