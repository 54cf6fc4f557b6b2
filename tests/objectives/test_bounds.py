"""Objectives against closed forms, and their gradients against each other, on a linear-Gaussian model."""

import math
import warnings
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, LogNormal, MultivariateNormal, Normal, kl_divergence
from toys import LinearGaussian

from vae_lightning.distributions.sampling import GaussianMixture
from vae_lightning.objectives.bounds import (
    LinearWarmup,
    active_units,
    beta_objective,
    capacity_objective,
    detached,
    doubly_reparameterised,
    elbo,
    iwae_bound,
    kl,
    kl_is_closed,
    kl_per_dimension,
    log_likelihood,
    log_weights,
    mean_log_likelihood,
    systematic_resampling,
)
from vae_lightning.types import Draw


def image(model: LinearGaussian) -> Tensor:
    torch.manual_seed(5)
    return model.marginal().sample().detach()


def draw(model: LinearGaussian, x: Tensor, samples: int, seed: int = 0) -> Draw:
    torch.manual_seed(seed)
    posterior = model.posterior(x)
    z = posterior.mean + posterior.stddev * torch.randn(samples, *posterior.mean.shape, dtype=torch.float64)
    return Draw(posterior, model.prior(), z, model.likelihood(z))


def standard_error(values: Tensor) -> Tensor:
    return values.std(0) / math.sqrt(len(values))


def diagonal(loc: Tensor, scale: Tensor) -> Distribution:
    return Independent(Normal(loc, scale), 1)


# ---- the KL


def test_kl_per_dimension_adds_up_and_refuses_what_does_not_factorise() -> None:
    model = LinearGaussian(shift=0.3, stretch=1.4)
    taken = draw(model, image(model)[None], 1)
    each = kl_per_dimension(taken.posterior, taken.prior)
    assert each.shape == (1, model.latent_dim)
    assert torch.allclose(each.sum(-1), kl(taken))
    whole = MultivariateNormal(torch.zeros(2), torch.eye(2))
    for pair in ((taken.posterior, whole), (whole, taken.prior)):
        with pytest.raises(NotImplementedError, match="MultivariateNormal does not factorise over dimensions"):
            kl_per_dimension(*pair)


def random_gaussians(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64) + 0.3


