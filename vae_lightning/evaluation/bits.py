r"""Bits per dimension: the nll as a code length, which compares images of different sizes.

$\frac{-\log p(x)}{C H W \log 2}$ for images of shape `(C, H, W)`, where p(x) is a probability of pixel values. Of a density the
number would depend on the unit in which pixels are measured ("A note on the evaluation of generative models", Theis, van den Oord
and Bethge, 2016, https://arxiv.org/abs/1511.01844).
"""

import dataclasses
import math

from vae_lightning.evaluation import needs
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.types import Estimate

__all__ = ["bits", "bits_per_dimension"]


def bits_per_dimension(nll: Estimate, num_dimensions: int) -> Estimate:
    """`nll`, nats per image, as bits per dimension of images with `num_dimensions` pixels times channels.

    >>> nll = Estimate(math.log(2) * 8, math.log(2), 100, 1000, "dynamic", "importance sampling")
    >>> estimate = bits_per_dimension(nll, 4)
    >>> estimate.value, estimate.standard_error
    (2.0, 0.25)
    """
    nats = num_dimensions * math.log(2)
    estimator = f"nll / ({num_dimensions:,} log 2); nll: {nll.estimator}"
    return dataclasses.replace(nll, value=nll.value / nats, standard_error=nll.standard_error / nats, estimator=estimator)


@part(
    "bits",
    needs=(needs.discrete_pixels,),
    metrics=(
        Metric(
            "bits_per_dimension",
            "The nll of all test images as bits per pixel and channel, which compares images of different sizes",
            "bits",
            "low",
            "Theis, van den Oord and Bethge, 2016, https://arxiv.org/abs/1511.01844",
            symbol=r"-\log_2 p(x) / (C H W)",
        ),
    ),
    section="likelihood",
    place=35,
)
def bits(material: Material) -> dict[str, Estimate]:
    """The nll of all test images in bits per pixel and channel."""
    x, _ = material.images("test", 2)
    return {"bits_per_dimension": bits_per_dimension(material.bound["nll"], x[0].numel())}
