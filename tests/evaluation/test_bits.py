"""Bits per dimension are the nll in another unit, where the likelihood counts outcomes."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from toys import Painter

from vae_lightning.distributions.logistic import DiscretisedLogisticMixture
from vae_lightning.evaluation.bits import bits
from vae_lightning.evaluation.material import Material
from vae_lightning.types import Estimate


class Grey(Painter):
    """Pixels with a density."""

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(super().likelihood(z, y).mean, 0.1), 3)


class Levels(Painter):
    """Pixels with a mass on each of the 256 grey levels."""

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        mean = super().likelihood(z, y).mean
        each = torch.zeros(2, *mean.shape)
        return Independent(DiscretisedLogisticMixture(each, each + mean, each), 3)


def material(model: Painter, pixel: float = 0.0) -> Material:
    nll = Estimate(100.0, 0.5, 10, 7, "none", "importance sampling")
    return Material(
        model, lambda split, count: (torch.full((count or 2, 1, 28, 28), pixel), torch.zeros(count or 2)), {"nll": nll}, "none", 0
    )


def test_bits_are_the_nats_of_every_image_over_its_pixels() -> None:
    estimate = bits(material(Painter()))["bits_per_dimension"]
    assert estimate.value == 100.0 / (784 * math.log(2))
    assert estimate.standard_error == 0.5 / (784 * math.log(2))
    assert (estimate.num_images, estimate.num_samples) == (10, 7)
    assert bits.unfit(material(Painter())) is None


def test_masses_of_grey_levels_have_bits() -> None:
    assert bits.unfit(material(Levels())) is None


def test_a_density_has_no_bits() -> None:
    assert "density" in str(bits.unfit(material(Grey())))


def test_grey_levels_have_no_bits_under_a_distribution_of_binary_images() -> None:
    assert bits.unfit(material(Painter())) is None
    assert "grey levels" in str(bits.unfit(material(Painter(), pixel=0.5)))
    assert bits.unfit(material(Levels(), pixel=0.5)) is None
