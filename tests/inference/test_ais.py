"""Annealed importance sampling against models whose log p(x) is known."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal
from toys import LinearGaussian, Painter

from vae_lightning import CVAE
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.ais import (
    SCHEDULES,
    WU,
    AISSettings,
    annealed_importance_sampling,
    bidirectional_monte_carlo,
)
from vae_lightning.noise import generator

QUICK = AISSettings(num_distributions=10, leapfrog_steps=3)
WRONG = LinearGaussian(shift=0.4, stretch=1.5)


def images(model: LinearGaussian, count: int, y: Tensor | None = None) -> Tensor:
    torch.manual_seed(1)
    return model.marginal(y).sample((count,) if y is None else ()).detach()


@pytest.mark.parametrize("start", ["prior", "encoder"])
@pytest.mark.parametrize("schedule", ["linear", "sigmoid"])
@pytest.mark.parametrize("preconditioned", [True, False])
def test_estimate_is_within_its_standard_error_of_the_truth(start: Any, schedule: Any, preconditioned: bool) -> None:
    x = images(WRONG, 5)
    settings = dataclasses.replace(QUICK, num_chains=400, start=start, schedule=schedule, preconditioned=preconditioned)
    result = annealed_importance_sampling(WRONG, x, settings=settings)
    off = (result.log_marginal - WRONG.marginal().log_prob(x)) / result.standard_error
    assert result.standard_error.max() < 0.1
    assert off.abs().max() < 3
    assert off.abs().max() > 0.1


def test_labels_reach_prior_posterior_and_likelihood() -> None:
    model = LinearGaussian(num_classes=3, shift=0.4, stretch=1.5)
    y = torch.tensor([0, 1, 2, 1])
    x = images(model, 4, y)
    for start in ("prior", "encoder"):
        settings = dataclasses.replace(QUICK, num_chains=400, start=start)
        result = annealed_importance_sampling(model, x, y, settings=settings, max_batch=800)
        off = (result.log_marginal - model.marginal(y).log_prob(x)) / result.standard_error
        assert off.abs().max() < 3


def test_without_distributions_between_it_is_importance_sampling() -> None:
    x = images(WRONG, 1).expand(3000, -1)
    settings = AISSettings(num_chains=10, num_distributions=0, start="encoder")
    result = annealed_importance_sampling(WRONG, x, settings=settings, max_batch=10**6)
    ratio = (result.log_marginal - WRONG.marginal().log_prob(x)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=4 * ratio.std().item() / math.sqrt(3000))
    assert result.acceptance.isnan().all()
    assert result.standard_error.mean().item() == pytest.approx(ratio.std().item(), rel=0.15)


def test_exact_encoder_leaves_no_variance() -> None:
    model = LinearGaussian()
    x = images(model, 5)
    result = annealed_importance_sampling(model, x, settings=dataclasses.replace(QUICK, start="encoder"))
    torch.testing.assert_close(result.log_marginal, model.marginal().log_prob(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(result.effective_sample_size, torch.full((5,), 16.0, dtype=torch.float64))


@pytest.mark.parametrize(("start", "many"), [("prior", (16, 60)), ("encoder", (16, 30))])
def test_bounds_are_on_their_sides_and_close_in(start: Any, many: tuple[int, int]) -> None:
    wide, close = (
        bidirectional_monte_carlo(WRONG, 100, settings=AISSettings(*counts, leapfrog_steps=3, start=start), max_batch=10_000)
        for counts in ((1, 1), many)
    )
    assert torch.equal(wide.x, close.x)
    exact = WRONG.marginal().log_prob(wide.x)
    for side in (exact - wide.lower, wide.upper - exact):
        assert side.mean() > 2 * side.std() / 100**0.5
    for side in (exact - close.lower, close.upper - exact):
        assert -3 * side.std() / 100**0.5 < side.mean() < 0.05
    assert close.gap.mean().abs() < 0.05 < wide.gap.mean()


def test_labelled_images_are_bounded_given_their_labels() -> None:
    model = LinearGaussian(num_classes=3, shift=0.3)
    y = torch.arange(30) % 3
    settings = dataclasses.replace(QUICK, num_chains=100, start="encoder")
    bounds = bidirectional_monte_carlo(model, 30, y, settings)
    exact = model.marginal(y).log_prob(bounds.x)
    for bound in (bounds.lower, bounds.upper):
        assert (bound - exact).abs().max() < 0.3
        assert (bound - exact).mean().abs() < 0.05


class Mixed(LinearGaussian):
    """Its prior is a mixture of two Gaussians, and so its evidence: moving z by m moves x by W m."""

    def prior(self, y: Tensor | None = None) -> Distribution:
        loc = torch.tensor([[-1.5, 0.0], [2.0, 1.0]], dtype=torch.float64)
        parts = Independent(Normal(loc, torch.ones_like(loc)), 1)
        return MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7], dtype=torch.float64)), parts)

    def log_evidence(self, x: Tensor) -> Tensor:
        prior = self.prior()
        assert isinstance(prior, MixtureSameFamily)
        moved = prior.component_distribution.mean @ self.weight.mT
        return (
            torch.stack([self.marginal().log_prob(x - by) for by in moved], dim=-1)
            .add(torch.tensor([0.3, 0.7]).log())
            .logsumexp(-1)
        )


class Unknowing(Distribution):
    """A Gaussian that knows no moments, as a flow does not."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, base: Distribution) -> None:
        super().__init__(base.batch_shape, base.event_shape)
        self.base = base

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value)

    def from_noise(self, epsilon: Tensor) -> Tensor:
        return self.base.mean + self.base.stddev * epsilon


