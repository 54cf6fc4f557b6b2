"""What checks of a likelihood look at: a model, some held-out images, and the importance weights of these, computed once."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.verification.verdict import DEVIATIONS, ROUNDINGS, Finding
from vae_lightning.inference.chunks import chunks, rows_at_once
from vae_lightning.inference.importance import ImportanceSampler
from vae_lightning.noise import Source
from vae_lightning.objectives.bounds import kl_between, kl_is_closed
from vae_lightning.types import LatentVariableModel

__all__ = ["CHANCE", "ROUNDED", "Subject", "Weighed", "log_mean", "worst_deviation"]

MOST_SAMPLES = 1000
"""Samples an image whose weights are looked at one by one."""
ROUNDING = "rounding: {count} units of 2^{exponent:.0f} in each number that is summed"
CHANCE = f"{DEVIATIONS:g} standard errors"


ROUNDED = 1e-4
"""Nats an image that rounding may move a difference of two sums of some hundred nats in float32."""


class Weighed(NamedTuple):
    """Samples of the posterior of B images and their terms.

    >>> terms = Weighed(*(torch.zeros(3, 2) for _ in range(3)), torch.zeros(2), True)
    >>> terms.bound.shape, terms.elbo.shape
    (torch.Size([2]), torch.Size([2]))
    """

    log_likelihood: Tensor
    """log p(x | z), `(K, B)` nats."""
    log_prior: Tensor
    """log p(z), `(K, B)` nats."""
    log_posterior: Tensor
    """log q(z | x), `(K, B)` nats."""
    kl: Tensor
    """KL(q(z | x) || p(z)), `(B,)` nats, in closed form if `is_closed`, else by the same samples."""
    is_closed: bool
    """Whether the KL is in closed form."""

    @property
    def log_weights(self) -> Tensor:
        """Log importance weights, `(K, B)` nats."""
        return self.log_likelihood + self.log_prior - self.log_posterior

    @property
    def bound(self) -> Tensor:
        """The bound of K samples, `(B,)` nats."""
        return log_mean(self.log_weights)[0]

    @property
    def elbo(self) -> Tensor:
        """The ELBO by the same samples, `(B,)` nats."""
        return self.log_likelihood.mean(0) - self.kl

    @property
    def kl_deviation(self) -> tuple[Tensor, Tensor]:
        """How far the KL is above the mean of log q(z | x) - log p(z), `(B,)` nats, and the standard error of that."""
        sampled = self.log_posterior - self.log_prior
        return self.kl - sampled.mean(0), sampled.std(0) / len(sampled) ** 0.5


@dataclass(frozen=True)
class Subject:
    """A model and the held-out images that checks take.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    >>> images = lambda split, count: (torch.zeros(count, 1, 28, 28), torch.zeros(count, dtype=torch.int64))
    >>> Subject(Material(model, images, {}, "none", num_classes=0)).weighed.bound.shape
    torch.Size([20])
    """

    material: Material
    """What the evaluation measures."""

    @property
    def model(self) -> LatentVariableModel:
        """The model."""
        return self.material.model

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """Images `(B, *event)` and labels `(B,)`, which are all 0 if there are none."""
        return self.material.images("test", self.material.counts.verification)

    @property
    def x(self) -> Tensor:
        """Images `(B, *event)`."""
        return self.images[0]

    @property
    def y(self) -> Tensor | None:
        """Labels `(B,)` of a conditional model; None for others."""
        return self.images[1] if self.material.num_classes else None

    @property
    def num_samples(self) -> int:
        """K of the checks that look at single weights."""
        return max(2, min(self.material.settings.num_samples, MOST_SAMPLES))

    def source(self, purpose: str, rows: Tensor | None = None) -> Source:
        """The noise of the images, or of those of `rows`, whose own it is wherever they stand."""
        whole = Source.of(self.x, self.material.settings.seed, "verification", purpose)
        return whole if rows is None else Source(whole.key, whole.places[rows])

    # ---- rounding

    @cached_property
    def unit(self) -> float:
        """The unit of rounding of the model's coarsest weights, and of the images'."""
        kinds = {self.x.dtype}
        if isinstance(self.model, nn.Module):
            kinds |= {value.dtype for value in self.model.parameters() if value.is_floating_point()}
        return max(torch.finfo(kind).eps for kind in kinds if kind.is_floating_point)

    def rounded(self, size: Tensor, scale: Tensor, where: str) -> Finding:
        """The finding of differences `(N,)` that are rounding, of sums of numbers whose sizes add up to `scale` `(N,)`."""
        size = size.double().nan_to_num(nan=torch.inf)
        allowed = ROUNDINGS * self.unit * scale.double().nan_to_num(posinf=0.0)
        worst = int((size - allowed).argmax())
        because = ROUNDING.format(count=ROUNDINGS, exponent=torch.tensor(self.unit).log2().item())
        return Finding(float(size[worst]), float(allowed[worst]), because, where.format(worst))

    # ---- likelihoods

    def log_p(self, x: Tensor, y: Tensor | None, source: Source, samples: int) -> Tensor:
        """log p(x), or log p(x | y), of images `(N, *event)`, `(N,)` nats in float64, by importance sampling."""
        sampler = ImportanceSampler(self.model)
        return self.material.budget.run(lambda at_once: sampler(x, y, [samples], source, at_once)[-1].log_marginal)

    @cached_property
    @torch.no_grad()
    def weighed(self) -> Weighed:
        """The terms of the images' own samples."""
        return self.material.budget.run(self._weighed)

    def _weighed(self, at_once: int) -> Weighed:
        model, x, y = self.model, self.x, self.y
        posterior, prior = model.posterior(x, y), model.prior(y)
        closed = kl_is_closed(posterior, prior)
        like = prior.mean
        noise = self.source("weights").normal("posterior", self.num_samples, model.latent_dim).to(like)
        parts: list[tuple[Any, ...]] = []
        for (some,) in chunks(rows_at_once(at_once, len(x)), noise):
            z = from_noise(posterior, some)
            terms = (model.likelihood(z, y).log_prob(x), prior.log_prob(z), posterior.log_prob(z))
            parts.append(tuple(term.double() for term in terms))
        log_likelihood, log_prior, log_posterior = (torch.cat(terms) for terms in zip(*parts, strict=True))
        exact = kl_between(posterior, prior, torch.empty(0, len(x), model.latent_dim)).double() if closed else None
        kl = (log_posterior - log_prior).mean(0) if exact is None else exact
        return Weighed(log_likelihood, log_prior, log_posterior, kl, closed)


def log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of the mean of K weights, `(B,)` nats, of their logarithms `(K, B)`, and its standard error.

    >>> log_mean(torch.zeros(10, 2))
    (tensor([0., 0.]), tensor([0., 0.]))
    """
    count, total = len(log_weights), log_weights.logsumexp(0)
    relative = ((2 * log_weights).logsumexp(0) - 2 * total).exp() - 1 / count
    return total - math.log(count), relative.clamp(min=0).sqrt()


def worst_deviation(difference: Tensor, error: Tensor, because: str = CHANCE, slack: float = 0.0) -> Finding:
    """The finding of differences `(N,)` that should be at most 0 but for chance: the one that is the most standard errors above.

    Args:
        error: standard errors `(N,)`.
        slack: what is allowed beside them, for rounding.
    """
    difference, error = difference.double(), error.double()
    allowed = DEVIATIONS * error + slack
    excess = (difference - allowed) / (error + slack).clamp(min=1e-300)
    worst = int(excess.nan_to_num(nan=torch.inf).argmax())
    return Finding(float(difference[worst]), float(allowed[worst]), because, f"image {worst}", len(difference))
