"""Fits against a linear-Gaussian model, whose posterior given any of its pixels is known, and the best diagonal one too."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence
from toys import LinearGaussian

from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.svi import DEFAULT, ORIGINAL, SVISettings, complete, stochastic_variational_inference
from vae_lightning.noise import generator
from vae_lightning.types import LatentVariableModel

SEEN = torch.tensor([True, True, False, True, False])
PRECISE = SVISettings(num_samples=100, patience=100, tolerance=0.002, elbo_samples=20_000)


def images(model: LinearGaussian, count: int, y: Tensor | None = None) -> Tensor:
    torch.manual_seed(1)
    return model.marginal(y).sample((count,) if y is None else ()).detach()


def exact(model: LinearGaussian, x: Tensor, mask: Tensor, y: Tensor | None = None) -> tuple[MultivariateNormal, Tensor]:
    """p(z | observed pixels), and the log evidence of those."""
    seen, rest = model.weight.detach()[mask], (x - model.offset(y).detach())[..., mask]
    precision = torch.eye(model.latent_dim, dtype=torch.float64) + seen.mT @ seen / model.noise**2
    loc = (rest @ seen / model.noise**2) @ precision.inverse()
    covariance = seen @ seen.mT + model.noise**2 * torch.eye(len(seen), dtype=torch.float64)
    return MultivariateNormal(loc, precision_matrix=precision), MultivariateNormal(
        torch.zeros(len(seen)).double(), covariance
    ).log_prob(rest)


def full(q: Distribution) -> MultivariateNormal:
    return MultivariateNormal(q.mean, torch.diag_embed(q.variance))


@pytest.mark.parametrize("start", ["draws", "prior", "encoder"])
@pytest.mark.parametrize(
    "model", [LinearGaussian(), LinearGaussian(shift=1.0, stretch=0.3), LinearGaussian(pixels=9, latent_dim=4)], ids=str
)
def test_whole_images_get_their_exact_posterior_and_evidence(model: LinearGaussian, start: Any) -> None:
    x = images(model, 6)
    fit = stochastic_variational_inference(model, x, settings=dataclasses.replace(PRECISE, start=start))
    torch.testing.assert_close(fit.posterior.mean, model.exact_posterior(x).mean, atol=0.02, rtol=0)
    torch.testing.assert_close(fit.posterior.stddev, model.exact_scale.expand_as(fit.posterior.stddev), atol=0, rtol=0.03)
    torch.testing.assert_close(fit.elbo, model.marginal().log_prob(x), atol=0.04, rtol=0)


def test_partly_seen_images_get_the_best_diagonal_posterior() -> None:
    """It has the exact mean and the diagonal of the exact precision; its ELBO is lower than the evidence by its KL."""
    model = LinearGaussian()
    x = images(model, 6)
    posterior, evidence = exact(model, x, SEEN)
    fit = stochastic_variational_inference(model, x, mask=SEEN, settings=PRECISE)
    scale = posterior.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
    torch.testing.assert_close(fit.posterior.mean, posterior.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(fit.posterior.stddev, scale.expand(6, -1), atol=0, rtol=0.03)
    gap = kl_divergence(full(Independent(Normal(posterior.mean, scale), 1)), posterior)
    assert gap.min() > 0.02
    torch.testing.assert_close(fit.elbo, evidence - gap, atol=0.04, rtol=0)


def test_default_and_original_come_within_a_fiftieth_of_a_nat_of_the_best() -> None:
    model = LinearGaussian()
    x = images(model, 4)
    posterior, _ = exact(model, x, SEEN)
    best = kl_divergence(
        full(Independent(Normal(posterior.mean, posterior.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()), 1)), posterior
    )
    for settings in (DEFAULT, ORIGINAL):
        fit = stochastic_variational_inference(model, x, mask=SEEN, settings=settings)
        assert (kl_divergence(full(fit.posterior), posterior) - best).max() < 0.02


def test_nothing_seen_leaves_the_prior() -> None:
    model = LinearGaussian()
    fit = stochastic_variational_inference(model, images(model, 2), mask=torch.zeros(5, dtype=torch.bool))
    torch.testing.assert_close(kl_divergence(fit.posterior, model.prior()), torch.zeros(2).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(fit.elbo, torch.zeros(2).double(), atol=1e-3, rtol=0)


def test_every_image_has_a_mask_and_a_label_of_its_own() -> None:
    model = LinearGaussian(num_classes=3)
    y = torch.tensor([0, 1, 2, 1])
    x = images(model, 4, y)
    masks = torch.stack([SEEN, ~SEEN, SEEN.flip(0), torch.ones(5, dtype=torch.bool)])
    fit = stochastic_variational_inference(model, x, y, masks, PRECISE)
    for i, mask in enumerate(masks):
        posterior, _ = exact(model, x[i], mask, y[i])
        torch.testing.assert_close(fit.posterior.mean[i], posterior.mean, atol=0.03, rtol=0)
        torch.testing.assert_close(fit.posterior.stddev[i], posterior.precision_matrix.diagonal().rsqrt(), atol=0, rtol=0.03)


@pytest.mark.parametrize("max_batch", [1, 40, 4000])
def test_fit_of_an_image_does_not_depend_on_those_beside_it(max_batch: int) -> None:
    model = LinearGaussian()
    x = images(model, 5) * torch.tensor([[0.0], [1], [2], [4], [8]], dtype=torch.float64)
    together = stochastic_variational_inference(model, x, mask=SEEN, max_batch=max_batch)
    assert len(together.steps.unique()) > 1
    for i in range(5):
        alone = stochastic_variational_inference(model, x[i : i + 1], mask=SEEN)
        assert alone.steps == together.steps[i]
        torch.testing.assert_close(alone.posterior.mean[0], together.posterior.mean[i])
        torch.testing.assert_close(alone.posterior.stddev[0], together.posterior.stddev[i])
        torch.testing.assert_close(alone.elbo[0], together.elbo[i])


def test_unseen_pixels_have_no_effect() -> None:
    model = LinearGaussian()
    x = images(model, 2)
    for settings in (DEFAULT, dataclasses.replace(DEFAULT, start="encoder")):
        fit = stochastic_variational_inference(model, x, mask=SEEN, settings=settings)
        other = stochastic_variational_inference(model, torch.where(SEEN, x, torch.nan), mask=SEEN, settings=settings)
        assert torch.equal(fit.elbo, other.elbo)
        assert torch.equal(fit.posterior.mean, other.posterior.mean)


def test_original_has_the_numbers_of_its_source() -> None:
    assert (ORIGINAL.optimizer, ORIGINAL.learning_rate, ORIGINAL.max_steps, ORIGINAL.num_samples) == ("sgd", 0.001, 2500, 100)
    assert (ORIGINAL.start, ORIGINAL.patience) == ("prior", None)


def test_original_takes_plain_gradient_steps_from_the_standard_normal() -> None:
    """By hand: at z = e, d/dm = W'(x - W e - b) / s^2 averaged, less m = 0; d/dlog s = e times that averaged, less s^2 - 1 = 0."""
    model = LinearGaussian()
    x = images(model, 1)
    fit = stochastic_variational_inference(
        model, x, mask=SEEN, settings=dataclasses.replace(ORIGINAL, max_steps=1), source=generator(3)
    )
    source = generator(3)
    for_the_elbo = torch.randn(ORIGINAL.elbo_samples, 1, 2, generator=source, dtype=torch.float64)
    z = torch.randn(100, 1, 2, generator=source, dtype=torch.float64)
    weight = model.weight.detach()[SEEN]
    slope = (x[:, SEEN] - z @ weight.mT - model.bias.detach()[0, SEEN]) @ weight / model.noise**2
    torch.testing.assert_close(fit.posterior.mean, 0.001 * slope.mean(0))
    torch.testing.assert_close(fit.posterior.stddev.log(), 0.001 * (slope * z).mean(0))
    assert fit.steps.tolist() == [1]
    nearly = model.likelihood(for_the_elbo).base_dist.log_prob(x)[..., SEEN].sum(-1).mean()
    assert fit.elbo.item() == pytest.approx(nearly.item(), abs=0.1), "a step of 0.001 changes little"