class Flowing(Mixed):
    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Unknowing(super().posterior(x, y))


@pytest.mark.parametrize("start", ["prior", "encoder"])
@pytest.mark.parametrize("family", [Mixed, Flowing])
def test_priors_and_posteriors_may_be_of_other_families(family: type[Mixed], start: Any) -> None:
    model = family(stretch=2.0)
    x = images(model, 4)
    settings = dataclasses.replace(QUICK, num_chains=400, start=start)
    result = annealed_importance_sampling(model, x, settings=settings)
    assert ((result.log_marginal - model.log_evidence(x)) / result.standard_error).abs().max() < 3


def test_only_observed_pixels_count() -> None:
    seen = torch.tensor([True, True, False, True, False])
    x = images(WRONG, 40)
    marginal = WRONG.marginal()
    seen_marginal = torch.distributions.MultivariateNormal(marginal.mean[seen], marginal.covariance_matrix[seen][:, seen])
    exact = seen_marginal.log_prob(x[:, seen])
    x[:, ~seen] = math.nan
    for mask in (seen, seen.expand(40, -1)):
        result = annealed_importance_sampling(WRONG, x, mask=mask, settings=dataclasses.replace(QUICK, num_chains=100))
        off = (result.log_marginal - exact) / result.standard_error
        assert off.mean().abs() < 3 / 40**0.5
        assert off.std().item() == pytest.approx(1, abs=0.4)


def test_estimate_of_an_image_does_not_depend_on_those_beside_it() -> None:
    x = images(WRONG, 5)
    together = annealed_importance_sampling(WRONG, x, settings=QUICK)
    for max_batch in (1, 40):
        split = annealed_importance_sampling(WRONG, x, settings=QUICK, max_batch=max_batch)
        torch.testing.assert_close(split, together)
    source = generator(0, "ais")
    one_by_one = [annealed_importance_sampling(WRONG, image.unsqueeze(0), settings=QUICK, source=source) for image in x]
    torch.testing.assert_close(torch.cat([one.log_weights for one in one_by_one], dim=1), together.log_weights)


