"""What a page shows beside the model: test images, where they lie in latent space, which latents are active, what is typical."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal

from vae_lightning.abilities import classes_of
from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.explorer.graphs import Graph
from vae_lightning.noise import generator
from vae_lightning.objectives.bounds import kl_per_dimension
from vae_lightning.types import LatentVariableModel

__all__ = ["CHECKED", "MAPPED", "Activity", "Latents", "Rounding", "activity", "latents_of", "rounding", "spread", "typical"]

MAPPED = 400
"""How many test images the pad shows."""
SAMPLES = 32
"""Samples whose mean stands for that of a posterior which has none in closed form."""
CHECKED = 100
"""How many latents and images the rounding of weights is tried on."""


class Latents(NamedTuple):
    """Where the posteriors of images lie.

    >>> Latents(torch.zeros(5, 2), torch.ones(5, 2)).means.shape
    torch.Size([5, 2])
    """

    means: Tensor
    """Posterior means `(N, D)`."""
    scales: Tensor
    """Posterior standard deviations `(N, D)`."""


class Activity(NamedTuple):
    """How much of what the latents say each dimension says.

    >>> Activity(torch.tensor([0.1, 3.0]), "KL").order
    [1, 0]
    """

    values: Tensor
    """A number for each dimension, `(D,)`."""
    measure: str
    """What the number is, in words."""

    @property
    def order(self) -> list[int]:
        """The dimensions, the most active first."""
        return [int(dimension) for dimension in self.values.argsort(descending=True, stable=True)]


class Rounding(NamedTuple):
    """What keeping the weights in fewer bits changes.

    >>> Rounding(1e-4, 0.002).mean
    0.0001
    """

    mean: float
    """The largest difference of a pixel's mean."""
    elbo: float
    """The largest difference of an image's ELBO, nats."""

    @property
    def is_finite(self) -> bool:
        """Whether all that was compared is a number."""
        return math.isfinite(self.mean) and math.isfinite(self.elbo)


def spread(values: Tensor, count: int) -> Tensor:
    """`count` of the `values` at equal distances, or all if there are no more; images may be sorted by class.

    >>> spread(torch.arange(10), 4).tolist()
    [0, 2, 5, 7]
    """
    return values if len(values) <= count else values[torch.arange(count) * len(values) // count]


@torch.no_grad()
def latents_of(model: LatentVariableModel, x: Tensor, y: Tensor) -> Latents:
    """Posterior means and standard deviations of images `(N, C, H, W)` with labels `(N,)`; by samples unless q is a Gaussian."""
    posterior = model.posterior(x, y if classes_of(model) else None)
    if isinstance(factors(posterior), Normal):
        return Latents(posterior.mean, posterior.stddev)
    source = generator("explorer", 0)
    samples = [from_noise(posterior, torch.randn(len(x), model.latent_dim, generator=source)) for _ in range(SAMPLES)]
    drawn = torch.stack(samples)
    return Latents(drawn.mean(0), drawn.std(0))


@torch.no_grad()
def activity(model: LatentVariableModel, x: Tensor, y: Tensor, latents: Latents) -> Activity:
    """The mean KL of each dimension over images; where that is no sum over dimensions, the variance of the posterior means."""
    label = y if classes_of(model) else None
    try:
        nats = kl_per_dimension(model.posterior(x, label), model.prior(label))
        return Activity(nats.mean(0), "mean KL over test images, nats")
    except NotImplementedError:
        return Activity(latents.means.var(0), "variance of the posterior means of test images")


@torch.no_grad()
def typical(graphs: Mapping[str, Graph], x: Tensor, y: Tensor) -> dict[str, Any]:
    """The two terms of the ELBO, as means over images `(N, C, H, W)` with one sample of z each, nats."""
    log_likelihood, kl = graphs["terms"].function.module(*_inputs(graphs["terms"], x, y))
    return {"images": len(x), "log_likelihood": float(log_likelihood.mean()), "kl": float(kl.mean())}


@torch.no_grad()
def rounding(graphs: Mapping[str, Graph], x: Tensor, y: Tensor) -> Rounding:
    """How far the page's numbers are from the model's, on up to 100 images and as many samples of the prior."""
    x, y = spread(x, CHECKED), spread(y, CHECKED)
    prior, decoder, terms = graphs["prior"], graphs["decoder"], graphs["terms"]
    z = prior.function.module(*_inputs(prior, x, y))
    labels = [y] if "y" in decoder.function.inputs else []
    mean = (decoder(z, *labels)[0] - decoder.function.module(z, *labels)).abs().max()
    inputs = _inputs(terms, x, y)
    (ours, our_kl), (theirs, their_kl) = terms(*inputs), terms.function.module(*inputs)
    return Rounding(float(mean), float(((ours - our_kl) - (theirs - their_kl)).abs().max()))


def _inputs(graph: Graph, x: Tensor, y: Tensor) -> list[Tensor]:
    """The inputs of a function of images, noise and labels, in its order."""
    latent_dim = graph.function.inputs["noise"].shape[-1]
    noise = torch.randn(len(x), latent_dim, generator=generator("explorer's noise", 0))
    offered = {"x": x, "noise": noise, "y": y}
    return [offered[name] for name in graph.function.inputs]