def test_original_never_stops_early() -> None:
    model = LinearGaussian()
    settings = dataclasses.replace(ORIGINAL, max_steps=300, learning_rate=1e-9)
    assert stochastic_variational_inference(model, images(model, 2), settings=settings).steps.tolist() == [300, 300]


def test_no_steps_leave_the_start() -> None:
    model = LinearGaussian(shift=0.4)
    x = images(model, 3)
    for start, expected in (("prior", model.prior()), ("encoder", model.posterior(x))):
        fit = stochastic_variational_inference(model, x, settings=SVISettings(start=start, max_steps=0))
        torch.testing.assert_close(fit.posterior.mean, expected.mean.expand(3, -1))
        torch.testing.assert_close(fit.posterior.stddev, expected.stddev.expand(3, -1))


def test_fit_stops_when_it_gets_no_better() -> None:
    model = LinearGaussian()
    settings = SVISettings(start="encoder", patience=10, tolerance=0.5, reductions=2)
    fit = stochastic_variational_inference(model, images(model, 3), settings=settings)
    assert fit.steps.tolist() == [40, 40, 40], "ten steps to compare with, then three times no better"


def test_weights_stay_as_they_are_and_get_no_gradient() -> None:
    model = LinearGaussian()
    assert isinstance(model, LatentVariableModel)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit = stochastic_variational_inference(model, images(model, 2), settings=SVISettings(max_steps=3))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not fit.elbo.requires_grad
    assert not fit.posterior.mean.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_fits_where_gradients_are_off(mode: Any) -> None:
    model, y = LinearGaussian(num_classes=2), torch.tensor([0, 1, 1])
    x = images(model, 3, y)
    expected = stochastic_variational_inference(model, x, y, SEEN)
    with mode():
        fit = stochastic_variational_inference(model, x.clone(), y.clone(), SEEN.clone())
    assert torch.equal(fit.elbo, expected.elbo)