def test_generator_alone_decides_the_estimate() -> None:
    x = images(WRONG, 3)
    first, again, other = (
        annealed_importance_sampling(WRONG, x, settings=QUICK, source=generator(key)).log_marginal for key in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_generator_alone_decides_the_simulated_images_and_their_bounds() -> None:
    before = torch.get_rng_state()
    first, again, other = (bidirectional_monte_carlo(WRONG, 3, settings=QUICK, source=generator(key)) for key in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*both) for both in zip(first, again, strict=True))
    assert not torch.equal(first.x, other.x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_works_in_any_gradient_mode_and_leaves_the_weights_alone(mode: Any) -> None:
    model = LinearGaussian(num_classes=2, shift=0.3)
    y = torch.tensor([0, 1])
    x = images(model, 2, y)
    settings = dataclasses.replace(QUICK, num_distributions=2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    expected = annealed_importance_sampling(model, x, y, settings=settings).log_marginal
    with mode():
        mask = torch.ones(5, dtype=torch.bool)
        result = annealed_importance_sampling(model, 1 * x, 1 * y, settings=settings)
        annealed_importance_sampling(model, 1 * x, 1 * y, mask, settings)
        bounds = bidirectional_monte_carlo(model, 2, 1 * y, settings)
    assert torch.equal(result.log_marginal, expected)
    assert not result.log_marginal.requires_grad
    assert not bounds.gap.requires_grad
    assert all(torch.equal(*both) for both in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_images_of_single_precision_get_estimates_of_double_precision() -> None:
    model = Painter()
    torch.manual_seed(0)
    x = torch.rand(2, 1, 28, 28).round()
    result = annealed_importance_sampling(model, x, settings=dataclasses.replace(QUICK, num_distributions=5))
    assert result.log_weights.shape == (16, 2)
    assert result.log_weights.dtype == result.log_marginal.dtype == torch.float64
    assert result.step_size.dtype == torch.float32
    assert bidirectional_monte_carlo(model, 2, settings=dataclasses.replace(QUICK, num_distributions=5)).x.shape == (2, 1, 28, 28)


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_rise_from_0_to_1_and_are_symmetric(name: str) -> None:
    betas = SCHEDULES[name](12)
    assert betas[0] == 0
    assert betas[-1] == 1
    assert (betas.diff() > 0).all()
    torch.testing.assert_close(betas, 1 - betas.flip(0))
    assert SCHEDULES[name](2).tolist() == [0, 1]


def test_one_chain_knows_no_standard_error() -> None:
    result = annealed_importance_sampling(WRONG, images(WRONG, 2), settings=dataclasses.replace(QUICK, num_chains=1))
    assert result.standard_error.isinf().all()
    torch.testing.assert_close(result.effective_sample_size, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("num_chains", 0, "at least 1"),
        ("num_distributions", -1, "at least 0"),
        ("leapfrog_steps", 0, "at least 1"),
        ("target_acceptance", 1.0, "between 0 and 1"),
        ("target_acceptance", math.nan, "between 0 and 1"),
        ("step_size", 0.0, "positive"),
        ("step_size", math.inf, "positive"),
        ("schedule", "sigmoyd", "did you mean sigmoid"),
        ("start", "postior", "choose from: prior, encoder"),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{field}={value}: .*{wanted}"):
        AISSettings(**{field: value})


def test_no_images_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_images=0: must be at least 1"):
        bidirectional_monte_carlo(WRONG, 0)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (None, r"^y: must be labels \(B,\) from 0 to 2"),
        (torch.tensor([1, 2, 3, 0]), r"^y: must be labels \(B,\) from 0 to 2"),
        (torch.zeros(2, dtype=torch.int64), r"^y=\(2,\): must be labels \(4,\)"),
    ],
)
def test_labels_that_are_not_those_of_the_drawn_images_are_refused(y: Tensor | None, said: str) -> None:
    model = CVAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, num_classes=3, image_shape=(1, 4, 4)).eval()
    with pytest.raises(ConfigurationError, match=said):
        bidirectional_monte_carlo(model, 4, y, QUICK)


def test_protocol_of_wu_is_theirs() -> None:
    assert (WU.num_chains, WU.num_distributions, WU.leapfrog_steps, WU.target_acceptance) == (16, 10_000, 10, 0.65)
    assert (WU.schedule, WU.start, WU.preconditioned) == ("sigmoid", "prior", False)
