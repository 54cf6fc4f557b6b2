"""What checks share: noise that goes with an image, weights with their error, and rounding by the coarsest number there is."""

import math

import pytest
import torch
from planted import Halves, linear_images, material_of
from toys import LinearGaussian

from vae_lightning.evaluation.verification.subject import Subject, log_mean, worst_deviation


def subject() -> Subject:
    model = LinearGaussian(pixels=12, shift=0.2)
    return Subject(material_of(model, linear_images(model), num_samples=2000))


def test_weights_are_those_of_the_exact_likelihood() -> None:
    whole = subject()
    weighed = whole.weighed
    assert weighed.log_weights.shape == (1000, 24), "at most"
    model = whole.model
    assert isinstance(model, LinearGaussian)
    _, chance = log_mean(weighed.log_weights)
    assert bool(((weighed.bound - model.marginal().log_prob(whole.x)).abs() < 5 * chance).all())
    assert float(chance.max()) < 0.1
    assert bool((weighed.elbo < weighed.bound).all())
    difference, error = weighed.kl_deviation
    assert bool((difference.abs() < 5 * error).all())


def test_logarithm_of_a_mean_has_the_relative_error_of_the_mean() -> None:
    weights = torch.rand(400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value, error = log_mean(weights.log())
    torch.testing.assert_close(value, weights.mean(0).log())
    torch.testing.assert_close(error, weights.std(0, correction=0) / weights.mean(0) / math.sqrt(400))


def test_worst_image_is_the_one_most_errors_above() -> None:
    found = worst_deviation(torch.tensor([5.0, 0.5, -9.0]), torch.tensor([10.0, 0.1, 0.1]))
    assert (found.passed, found.where) == (False, "image 1")
    assert found.tolerance == pytest.approx(0.45)
    assert worst_deviation(torch.tensor([0.1, -1.0]), torch.tensor([0.1, 0.1])).passed
    assert not worst_deviation(torch.tensor([0.1, math.nan]), torch.tensor([0.1, 0.1])).passed


def test_unit_of_rounding_is_that_of_the_coarsest_weights() -> None:
    assert Subject(material_of(Halves(), Halves().images)).unit == torch.finfo(torch.float32).eps
    half = Halves()
    half.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    assert Subject(material_of(half, half.images)).unit == torch.finfo(torch.bfloat16).eps
    found = Subject(material_of(half, half.images)).rounded(torch.tensor([0.1, math.nan]), torch.ones(2), "image {}")
    assert (found.passed, found.where) == (False, "image 1")