def test_generator_alone_decides_the_fit() -> None:
    model = LinearGaussian()
    x = images(model, 2)
    first, again, other = (stochastic_variational_inference(model, x, source=generator(key)).elbo for key in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class FullPrior(LinearGaussian):
    """The same model with its prior as a distribution whose KL to a diagonal one torch does not know."""

    def prior(self, y: Tensor | None = None) -> Distribution:
        return MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())


def test_kl_without_a_closed_form_is_that_of_the_samples() -> None:
    model = FullPrior()
    x = images(model, 3)
    fit = stochastic_variational_inference(model, x, settings=PRECISE)
    torch.testing.assert_close(fit.posterior.mean, model.exact_posterior(x).mean, atol=0.02, rtol=0)
    torch.testing.assert_close(fit.elbo, model.marginal().log_prob(x), atol=0.01, rtol=0)


def test_completion_has_the_observed_pixels_and_the_expected_unseen_ones() -> None:
    """Pixel means are linear in z, so their mean over q is W E[z | seen] + b."""
    model, samples = LinearGaussian(), 40_000
    x = images(model, 3)
    posterior, _ = exact(model, x, SEEN)
    q = Independent(Normal(posterior.mean, posterior.stddev), 1)
    completed = complete(model, x, None, SEEN, q, samples, generator(0))
    assert completed.shape == (samples, 3, 5)
    assert torch.equal(completed[..., SEEN], x[:, SEEN].expand(samples, -1, -1))
    expected = posterior.mean @ model.weight.detach().mT + model.bias.detach()
    torch.testing.assert_close(completed.mean(0)[:, ~SEEN], expected[:, ~SEEN], atol=0.02, rtol=0)
    assert not completed.requires_grad


def test_completion_knows_the_label() -> None:
    model, y = LinearGaussian(num_classes=2), torch.tensor([0, 1])
    q = Independent(Normal(torch.zeros(2, 2).double(), 1e-9), 1)
    completed = complete(model, images(model, 2, y), y, torch.zeros(5, dtype=torch.bool), q, 1, generator(0))
    torch.testing.assert_close(completed[0], model.bias.detach()[y], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adm"}, r"optimizer=adm: unknown; did you mean adam\?"),
        ({"start": "priors"}, r"start=priors: unknown; did you mean prior\?"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be positive"),
        ({"max_steps": -1}, "max_steps=-1: must be at least 0"),
        ({"num_samples": 0}, "num_samples=0: must be at least 1"),
        ({"patience": 0}, "patience=0: must be at least 1"),
        ({"tolerance": -0.1}, "tolerance=-0.1: must be at least 0"),
        ({"reductions": -1}, "reductions=-1: must be at least 0"),
        ({"elbo_samples": 0}, "elbo_samples=0: must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SVISettings(**wrong)


class TwoModes(LinearGaussian):
    """One pixel is z squared, which leaves two modes; the other, z squared + z, tells which of them has the mass."""

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(z[..., :1].square() + torch.tensor([0.0, 1.0]) * z[..., :1], 0.2), 1)


def test_default_start_finds_the_mode_that_has_the_mass() -> None:
    """Pixels (2.25, 0.75) are those of z = -1.5, and (2.25, 3.75) those of z = 1.5."""
    model = TwoModes(pixels=2, latent_dim=1)
    x = torch.tensor([[2.25, 0.75], [2.25, 3.75]], dtype=torch.float64)
    for seed in range(5):
        fit = stochastic_variational_inference(model, x, source=generator(seed))
        torch.testing.assert_close(fit.posterior.mean, torch.tensor([[-1.5], [1.5]]).double(), atol=0.1, rtol=0)
