"""What sums to one passes, whatever kind of pixels and latents; a dropped normaliser and a wrong log-determinant are caught."""

import math

import pytest
import torch
from planted import Halves, finding, material_of, verdict
from torch import Tensor
from torch.distributions import Bernoulli, Dirichlet, Distribution, Independent, Laplace, Normal, constraints
from torch.nn import functional as F

from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.distributions.posteriors import FlowDistribution, FlowPosterior
from vae_lightning.distributions.sampling import GaussianMixture, diagonal_gaussian

ALL = ("pixels", "patterns", "prior", "posterior", "log_determinant")


class Unnormalised(Bernoulli):
    """Logits times pixels, without log(1 + e^l)."""

    def log_prob(self, value: Tensor) -> Tensor:
        return value * self.logits


class Mean(Independent):
    """A mean over pixels in the place of the sum."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) / self.event_shape.numel()


class Whole(Distribution):
    """Binary images as one event, whose class says nothing of pixels; `tied`: a pair of neighbours likes to be alike."""

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.boolean, 3)

    def __init__(self, logits: Tensor, tied: float = 0.0, lost: float = 0.0) -> None:
        super().__init__(logits.shape[:-3], logits.shape[-3:], validate_args=False)
        self.pixels, self.tied, self.lost = Independent(Bernoulli(logits=logits, validate_args=False), 3), tied, lost

    @property
    def mean(self) -> Tensor:
        return self.pixels.mean

    def log_prob(self, value: Tensor) -> Tensor:
        alike = (value[..., 0, 0, 0] == value[..., 0, 0, 1]).float()
        return self.pixels.log_prob(value) + self.tied * alike + self.lost


class Built(Halves):
    """A model with a likelihood, a posterior and a prior of one's choice."""

    def __init__(self, likelihood: object = None, posterior: object = None, prior: object = None, **size: int) -> None:
        super().__init__(**size)
        self.parts = likelihood, posterior, prior

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        made = self.parts[0]
        return made(self.logits(z, y)) if callable(made) else super().likelihood(z, y)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        made = self.parts[1]
        return made(super().posterior(x, y)) if callable(made) else super().posterior(x, y)

    def prior(self, y: Tensor | None = None) -> Distribution:
        made = self.parts[2]
        return made(super().prior(y)) if callable(made) else super().prior(y)


def failed(model: Halves, *names: str) -> set[str]:
    whole = material_of(model, Halves(rows=model.rows).images)
    return {name for name in names or ALL if not finding(f"normalisation/{name}", whole).passed}


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("confidence", [1.0, 30.0])
def test_every_likelihood_sums_to_one(name: str, confidence: float) -> None:
    likelihood = LIKELIHOODS[name]()

    def images(logits: Tensor) -> Distribution:
        # the mean as decoded, other numbers as a net starts
        rest = torch.zeros_like(logits).repeat_interleave(likelihood.outputs - 1, -3)
        return likelihood(torch.cat([confidence * logits, rest], -3))

    assert failed(Built(images), "pixels", "patterns") == set()


@pytest.mark.parametrize(
    "likelihood",
    [
        lambda logits: Independent(Unnormalised(logits=logits, validate_args=False), 3),
        lambda logits: Independent(Normal(logits.sigmoid(), 0.2, validate_args=False), 3, validate_args=False).expand(
            logits.shape[:-3]
        ),
    ],
    ids=["no normaliser", "a density of grey levels"],
)
def test_dropped_normaliser_is_caught_and_densities_are_no_sums(likelihood: object) -> None:
    dropped = isinstance(likelihood(torch.zeros(1, 1, 2, 2)).base_dist, Unnormalised)  # type: ignore[operator]
    assert failed(Built(likelihood), "pixels", "patterns") == ({"pixels", "patterns"} if dropped else set())


def test_mean_over_pixels_is_caught_by_what_the_rest_costs() -> None:
    mean = Built(lambda logits: Mean(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False))
    assert failed(mean, "pixels", "patterns") == {"patterns"}


