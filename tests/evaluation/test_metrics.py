"""Metrics over a data set: means, standard errors, and log p(x) where it is known."""

import math

import pytest
import torch
from torch import Tensor
from toys import LinearGaussian

from vae_lightning.evaluation.metrics import estimate, importance_nll, marginal_nll, per_image
from vae_lightning.inference.importance import ImportanceSampler

PLACES = torch.arange(40, dtype=torch.int32)


def test_estimate_is_mean_and_standard_error() -> None:
    result = estimate(torch.tensor([1.0, 2.0, 3.0, 6.0]), num_samples=7, binarization="threshold", estimator="how")
    assert result.value == 3
    assert result.standard_error == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    assert (result.num_images, result.num_samples, result.binarization, result.estimator) == (4, 7, "threshold", "how")


def test_standard_error_is_the_spread_of_means() -> None:
    torch.manual_seed(0)
    results = [estimate(3 * torch.randn(100), num_samples=1, binarization="", estimator="") for _ in range(2000)]
    spread = torch.tensor([r.value for r in results]).std().item()
    assert spread == pytest.approx(0.3, rel=0.08)
    assert sum(r.standard_error for r in results) / 2000 == pytest.approx(spread, rel=0.08)


def test_one_image_has_no_standard_error() -> None:
    result = estimate(torch.tensor([2.0]), num_samples=1, binarization="", estimator="")
    assert result.value == 2
    assert math.isnan(result.standard_error)


def test_mean_keeps_what_float32_would_lose() -> None:
    values = torch.full((2**24 + 2,), 1.0)
    values[0] = 3.0
    assert estimate(values, num_samples=1, binarization="", estimator="").value == pytest.approx(1 + 2 / len(values), abs=1e-12)


def test_per_image_puts_unequal_batches_together_in_order() -> None:
    x = torch.arange(7.0)
    batches = [(x[:3], x[:3] + 1), (x[3:6], x[3:6] + 1), (x[6:], x[6:] + 1)]
    values = per_image(batches, lambda x, y, places: {"sum": x + y, "places": places})
    assert torch.equal(values["sum"], 2 * x + 1)
    assert values["places"].tolist() == list(range(7))


def images(model: LinearGaussian, y: Tensor) -> Tensor:
    torch.manual_seed(1)
    return model.marginal(y).sample().detach()


def test_importance_nll_is_minus_log_p_of_x_given_its_label() -> None:
    model, y = LinearGaussian(num_classes=4, stretch=1.2), torch.arange(40) % 4
    x = images(model, y)
    values = importance_nll(ImportanceSampler(model), x, y, PLACES[:40], 1000, 50_000, 0, "test")
    torch.testing.assert_close(values["nll"], -model.marginal(y).log_prob(x), atol=0.1, rtol=0)
    assert ((values["effective_sample_size"] > 500) & (values["effective_sample_size"] < 1000)).all()


def test_marginal_nll_is_minus_log_of_p_x_summed_over_labels() -> None:
    model, y = LinearGaussian(num_classes=4, stretch=1.2), torch.arange(40) % 4
    x = images(model, y)
    nll = marginal_nll(ImportanceSampler(model), x, PLACES[:40], 4, 1000, 50_000, 0, "test")["nll_marginal"]
    exact = -model.log_marginal_over_labels(x)
    torch.testing.assert_close(nll, exact, atol=0.1, rtol=0)
    # what summing over labels is there for: p(x | y) alone is another number
    assert (exact + model.marginal(y).log_prob(x)).abs().max() > 0.3


def test_marginal_nll_of_labels_that_change_nothing_is_the_nll() -> None:
    model = LinearGaussian(num_classes=3)
    model.bias.data[:] = model.bias[0].clone()
    x = images(model, torch.zeros(10, dtype=torch.int64))
    nll = marginal_nll(ImportanceSampler(model), x, PLACES[:10], 3, 2, 50_000, 0)["nll_marginal"]
    torch.testing.assert_close(nll, -model.marginal(torch.tensor(0)).log_prob(x), atol=1e-10, rtol=0)


def test_key_alone_decides_the_noise() -> None:
    model, y = LinearGaussian(num_classes=4, shift=0.5), torch.arange(10) % 4
    x = images(model, y)

    def nll(*key: int | str) -> Tensor:
        torch.manual_seed(len(key))  # which must not matter
        return importance_nll(ImportanceSampler(model), x, y, PLACES[:10], 3, 50_000, *key)["nll"]

    assert torch.equal(nll(0, "test", 1), nll(0, "test", 1))
    assert not torch.equal(nll(0, "test", 1), nll(0, "test", 2))
    assert not torch.equal(nll(0, "test", 1), nll(0, "val", 1))
