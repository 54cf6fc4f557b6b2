"""Likelihoods are distributions: they sum or integrate to 1, have the mean they say, and finite gradients everywhere."""

import math
from pathlib import Path
from typing import Any

import engine_fits
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import ContinuousBernoulli, Distribution

from vae_lightning.distributions.likelihoods import (
    LIKELIHOODS,
    BernoulliLikelihood,
    ContinuousBernoulliLikelihood,
    GaussianLikelihood,
    GaussianPerPixelLikelihood,
    Likelihood,
    LogisticMixtureLikelihood,
    StableContinuousBernoulli,
)
from vae_lightning.distributions.logistic import DiscretisedLogisticMixture
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import VAE
from vae_lightning.nets import NETS
from vae_lightning.noise import Source

# beside round numbers, both sides of where the continuous Bernoulli changes its formula
POSITIVE = [1e-30, 1e-6, 1e-3, 0.004, 0.0999, 0.1, 0.1001, 0.5, 1, 5, 16, 20, 40]
LOGITS = [*(-logit for logit in reversed(POSITIVE)), 0.0, *POSITIVE]


def logits_in(dtype: torch.dtype) -> Tensor:
    return torch.tensor(LOGITS, dtype=dtype)


def gauss_legendre(low: float, high: float, points: int = 400) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a quadrature that is exact for polynomials of degree 799, `(points, 1)` each."""
    off_diagonal = torch.arange(1, points, dtype=torch.float64)
    off_diagonal = off_diagonal / (4 * off_diagonal**2 - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1))
    half = (high - low) / 2
    return (low + half * (nodes + 1)).unsqueeze(-1), (2 * half * vectors[0] ** 2).unsqueeze(-1)


def pixels_of(name: str, logits: Tensor) -> Distribution:
    """With every number of a pixel the same, but for a standard deviation that stays at its start."""
    likelihood = LIKELIHOODS[name]().to(logits.dtype)
    others = torch.zeros_like(logits) if name == "gaussian_per_pixel" else logits
    return likelihood.pixels(logits, *[others] * (likelihood.outputs - 1))


def support(name: str) -> tuple[Tensor, Tensor]:
    """Every value of a pixel and its measure: {0, 1}, the real line as far as there is mass, or [0, 1]."""
    if name == "bernoulli":
        return torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    if name == "logistic_mixture":
        return torch.arange(256, dtype=torch.float64).unsqueeze(-1) / 255, torch.ones(256, 1, dtype=torch.float64)
    return gauss_legendre(-2.0, 3.0) if name.startswith("gaussian") else gauss_legendre(0.0, 1.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_pixel_has_total_probability_one_and_the_mean_it_says(name: str, dtype: torch.dtype, tolerance: float) -> None:
    pixels = pixels_of(name, logits_in(dtype))
    values, measure = support(name)
    mass = pixels.log_prob(values.to(dtype)).double().exp() * measure
    torch.testing.assert_close(mass.sum(0), torch.ones(len(LOGITS), dtype=torch.float64), atol=tolerance, rtol=0)
    torch.testing.assert_close(pixels.mean.double(), (values * mass).sum(0), atol=tolerance, rtol=0)


@pytest.mark.parametrize("shape", [(), (3,), (5, 3)])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_an_image_is_one_event_and_its_log_probability_the_sum_over_pixels(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    likelihood, x = LIKELIHOODS[name](), torch.rand(3, 8, 6).round()
    parameters = torch.randn(likelihood.outputs, *shape, 3, 8, 6)
    images = likelihood(parameters.movedim(0, -4).flatten(-4, -3))
    assert isinstance(images, Distribution)
    assert images.batch_shape == shape
    assert images.event_shape == (3, 8, 6)
    assert images.mean.shape == (*shape, 3, 8, 6)
    torch.testing.assert_close(images.log_prob(x), likelihood.pixels(*parameters).log_prob(x).flatten(-3).sum(-1))


def test_likelihood_of_ones_own_that_gives_no_distribution_is_named() -> None:
    class Forgetful(BernoulliLikelihood):
        def pixels(self, *parameters: torch.Tensor) -> Distribution:
            super().pixels(*parameters)  # type: ignore[return]

    with pytest.raises(ConfigurationError, match=r"^likelihood: Forgetful\.pixels gave a NoneType; a distribution of batch shape"):
        Forgetful()(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("x", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_log_probability_and_its_gradient_are_finite_everywhere(name: str, x: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([*LOGITS, 1e4, -1e4, 1e10, -1e10], dtype=dtype, requires_grad=True)
    log_prob = pixels_of(name, logits).log_prob(torch.tensor(x, dtype=dtype))
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
    assert log_prob.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_no_gradient_is_not_a_number_on_a_side_that_is_not_taken(name: str) -> None:
    """`trainer.detect_anomaly=true` looks at all of them."""
    logits = torch.tensor(LOGITS, requires_grad=True)
    with torch.autograd.detect_anomaly():
        pixels_of(name, logits).log_prob(torch.tensor(0.3)).sum().backward()
    assert logits.grad is not None


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradient_is_the_numerical_one(name: str) -> None:
    x = torch.linspace(0, 1, len(LOGITS), dtype=torch.float64)

    def log_prob(logits: Tensor) -> Tensor:
        return pixels_of(name, logits).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, logits_in(torch.float64).requires_grad_(), eps=1e-5, atol=5e-5)


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli"])
def test_exponential_families_learn_from_the_distance_to_their_mean(name: str) -> None:
    """d log p(x) / d logit = x - E(x): what holds of both Bernoullis, and of mean and normaliser only together."""
    logits = logits_in(torch.float64).requires_grad_()
    pixels = LIKELIHOODS[name]().pixels(logits)
    (gradient,) = torch.autograd.grad(pixels.log_prob(torch.tensor(0.3)).sum(), logits)
    torch.testing.assert_close(gradient, 0.3 - pixels.mean.detach(), atol=1e-7, rtol=0)


def test_confident_and_wrong_bernoulli_pixel_costs_its_whole_logit() -> None:
    pixels = BernoulliLikelihood().pixels(torch.tensor([-1000.0, 1000.0]))
    assert pixels.log_prob(torch.tensor([1.0, 0.0])).tolist() == [-1000, -1000]
    assert pixels.log_prob(torch.tensor([0.0, 1.0])).tolist() == [0, 0]


def test_continuous_bernoulli_agrees_with_torch_where_torch_is_accurate() -> None:
    logits = torch.tensor([[-10, -5, -2, -1, -0.5, -0.1, 0.1, 0.5, 1, 2, 5, 10]], dtype=torch.float64)
    x = torch.linspace(0, 1, 11, dtype=torch.float64).unsqueeze(-1)
    ours, torchs = StableContinuousBernoulli(logits=logits), ContinuousBernoulli(logits=logits)
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x), atol=1e-9, rtol=0)
    torch.testing.assert_close(ours.mean, torchs.mean, atol=1e-9, rtol=0)


def test_continuous_bernoulli_of_logit_zero_is_uniform() -> None:
    pixels = ContinuousBernoulliLikelihood().pixels(torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(pixels.log_prob(torch.linspace(0, 1, 5).double()), torch.zeros(5, dtype=torch.float64))
    assert pixels.mean.tolist() == [0.5] * 5


def test_continuous_bernoulli_has_no_step_where_its_formula_changes() -> None:
    logits = torch.tensor([0.1 - 1e-12, 0.1 + 1e-12], dtype=torch.float64)
    pixels = StableContinuousBernoulli(logits=logits)
    for below, above in (pixels.log_prob(torch.tensor(0.2).double()), pixels.mean):
        assert above.item() == pytest.approx(below.item(), abs=5e-12)


def test_gaussian_is_the_normal_density_around_the_grey_level() -> None:
    x, logits = torch.tensor([0.2, 0.9]), torch.tensor([-1.0, 3.0])
    expected = -((x - logits.sigmoid()) ** 2) / (2 * 0.25**2) - math.log(0.25 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(GaussianLikelihood(scale=0.25).pixels(logits).log_prob(x), expected)


def test_learned_scale_finds_the_standard_deviation_of_the_pixels() -> None:
    torch.manual_seed(0)
    x = 0.5 + 0.3 * torch.randn(50_000)
    likelihood = GaussianLikelihood(scale=0.1)
    (log_scale,) = likelihood.parameters()
    optimizer = torch.optim.Adam([log_scale], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (-likelihood.pixels(torch.zeros(1)).log_prob(x).mean()).backward()
        optimizer.step()
    assert log_scale.exp().item() == pytest.approx(x.std().item(), rel=0.02)


def test_fixed_scale_is_no_parameter_but_is_saved() -> None:
    likelihood = GaussianLikelihood(scale=0.2, learn_scale=False)
    assert not list(likelihood.parameters())
    assert likelihood.state_dict()["log_scale"].exp().item() == pytest.approx(0.2)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_scale_must_be_positive(scale: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^scale=.*: must be positive"):
        GaussianLikelihood(scale=scale)


def test_only_bernoulli_is_of_binary_images() -> None:
    assert [name for name, likelihood in LIKELIHOODS.items() if likelihood.binary] == ["bernoulli"]


# ---- a standard deviation for each pixel


def test_each_pixel_has_its_own_standard_deviation_from_the_start_on() -> None:
    likelihood = GaussianPerPixelLikelihood(scale=0.3, min_scale=0.1)
    widths = torch.tensor([-1e10, -30.0, 0.0, 5.0])
    expected = torch.tensor([0.1, 0.1, 0.3, 0.1 + 0.2 * math.log(1 + math.exp(5)) / math.log(2)])
    torch.testing.assert_close(likelihood.pixels(torch.zeros(4), widths).stddev, expected)


def test_a_pixel_that_is_always_black_adds_no_more_than_the_bound_says() -> None:
    pixels = GaussianPerPixelLikelihood(min_scale=0.02).pixels(torch.tensor(-1e6), torch.tensor(-1e6))
    assert pixels.log_prob(torch.tensor(0.0)).item() == pytest.approx(-math.log(0.02 * math.sqrt(2 * math.pi)), abs=1e-4)


def test_the_second_half_of_the_channels_are_the_standard_deviations() -> None:
    parameters = torch.cat([torch.full((3, 2, 2), 1.0), torch.full((3, 2, 2), 2.0)])
    images = GaussianPerPixelLikelihood()(parameters)
    alone = GaussianPerPixelLikelihood().pixels(torch.tensor(1.0), torch.tensor(2.0))
    assert torch.equal(images.mean, alone.mean.expand(3, 2, 2))
    assert torch.equal(images.stddev, alone.stddev.expand(3, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "key"), [({"min_scale": 0.0}, "min_scale"), ({"scale": 0.01}, "scale"), ({"scale": math.inf}, "scale")]
)
def test_bounds_of_the_standard_deviation_are_in_order(arguments: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{key}="):
        GaussianPerPixelLikelihood(**arguments)


def test_a_mixture_has_three_numbers_a_component() -> None:
    assert LogisticMixtureLikelihood(components=4).outputs == 12
    parameters = torch.randn(12, 5)
    weights, loc, log_scale = parameters.view(3, 4, 5)
    pixels = LogisticMixtureLikelihood(components=4).pixels(*parameters)
    again = DiscretisedLogisticMixture(weights, loc, log_scale)
    assert torch.equal(pixels.log_prob(torch.tensor(0.2)), again.log_prob(torch.tensor(0.2)))
    with pytest.raises(ConfigurationError, match=r"^components=0: must be at least 1"):
        LogisticMixtureLikelihood(components=0)


# ---- a foreign one


@pytest.mark.parametrize("net", NETS)
def test_a_likelihood_by_import_path_goes_with_every_net(net: str) -> None:
    model = VAE(2, family(net), "foreign_nets.LaplaceLikelihood", image_shape=(3, 30, 28))
    x = torch.rand(2, 3, 30, 28)
    draw = model(x)
    loc, log_scale = model.decoder(draw.z[0]).split(3, dim=1)
    expected = torch.distributions.Laplace(loc.sigmoid(), 0.1 + log_scale.exp()).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(draw.likelihood.log_prob(x)[0], expected)


# ---- all of them, in training


def family(net: str) -> dict[str, Any]:
    small: dict[str, dict[str, Any]] = {"mlp": {"hidden": [16]}, "gated_mlp": {"hidden": [16]}, "resnet": {"channels": [4, 4, 4]}}
    return {"name": net, **small.get(net, {})}


@pytest.mark.parametrize("likelihood", ["gaussian_per_pixel", {"name": "logistic_mixture", "components": 2}])
@pytest.mark.parametrize("net", NETS)
def test_several_numbers_a_pixel_are_learned_by_every_net(net: str, likelihood: Any) -> None:
    torch.manual_seed(0)
    model = VAE(2, family(net), likelihood, image_shape=(3, 30, 28))
    # grey ramps, half of them upside down
    ramp = (torch.linspace(0, 1, 30).view(30, 1).expand(3, 30, 28) * 255).round() / 255
    x = torch.stack([ramp, ramp.flip(1)] * 4)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.002), []
    for step in range(20):
        loss = model.terms(model(x, None, model.draw_noise(x, Source.of(x, step))), x, None, torch.tensor(0.0))["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*val_dataloader.*")
@pytest.mark.parametrize("likelihood", ["gaussian_per_pixel", "logistic_mixture"])
def test_compiled_training_is_lightnings(likelihood: str, tmp_path: Path) -> None:
    def build() -> VAE:
        return VAE(2, family("mlp"), {"name": likelihood})

    plain, _ = engine_fits.fit(build, tmp_path, fast=False, max_epochs=1)
    compiled, trainer = engine_fits.fit(build, tmp_path, fast=True, max_epochs=1)
    assert engine_fits.graphs(trainer) >= 1
    engine_fits.assert_same(plain, compiled, within=1e-4)


def test_base_class_leaves_the_pixels_to_others() -> None:
    assert issubclass(Likelihood, nn.Module)
    with pytest.raises(NotImplementedError):
        Likelihood()(torch.zeros(1, 28, 28))