@pytest.mark.parametrize(
    ("rows", "tied", "lost", "passes"),
    [
        (2, 0.0, 0.0, True),
        (2, 0.0, 0.01, False),
        (2, 1.0, 0.0, False),
        (8, 0.0, 0.0, True),
        (8, 0.0, 0.1, False),
        (8, 1.0, 0.0, None),
    ],
)
def test_images_whose_class_says_nothing_of_pixels(rows: int, tied: float, lost: float, passes: bool | None) -> None:
    model = Built(lambda logits: Whole(logits, tied, lost), rows=rows)
    result = verdict("normalisation/pixels", material_of(model, Halves(rows=rows).images))
    if passes is None:
        assert "does not say that pixels are independent given z, and there are too many images" in result.reason
    else:
        assert result.passed == passes, result.line
    assert not verdict("normalisation/patterns", material_of(model, Halves(rows=rows).images)).applies


class WrongDeterminant(FlowDistribution):
    """The log-determinants of steps added, not subtracted, in both ways to the density."""

    def _pass(self, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        z, log_prob = super()._pass(epsilon)
        return z, 2 * self.base.log_prob(self.base.mean + self.base.stddev * epsilon) - log_prob

    def log_prob(self, value: Tensor) -> Tensor:
        z = value
        for step in reversed(self.steps):
            z = step.inv(z)
        return 2 * self.base.log_prob(z) - super().log_prob(value.clone())


def flow(kind: type[FlowDistribution], latent_dim: int) -> object:
    torch.manual_seed(0)
    steps = FlowPosterior(latent_dim, steps=2, hidden=[16], context=2).steps
    for parameter in steps.parameters():
        parameter.requires_grad_(False).add_(0.3 * torch.randn_like(parameter))
    return lambda q: kind(q, [step(q.mean.new_zeros(len(q.mean), 4)) for step in steps])


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_flow_passes_and_its_wrong_log_determinant_is_caught(latent_dim: int) -> None:
    names = ("posterior", "log_determinant")
    assert failed(Built(posterior=flow(FlowDistribution, latent_dim), latent_dim=latent_dim), *names) == set()
    assert failed(Built(posterior=flow(WrongDeterminant, latent_dim), latent_dim=latent_dim), *names) == set(names)


def mixture(latent_dim: int, logits: Tensor | None = None) -> GaussianMixture:
    source = torch.Generator().manual_seed(0)
    parts = diagonal_gaussian(2 * torch.randn(7, latent_dim, generator=source), torch.full((7, latent_dim), -3.0))
    return GaussianMixture(torch.linspace(0, 1, 7), parts)


class Twice(GaussianMixture):
    """A mixture without the normalisation of its weights."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.1


@pytest.mark.parametrize("latent_dim", [2, 12])
def test_mixture_integrates_to_one_and_one_whose_weights_do_not_is_caught(latent_dim: int) -> None:
    whole = mixture(latent_dim)
    twice = Twice(whole.mixture_distribution.logits, whole.component_distribution)
    assert failed(Built(prior=lambda p: whole, latent_dim=latent_dim), "prior") == set()
    assert failed(Built(prior=lambda p: twice, latent_dim=latent_dim), "prior") == {"prior"}


@pytest.mark.parametrize("latent_dim", [2, 6])
def test_other_factors_integrate_to_one(latent_dim: int) -> None:
    assert (
        failed(Built(prior=lambda p: Independent(Laplace(p.mean, 1.0), 1), latent_dim=latent_dim), "prior", "log_determinant")
        == set()
    )


def test_closed_form_of_what_is_found() -> None:
    """A density that is twice one: the integral is 2, and the logarithm of a total that lost 1/10 nat a pixel is the sum of that."""

    class Double(Normal):
        def log_prob(self, value: Tensor) -> Tensor:
            return super().log_prob(value) + math.log(2) / 2

    double = Built(prior=lambda p: Independent(Double(p.mean, p.stddev), 1))
    assert finding("normalisation/prior", material_of(double, Halves().images)).size == pytest.approx(1.0, abs=1e-5)

    class Less(Bernoulli):
        def log_prob(self, value: Tensor) -> Tensor:
            return value * self.logits - F.softplus(self.logits) - 0.1

    less = Built(lambda logits: Independent(Less(logits=logits, validate_args=False), 3))
    assert finding("normalisation/pixels", material_of(less, Halves().images)).size == pytest.approx(0.1, abs=1e-5)


def test_what_has_no_way_from_noise_is_left_out_with_a_reason() -> None:
    strange = Built(prior=lambda p: Dirichlet(torch.ones(3)), latent_dim=3)
    result = verdict("normalisation/prior", material_of(strange, Halves().images))
    assert not result.applies
    assert "from_noise" in result.reason