@pytest.mark.parametrize("prior_shape", [(3,), (4, 3)], ids=["one prior", "a prior an image"])
def test_kl_is_the_closed_form_and_what_monte_carlo_finds(prior_shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    (loc, scale), (prior_loc, prior_scale) = random_gaussians(4, 3), random_gaussians(*prior_shape)
    posterior, prior = diagonal(loc, scale), diagonal(prior_loc, prior_scale)
    z = posterior.sample((100_000,))
    found = kl(Draw(posterior, prior, z, posterior))
    ratio = scale / prior_scale
    closed = (0.5 * (ratio**2 + ((loc - prior_loc) / prior_scale) ** 2 - 1) - ratio.log()).sum(-1)
    torch.testing.assert_close(found, closed)
    torch.testing.assert_close(found, kl_divergence(posterior, prior))
    log_ratio = posterior.log_prob(z) - prior.log_prob(z)
    assert ((log_ratio.mean(0) - found).abs() < 4 * standard_error(log_ratio)).all()


def test_kl_to_a_mixture_is_that_of_the_samples_and_right_on_average() -> None:
    """A mixture of equal components is a Gaussian, whose KL is known."""
    torch.manual_seed(0)
    (loc, scale), (prior_loc, prior_scale) = random_gaussians(4, 3), random_gaussians(3)
    components = diagonal(prior_loc.expand(5, 3), prior_scale.expand(5, 3))
    posterior, prior = diagonal(loc, scale), GaussianMixture(torch.randn(5, dtype=torch.float64), components)
    z = posterior.sample((50_000,))
    log_ratio = posterior.log_prob(z) - prior.log_prob(z)
    found = kl(Draw(posterior, prior, z, posterior))
    torch.testing.assert_close(found, log_ratio.mean(0))
    exact = kl_divergence(posterior, diagonal(prior_loc, prior_scale))
    assert ((found - exact).abs() < 4 * standard_error(log_ratio)).all()
    with pytest.raises(NotImplementedError, match="factorise"):
        kl_per_dimension(posterior, prior)


def test_kl_of_equal_distributions_is_zero() -> None:
    posterior = diagonal(*random_gaussians(4, 3))
    torch.testing.assert_close(kl(Draw(posterior, posterior, posterior.sample(), posterior)), torch.zeros(4, dtype=torch.float64))


def test_kl_that_torch_has_no_closed_form_of_is_the_mean_over_samples() -> None:
    """KL(LogNormal(0, s) || N(0, 1)) = E(z^2) / 2 - 1/2 - log s with E(z^2) = exp(2 s^2)."""
    scale = torch.full((2, 1), 0.5, dtype=torch.float64)
    posterior, prior = Independent(LogNormal(0 * scale, scale), 1), diagonal(0 * scale, 0 * scale + 1)
    with pytest.raises(NotImplementedError):
        kl_divergence(posterior, prior)
    assert not kl_is_closed(posterior, prior)
    assert kl_is_closed(prior, prior)
    torch.manual_seed(0)
    z = posterior.sample((200_000,))
    log_ratio = posterior.log_prob(z) - prior.log_prob(z)
    exact = math.exp(0.5) / 2 - 0.5 - math.log(0.5)
    assert ((kl(Draw(posterior, prior, z, posterior)) - exact).abs() < 4 * standard_error(log_ratio)).all()


# ---- the bounds


def test_elbo_is_the_evidence_less_the_divergence_from_the_exact_posterior() -> None:
    model = LinearGaussian(shift=0.3, stretch=1.3)
    x = image(model)
    output = draw(model, x, 200_000)
    with torch.no_grad():
        expected = model.marginal().log_prob(x) - kl_divergence(model.posterior(x), model.exact_posterior(x))
        values = output.likelihood.log_prob(x)
        assert (elbo(mean_log_likelihood(output, x), kl(output)) - expected).abs() < 4 * standard_error(values)


def test_bounds_are_in_order_elbo_iwae_evidence() -> None:
    model, samples = LinearGaussian(shift=0.3, stretch=1.3), 5
    x = image(model).expand(40_000, -1)
    output = draw(model, x, samples)
    with torch.no_grad():
        lower, bound = elbo(mean_log_likelihood(output, x), kl(output)), iwae_bound(log_weights(output, x))
        gap_below, gap_above = bound - lower, model.marginal().log_prob(x) - bound
    assert gap_below.mean() > 4 * standard_error(gap_below)
    assert gap_above.mean() > 4 * standard_error(gap_above)


def test_exact_posterior_makes_every_weight_the_evidence() -> None:
    model = LinearGaussian()
    x = image(model).expand(3, -1)
    weights = log_weights(draw(model, x, 7), x)
    torch.testing.assert_close(weights, model.marginal().log_prob(x).expand(7, 3))
    torch.testing.assert_close(iwae_bound(weights), weights[0])


def test_a_known_log_likelihood_is_that_of_its_own_images_and_likelihood_alone() -> None:
    model = LinearGaussian(shift=0.3)
    x = image(model).expand(3, -1)
    output = draw(model, x, 4)
    known = output._replace(known=(output.likelihood, x, torch.full((4, 3), 7.0)))
    assert (log_likelihood(known, x) == 7.0).all()
    for other in (x + 1, x.clone()):
        torch.testing.assert_close(log_likelihood(known, other), output.likelihood.log_prob(other))
        torch.testing.assert_close(log_weights(known, other), log_weights(output, other))
        torch.testing.assert_close(mean_log_likelihood(known, other), mean_log_likelihood(output, other))
    other_likelihood = known._replace(likelihood=model.likelihood(output.z + 1))
    torch.testing.assert_close(log_likelihood(other_likelihood, x), model.likelihood(output.z + 1).log_prob(x))


def test_iwae_bound_is_the_log_of_the_mean_weight() -> None:
    torch.manual_seed(0)
    weights = torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(iwae_bound(weights), weights.exp().mean(0).log())
    torch.testing.assert_close(iwae_bound(weights - 1e4), iwae_bound(weights) - 1e4, rtol=1e-12, atol=1e-9)


def test_iwae_bound_of_one_sample_is_its_weight() -> None:
    weights = torch.randn(1, 4)
    torch.testing.assert_close(iwae_bound(weights), weights[0])


def test_mean_log_weight_is_the_elbo_in_expectation() -> None:
    model = LinearGaussian(shift=0.3, stretch=1.3)
    x = image(model)
    output = draw(model, x, 100_000)
    with torch.no_grad():
        difference = log_weights(output, x) - (output.likelihood.log_prob(x) - kl(output))
    assert difference.mean().abs() < 4 * standard_error(difference)


def test_beta_weighs_the_log_ratio_only() -> None:
    model = LinearGaussian(shift=0.3)
    x = image(model).expand(3, -1)
    output = draw(model, x, 4)
    torch.testing.assert_close(log_weights(output, x, 0.0), output.likelihood.log_prob(x))
    full, half = log_weights(output, x, 1.0), log_weights(output, x, torch.tensor(0.5))
    torch.testing.assert_close(half, (full + output.likelihood.log_prob(x)) / 2)


# ---- the other objectives


def test_beta_objective_of_one_is_the_elbo() -> None:
    log_likelihood, divergence = torch.tensor([-80.0, -90.0]), torch.tensor([20.0, 30.0])
    assert elbo(log_likelihood, divergence).tolist() == [-100, -120]
    assert torch.equal(beta_objective(log_likelihood, divergence, 1.0), elbo(log_likelihood, divergence))
    assert beta_objective(log_likelihood, divergence, 4.0).tolist() == [-160, -210]
    assert beta_objective(log_likelihood, divergence, torch.tensor(0.0)).tolist() == [-80, -90]


def test_capacity_objective_pulls_each_images_kl_to_the_capacity() -> None:
    divergence = torch.tensor([5.0, 10.0, 25.0], requires_grad=True)
    objective = capacity_objective(torch.full((3,), -80.0), divergence, 2.0, torch.tensor(10.0))
    assert objective.tolist() == [-90, -80, -110]
    (pull,) = torch.autograd.grad(objective.sum(), divergence)
    assert pull[0] == 2
    assert pull[2] == -2


def test_capacity_of_zero_is_a_beta_objective() -> None:
    log_likelihood, divergence = torch.randn(5), torch.rand(5)
    torch.testing.assert_close(
        capacity_objective(log_likelihood, divergence, 3.0, torch.tensor(0.0)), beta_objective(log_likelihood, divergence, 3.0)
    )


@pytest.mark.parametrize(("start", "end", "steps"), [(0.0, 1.0, 10), (1.0, 0.25, 4), (0.0, 25.0, 100_000)])
def test_warmup_is_linear_and_then_stays(start: float, end: float, steps: int) -> None:
    ramp = LinearWarmup(end=end, steps=steps, start=start)
    assert ramp(torch.tensor(0.0)).item() == start
    assert ramp(torch.tensor(steps / 2)).item() == pytest.approx((start + end) / 2)
    for after in (steps, steps + 1, 100 * steps):
        assert ramp(torch.tensor(float(after))).item() == pytest.approx(end)


def test_warmup_is_a_pure_function_of_the_step() -> None:
    ramp = LinearWarmup(steps=10)
    steps = [7.0, 3.0, 7.0, 0.0, 7.0]
    one_by_one = [ramp(torch.tensor(step)).item() for step in steps]
    assert one_by_one == ramp(torch.tensor(steps)).tolist()
    assert ramp(torch.tensor(7)).item() == one_by_one[0]
    assert ramp == LinearWarmup(steps=10)
    with pytest.raises(FrozenInstanceError):
        ramp.steps = 5  # type: ignore[misc]


def test_warmup_of_no_steps_is_the_end_at_once() -> None:
    assert LinearWarmup(end=3.0, steps=0)(torch.tensor(0)).item() == 3


# ---- the doubly reparameterised gradient


def gradients_an_image(model: LinearGaussian, repeats: int, samples: int, beta: float, *, doubly: bool, seed: int = 0) -> Tensor:
    """The gradient by the posterior's mean and log standard deviation of each of `repeats` draws, `(repeats, 2 D)`."""
    x = image(model).expand(repeats, -1)
    with torch.no_grad():
        posterior = model.posterior(x)
    loc = posterior.mean.clone().requires_grad_()
    log_scale = posterior.stddev.log().clone().requires_grad_()
    torch.manual_seed(seed)
    z = loc + log_scale.exp() * torch.randn(samples, *loc.shape, dtype=torch.float64)
    output = Draw(diagonal(loc, log_scale.exp()), model.prior(), z, model.likelihood(z))
    weights = log_weights(output, x, beta, fixed_density=doubly)
    objective = doubly_reparameterised(weights, z, beta) if doubly else iwae_bound(weights)
    return torch.cat(torch.autograd.grad(objective.sum(), (loc, log_scale)), -1)


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_doubly_reparameterised_gradient_is_the_plain_one_in_expectation(samples: int, beta: float) -> None:
    model = LinearGaussian(shift=0.4, stretch=1.3)
    plain, doubly = (gradients_an_image(model, 100_000, samples, beta, doubly=d) for d in (False, True))
    # the same noise, so that what is compared is small: beside the gradient itself by far
    difference = doubly - plain
    assert (difference.mean(0).abs() < 4.5 * standard_error(difference) + 1e-12).all()
    assert (plain.mean(0).abs() > 20 * standard_error(difference)).any()


def test_weight_of_the_log_ratio_is_one_unless_another_is_given() -> None:
    model = LinearGaussian(shift=0.4, stretch=1.3)
    output = draw(model, x := image(model).expand(3, -1), 4)
    ends = []
    for beta in ((), (1.0,)):
        z = output.z.detach().requires_grad_()
        weights = log_weights(output._replace(z=z, likelihood=model.likelihood(z)), x, *beta, fixed_density=True)
        ends.append(torch.autograd.grad(doubly_reparameterised(weights, z, *beta).sum(), z)[0])
    assert torch.equal(*ends)


def test_doubly_reparameterised_gradient_vanishes_at_the_exact_posterior_where_the_plain_one_is_noise() -> None:
    model = LinearGaussian()
    plain, doubly = (gradients_an_image(model, 1000, 5, 1.0, doubly=d) for d in (False, True))
    assert doubly.abs().max() < 1e-10
    assert plain.std(0).min() > 0.1


def test_doubly_reparameterised_gradient_has_less_variance_near_the_exact_posterior() -> None:
    model = LinearGaussian(shift=0.05, stretch=1.05)
    plain, doubly = (gradients_an_image(model, 5000, 5, 1.0, doubly=d) for d in (False, True))
    assert (doubly.var(0) < 0.1 * plain.var(0)).all()


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_generative_parameters_get_the_plain_gradient_sample_by_sample(beta: float) -> None:
    model = LinearGaussian(shift=0.4, stretch=1.3)
    x = image(model).expand(3, -1)
    for seed in range(5):
        gradients = []
        for doubly in (False, True):
            # the posterior is fixed here, because the toy's own depends on the bias of its decoder
            output = draw(model, x, 5, seed)
            output = output._replace(posterior=detached(output.posterior), z=output.z.detach())
            output = output._replace(likelihood=model.likelihood(output.z))
            weights = log_weights(output, x, beta, fixed_density=doubly)
            objective = doubly_reparameterised(weights, output.z, beta) if doubly else iwae_bound(weights)
            gradients.append(torch.autograd.grad(objective.sum(), (model.weight, model.bias)))
        for plain, other in zip(*gradients, strict=True):
            assert plain.abs().max() > 0.1
            torch.testing.assert_close(other, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_samples_are_drawn_as_often_as_their_shares_say(count: int) -> None:
    """On average over all places of the points, and never further from it than the next whole number."""
    shares, chances = torch.tensor([0.62, 0.0, 0.03, 0.25, 0.1]), 10_000
    places = systematic_resampling(shares.unsqueeze(1).expand(-1, chances), (torch.arange(chances) + 0.5) / chances, count)
    assert places.shape == (count, chances)
    times = (places.unsqueeze(0) == torch.arange(5).view(-1, 1, 1)).sum(1).double()
    torch.testing.assert_close(times.mean(1).float(), count * shares, atol=2e-3, rtol=0)
    assert ((times - count * shares.unsqueeze(1)).abs() < 1 + 1e-6).all()


def test_places_of_samples_exist_whatever_the_shares() -> None:
    shares = torch.tensor([[math.nan, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    for uniform in (0.0, 1 - 2.0**-24):
        places = systematic_resampling(shares, torch.full((4,), uniform), 3)
        assert ((places >= 0) & (places < 2)).all()


def test_doubly_reparameterised_weights_are_as_exact_far_from_zero() -> None:
    """Of an image of many nats, whose weights are what softmax makes of their differences."""
    log_weights = torch.tensor([[-12_000.5], [-12_001.25], [-12_003.0]])
    z = torch.zeros(3, 1, 2, requires_grad=True)
    of_z = (log_weights + z.sum(-1)).requires_grad_()
    (gradient,) = torch.autograd.grad(doubly_reparameterised(of_z, z).sum(), z)
    exact = log_weights.double().softmax(0) ** 2
    torch.testing.assert_close(gradient.double(), exact.unsqueeze(-1).expand(-1, -1, 2), rtol=1e-5, atol=0)


def test_detached_is_the_same_gaussian_without_gradients() -> None:
    loc, scale = random_gaussians(4, 3)
    posterior = diagonal(loc.requires_grad_(), scale.requires_grad_())
    z = posterior.sample()
    fixed = detached(posterior)
    assert torch.equal(fixed.log_prob(z), posterior.log_prob(z))
    assert posterior.log_prob(z).requires_grad
    assert not fixed.log_prob(z).requires_grad


def test_detached_is_not_a_number_where_its_gaussian_is_not() -> None:
    """It is the loss that has to be finite, and who sees to that says more than torch's checks of arguments."""
    unknown = Normal(torch.tensor([float("nan")]), torch.ones(1), validate_args=False)
    fixed = detached(Independent(unknown, 1, validate_args=False))
    assert fixed.log_prob(torch.zeros(1)).isnan()
    assert fixed.log_prob(torch.full((1,), float("nan"))).isnan()


@pytest.mark.parametrize("distribution", [Independent(Laplace(torch.zeros(2), torch.ones(2)), 1)], ids=str)
def test_detached_refuses_what_is_no_diagonal_gaussian(distribution: Distribution) -> None:
    with pytest.raises(NotImplementedError, match="cannot detach"):
        detached(distribution)


def test_units_whose_means_vary_are_active() -> None:
    means = torch.randn(10_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.11, 0.09]) + 5
    assert active_units(means).tolist() == [True, True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert active_units(means[:1]).tolist() == [False, False, False], "one image has no variance"
