"""Totals over images that are known in closed form, whatever way there is to sum."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.distributions.totals import (
    is_binary,
    is_mass,
    log_total_of_independent_pixels,
    log_total_of_patterns,
    log_totals_of_pixels,
    pixels_are_independent,
    places,
)

X = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
LOGITS = torch.tensor([[[-3.0, 0.5, 20.0, 1.0]]])


class Lossy(Bernoulli):
    """A pixel that lost a tenth of a nat."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) - 0.1


def lossy() -> Distribution:
    return Independent(Lossy(logits=LOGITS, validate_args=False), 3, validate_args=False)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_pixels_of_every_likelihood_have_total_one(name: str) -> None:
    likelihood = LIKELIHOODS[name]()
    images = likelihood(torch.cat([LOGITS, torch.zeros(likelihood.outputs - 1, 1, 4)]))
    assert is_binary(images) == likelihood.binary
    assert is_mass(images, X) == (likelihood.binary or name == "logistic_mixture")
    values, log_weights = places(images, X, likelihood.binary)
    totals = log_totals_of_pixels(images, values, log_weights)
    assert totals is not None
    torch.testing.assert_close(totals, torch.zeros_like(totals), atol=2e-4, rtol=0)


def test_total_of_pixels_that_lost_a_tenth_of_a_nat() -> None:
    values, log_weights = places(lossy(), X, binary=True)
    totals = log_totals_of_pixels(lossy(), values, log_weights)
    assert totals is not None
    torch.testing.assert_close(totals, torch.full_like(totals, -0.1))
    torch.testing.assert_close(log_total_of_independent_pixels(lossy(), X, binary=True), torch.tensor(-0.4))
    torch.testing.assert_close(log_total_of_patterns(lossy(), X, range(4), values, log_weights), torch.tensor(-0.4))
    # of two pixels, with the rest as it is: what the rest costs, and a tenth of a nat each
    rest = lossy().base_dist.log_prob(X).flatten()[[1, 3]].sum()  # type: ignore[attr-defined]
    torch.testing.assert_close(log_total_of_patterns(lossy(), X, [0, 2], values, log_weights), rest - 0.2)


def test_neighbours_that_depend_on_each_other_are_told_from_those_that_do_not() -> None:
    class Tied(Independent):
        def log_prob(self, value: Tensor) -> Tensor:
            return super().log_prob(value) + (value[..., 0, 0, 2] * value[..., 0, 0, 3])

    tied = Tied(Bernoulli(logits=LOGITS, validate_args=False), 3, validate_args=False)
    assert pixels_are_independent(lossy(), X, 1 - X, 1e-4, pairs=0)
    assert not pixels_are_independent(tied, X, 1 - X, 1e-4, pairs=0)


def test_density_has_no_levels_and_is_not_binary() -> None:
    images = Independent(Normal(torch.zeros(1, 2, 2), 1.0), 3)
    assert not is_binary(images)
    assert len(places(images, torch.zeros(1, 2, 2), binary=False)[0]) > 1000
