"""Likelihoods with one fault each, and the sentence that finds it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Beta, Distribution, Independent, Normal

from vae_lightning.distributions.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from vae_lightning.testing.likelihoods import LikelihoodContract, check_likelihood


class Wrapped(Distribution):
    """A distribution over images whose log_prob is `change` of that of each pixel."""

    def __init__(self, pixels: Distribution, change: Any) -> None:
        self.pixels, self.change = pixels, change
        super().__init__(pixels.batch_shape[:-3], pixels.batch_shape[-3:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        result: Tensor = self.change(self.pixels.log_prob(value))
        return result

    @property
    def mean(self) -> Tensor:
        return self.pixels.mean

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.pixels.sample(sample_shape)


class Grey(Likelihood):
    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def forward(self, parameters: Tensor) -> Distribution:
        changes: dict[str, Any] = {
            "mean over pixels": lambda each: each.mean((-3, -2, -1)),
            "one channel": lambda each: each[..., 0, :, :].sum((-2, -1)),
            "constant left out": lambda each: (each + 0.9).sum((-3, -2, -1)),
            "not summed": lambda each: each,
            "of the batch": lambda each: each.sum((-3, -2, -1)) - each.mean(),
            "": lambda each: each.sum((-3, -2, -1)),
        }
        loc = parameters if self.fault == "mean outside" else parameters.sigmoid()
        scale = parameters.exp() if self.fault == "scale may vanish" else torch.full_like(parameters, 0.2)
        return Wrapped(Normal(loc, scale, validate_args=False), changes.get(self.fault, changes[""]))


class Binary(Likelihood):
    binary = True

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault

    def forward(self, parameters: Tensor) -> Distribution:
        if self.fault == "clamped":
            return Independent(Bernoulli(probs=parameters.sigmoid().clamp(0.3, 0.7)), 3)
        pixels = Bernoulli(logits=parameters, validate_args=False)
        if self.fault == "grey samples":
            pixels.sample = lambda shape=(): pixels.expand(torch.Size([*shape, *pixels.batch_shape])).mean  # type: ignore[method-assign,assignment]
        change = (
            (lambda each: each.mean((-3, -2, -1))) if self.fault == "mean over pixels" else (lambda each: each.sum((-3, -2, -1)))
        )
        return Wrapped(pixels, change)


class BetaLikelihood(Likelihood):
    outputs = 2

    def pixels(self, one: Tensor, other: Tensor) -> Distribution:  # type: ignore[override]
        return Beta(*((0.1 + number.exp()).clamp(max=100) for number in (one, other)), validate_args=False)


class Uniform(Likelihood):
    """A density of 1 at every grey level, which says so of any number."""

    def pixels(self, logits: Tensor) -> Distribution:  # type: ignore[override]
        ones = torch.ones_like(logits)
        return Beta(ones, ones, validate_args=False)


FAULTS = {
    "mean over pixels": r"adds up to exp\(-?\d\S*\), not to 1: log_prob must be the sum over all 24 pixels and channels",
    "one channel": r"adds up to exp",
    "constant left out": r"adds up to exp\(21\.6\), not to 1",
    "not summed": r"log_prob has shape \(3, 2, 4\), not \(\)|log_prob has shape \(2, 3, 4\), not \(\)",
    "of the batch": r"log_prob of one image changes by \S+ with the other images of its batch",
    "mean outside": r"the mean is from -\S+ to \S+, not within \[0, 1\]",
    "scale may vanish": r"(log_prob|the gradient of log_prob) at parameters of size 30: \d+ of \d+ numbers are not finite",
}


@pytest.mark.parametrize("image_shape", [(1, 3, 4), (2, 3, 4), (3, 1, 2)])
@pytest.mark.parametrize("likelihood", [Grey(), Binary(), Binary("clamped"), GaussianLikelihood(scale=0.02)], ids=repr)
def test_likelihoods_without_a_fault_pass(likelihood: Likelihood, image_shape: tuple[int, int, int]) -> None:
    check_likelihood(likelihood, image_shape=image_shape)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_likelihood(Grey(fault), image_shape=(2, 3, 4))


@pytest.mark.parametrize("image_shape", [(1, 3, 4), (1, 4, 4)], ids=["every pattern", "pixel by pixel"])
def test_probabilities_of_binary_images_that_do_not_sum_to_one_are_named(image_shape: tuple[int, int, int]) -> None:
    with pytest.raises(AssertionError, match=r"probabilities of binary images sum to exp\(\d\S+\), not to 1"):
        check_likelihood(Binary("mean over pixels"), image_shape=image_shape)


def test_samples_that_are_not_binary_are_named() -> None:
    with pytest.raises(AssertionError, match="is binary, and its samples are not all 0 or 1"):
        check_likelihood(Binary("grey samples"))


def test_black_pixels_of_infinite_density_are_named() -> None:
    with pytest.raises(
        AssertionError, match=r"BetaLikelihood: log_prob of pixels 0 at parameters of size 0: 4 of 4 numbers are not finite"
    ):
        check_likelihood(BetaLikelihood())


def test_densities_on_the_unit_interval_are_integrated_there_alone() -> None:
    contract = LikelihoodContract.of(BetaLikelihood())
    contract.test_is_normalised()
    contract = LikelihoodContract.of(Uniform())
    contract.test_is_normalised()


def test_number_of_outputs_and_kind_are_asked_for() -> None:
    for name, value in (("outputs", 0), ("outputs", "two"), ("binary", None)):
        likelihood = BernoulliLikelihood()
        setattr(likelihood, name, value)
        with pytest.raises(AssertionError, match=f"BernoulliLikelihood: {name} is {value}"):
            check_likelihood(likelihood)


def test_what_is_no_module_is_named() -> None:
    with pytest.raises(AssertionError, match=r"^function is no torch\.nn\.Module"):
        check_likelihood(lambda parameters: Bernoulli(logits=parameters))


def test_pixels_that_depend_on_each_other_are_summed_only_if_they_are_few() -> None:
    check_likelihood(Binary(), independent_pixels=False)
    with pytest.raises(AssertionError, match="cannot be summed; give a binary likelihood of at most 12 pixels"):
        check_likelihood(Grey(), independent_pixels=False)
