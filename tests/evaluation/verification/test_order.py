"""ELBO, bound and log p(x) of a likelihood that is one are in order; a wrong KL, and weights that are too large, are caught."""

import math

import pytest
import torch
from planted import Halves, finding, linear_images, material_of, verdict
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence, register_kl
from toys import LinearGaussian

from vae_lightning.evaluation.verification.order import _mean_below
from vae_lightning.evaluation.verification.subject import Subject
from vae_lightning.types import Estimate


class Halved(Independent):
    """A Gaussian whose closed form of the KL is half of it."""


@register_kl(Halved, Independent)
def _halved(q: Halved, p: Independent) -> Tensor:
    return kl_divergence(Independent(q.base_dist, 1), p) / 2


class Linear(LinearGaussian):
    """A linear-Gaussian model with a wrong KL, or whose posterior says that it is less dense than it is."""

    def __init__(self, bug: str = "", nats: float = 0.3) -> None:
        super().__init__(pixels=12, shift=0.3, stretch=1.2)
        self.bug, self.nats = bug, nats

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        q = super().posterior(x, y)
        assert isinstance(q, Independent)
        base = q.base_dist
        if self.bug == "kl":
            return Halved(base, 1)
        return Independent(Sparse(base.mean, base.stddev, self.nats), 1) if self.bug == "density" else q


class Sparse(Normal):
    """A Gaussian of two dimensions whose log density is too low by so many nats."""

    def __init__(self, loc: Tensor, scale: Tensor, nats: float) -> None:
        super().__init__(loc, scale)
        self.nats = nats

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - self.nats / 2


def linear(bug: str = "", **settings: int) -> object:
    return material_of(Linear(bug), linear_images(Linear()), **settings)  # type: ignore[arg-type]


def check(name: str, bug: str = "") -> bool:
    return finding(f"order/{name}", linear(bug)).passed  # type: ignore[arg-type]


def test_exact_likelihood_is_in_order() -> None:
    for name in ("kl", "elbo", "exact", "ais_exact", "bracket", "importance_bracket"):
        assert check(name), name


def test_kl_of_half_the_size_is_caught_image_by_image() -> None:
    assert not check("kl", "kl")
    assert not check("elbo", "kl")


def test_weights_that_are_too_large_by_less_than_images_differ_are_caught() -> None:
    """By 0.3 nats: images differ by 3, so that an unpaired comparison of 24 would have an error of 0.6."""
    whole = linear("density")
    assert float(Subject(whole).weighed.bound.std()) / 24**0.5 > 0.3  # type: ignore[arg-type]
    found = finding("order/exact", whole)  # type: ignore[arg-type]
    assert not found.passed
    assert found.size == pytest.approx(0.3, abs=0.2)


def test_elbo_of_samples_is_compared_with_a_bound_of_others() -> None:
    """Where the KL has no closed form: of the same samples, nothing could ever fail."""

    class Mixed(Halves):
        def prior(self, y: Tensor | None = None) -> Distribution:
            mixture = torch.distributions.Categorical(logits=torch.zeros(2))
            loc = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
            return torch.distributions.MixtureSameFamily(mixture, Independent(Normal(loc, 1.5), 1))

    whole = material_of(Mixed(), Halves().images)
    assert not verdict("order/kl", whole).applies
    found = finding("order/elbo", whole)
    assert found.passed
    assert found.tolerance > 0.01, "of samples"


@pytest.mark.parametrize(("gap", "passes"), [(1.0, True), (-0.04, True), (-0.06, False)])
def test_elbo_of_the_report_is_held_against_its_nll(gap: float, passes: bool) -> None:
    whole = linear()
    whole.bound["variational_gap"] = Estimate(gap, 0.01, 10_000, 100, "none", "")  # type: ignore[attr-defined]
    assert finding("order/reported", whole).passed == passes  # type: ignore[arg-type]


def test_single_image_tells_nothing_of_the_order_of_means() -> None:
    whole = linear()
    whole.bound["variational_gap"] = Estimate(-0.06, math.nan, 1, 100, "none", "")  # type: ignore[attr-defined]
    assert "single image" in verdict("order/reported", whole).reason  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 20])
def test_few_images_fail_by_chance_as_seldom_as_many(count: int) -> None:
    """4.5 standard errors that are estimated from 2 images are exceeded in 7 of 100 comparisons."""
    differences = torch.randn(20_000, count, generator=torch.Generator().manual_seed(0))
    assert all(_mean_below(row).passed for row in differences)
    assert not _mean_below(torch.full((count,), 0.1)).passed


def test_many_latents_have_no_exact_value() -> None:
    model = LinearGaussian(pixels=12, latent_dim=3)
    assert "at most two latent dimensions" in verdict("order/exact", material_of(model, linear_images(model))).reason
