r"""Contracts of priors and posteriors: normalised densities over latents, and samples from noise that follow them.

A density of one or two dimensions is integrated on a grid $z = \sinh(u)$, which is fine near 0 and reaches out to 500. That the
samples follow the density is seen from the mean of $\log p(z)$ over samples, which is $\int p(z) \log p(z)\, dz$.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.sampling import diagonal_gaussian, from_noise
from vae_lightning.noise import generator
from vae_lightning.testing.claims import Contract, agree, claim, finite, reports, require_gradients, require_independence, shaped
from vae_lightning.types import MNIST_SHAPE

__all__ = ["DensityContract", "PosteriorContract", "PriorContract", "check_posterior", "check_prior"]

COUNT = 6
DRAWS = 20_000
CLOSE = 2e-3
"""How far the logarithm of a total may be away from 0, as quadrature is not exact."""


class DensityContract(Contract):
    """What priors and posteriors have in common: a distribution over latents of event shape `(D,)`."""

    latent_dim: int = 2
    """D, for which the part is made; 1 or 2, as more dimensions are not integrated."""
    unused: tuple[str, ...] = ()
    """Parameters that no gradient is meant to reach."""

    def distribution(self, part: Any, count: int = COUNT, dtype: torch.dtype = torch.float32) -> Distribution:
        """What the part gives of `count` images or labels."""
        raise NotImplementedError

    def noise(self, distribution: Distribution, draws: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal noise `(draws, *batch, D)`."""
        shape = (draws, *distribution.batch_shape, self.latent_dim)
        return torch.randn(shape, generator=generator("contract", "noise"), dtype=dtype)

    def test_has_the_shapes_of_latents(self) -> None:
        part = self.part()
        claim(
            isinstance(part, nn.Module),
            f"{type(part).__name__} is no torch.nn.Module, whose parameters a model could learn and save",
        )
        name, distribution = type(part).__name__, self.distribution(part)
        event, batch = tuple(distribution.event_shape), tuple(distribution.batch_shape)
        claim(event == (self.latent_dim,), f"{name}: the event shape is {event}, not {(self.latent_dim,)}")
        self.require_batch(part, batch)
        with reports(f"{name}: log_prob"):
            log_prob = distribution.log_prob(self.noise(distribution, 3, distribution.mean.dtype))
        finite(shaped(log_prob, (3, *batch), f"{name}: log_prob"), f"{name}: log_prob")
        finite(shaped(distribution.mean, (*batch, self.latent_dim), f"{name}: the mean"), f"{name}: the mean")

    def require_batch(self, part: Any, batch: tuple[int, ...]) -> None:
        """Claim that the batch shape is one that such a part may have."""
        raise NotImplementedError

    def test_makes_samples_of_noise(self) -> None:
        part = self.part()
        name, distribution = type(part).__name__, self.distribution(part)
        epsilon = self.noise(distribution, 3)
        with reports(f"{name}: from_noise"):
            z, again = from_noise(distribution, epsilon), from_noise(distribution, epsilon.clone())
        finite(shaped(z, epsilon.shape, f"{name}: a sample from noise"), f"{name}: a sample from noise")
        claim(torch.equal(z, again), f"{name}: from_noise gives another sample of the same noise")
        claim(not torch.equal(z[0], z[1]), f"{name}: from_noise gives one sample whatever the noise")
        # a flow remembers the density of its last sample, so that of a copy is computed another way
        known, computed = distribution.log_prob(again), distribution.log_prob(again.clone())
        claim(agree(known, computed, 1e-3), f"{name}: log_prob of a sample is not log_prob of a copy of it")

    @torch.no_grad()
    def test_is_normalised(self) -> None:
        name, log_prob, log_volume, _ = self._on_grid()
        log_total = (log_prob + log_volume).logsumexp(0).flatten()
        worst = float(log_total[log_total.abs().argmax()])
        claim(abs(worst) < CLOSE, f"{name}: the density integrates to exp({worst:.4g}), not to 1")

    @torch.no_grad()
    def test_samples_follow_the_density(self) -> None:
        name, log_prob, log_volume, distribution = self._on_grid()
        expected = ((log_prob + log_volume).exp() * log_prob.clamp(min=-1e6)).sum(0)
        draws = distribution.log_prob(from_noise(distribution, self.noise(distribution, DRAWS, torch.float64)))
        away = (draws.mean(0) - expected).abs() / (draws.std(0) / math.sqrt(DRAWS) + CLOSE)
        claim(
            float(away.max()) < 5,
            f"{name}: the mean of log_prob over samples from noise is {float(draws.mean(0).flatten()[away.argmax()]):.4g}, and "
            f"{float(expected.flatten()[away.argmax()]):.4g} by integration: the samples do not follow the density",
        )

    def _on_grid(self) -> tuple[str, Tensor, Tensor, Distribution]:
        """The part's name, log_prob on a grid `(N, *batch)`, the logarithm of each place's volume `(N, 1...)`, the distribution."""
        part = self.part().double()
        name = type(part).__name__
        claim(self.latent_dim <= 2, f"{name}: latent_dim={self.latent_dim} cannot be integrated; make one of 1 or 2 dimensions")
        distribution = self.distribution(part, 2, torch.float64)
        u = torch.linspace(-7, 7, 4001 if self.latent_dim == 1 else 351, dtype=torch.float64)
        volume = (u.cosh() * (u[1] - u[0])).log()
        dimensions = [torch.cartesian_prod(*[side] * self.latent_dim).view(-1, self.latent_dim) for side in (u.sinh(), volume)]
        shape = (-1, *[1] * len(distribution.batch_shape))
        z = dimensions[0].view(*shape, self.latent_dim).expand(-1, *distribution.batch_shape, -1)
        with reports(f"{name}: log_prob"):
            return name, distribution.log_prob(z), dimensions[1].sum(-1).view(shape), distribution


class PriorContract(DensityContract):
    """A prior: labels `(B,)`, or None, to p(z | y), of batch shape `()`, or `(B,)` where it depends on the labels.

    >>> from vae_lightning.distributions.priors import MixturePrior
    >>> class TestMyPrior(PriorContract):
    ...     latent_dim = 1
    ...
    ...     def make(self) -> MixturePrior:
    ...         return MixturePrior(latent_dim=1, num_classes=0, components=3)
    >>> TestMyPrior().check()
    """

    num_classes: int = 0
    """How many classes the labels have; 0: the prior does not look at labels."""
    image_shape: tuple[int, int, int] = MNIST_SHAPE
    """`(C, H, W)` of the images that `encode` takes, for priors that are made of posteriors."""

    def encode(self, images: Tensor) -> Distribution:
        """Stands for a model's q(z | x): batch shape `(K,)` of images `(K, C, H, W)`."""
        rows = images.flatten(1)
        weights = torch.randn(rows.shape[1], 2 * self.latent_dim, generator=generator("contract", "encode")).to(rows)
        loc, log_variance = (rows @ weights / math.sqrt(rows.shape[1])).chunk(2, dim=-1)
        return diagonal_gaussian(loc, log_variance)

    def distribution(self, part: Any, count: int = COUNT, dtype: torch.dtype = torch.float32) -> Distribution:
        y = torch.arange(count) % self.num_classes if self.num_classes else None
        return self._of(part, y)

    def _of(self, prior: Any, y: Tensor | None) -> Distribution:
        with reports(f"{type(prior).__name__}: a call with labels {None if y is None else tuple(y.shape)}"):
            result: Distribution = prior(y, self.encode)
        return result

    def require_batch(self, part: Any, batch: tuple[int, ...]) -> None:
        allowed = [(), (COUNT,)] if self.num_classes else [()]
        claim(batch in allowed, f"{type(part).__name__}: the batch shape is {batch}, not {' or '.join(map(str, allowed))}")

    def test_depends_on_own_label_alone(self) -> None:
        prior = self.part()
        z, y = (
            torch.randn(COUNT, self.latent_dim, generator=generator("contract", "places")),
            torch.arange(COUNT) % max(2, self.num_classes),
        )
        if not self.num_classes:
            alike = torch.equal(self._of(prior, None).log_prob(z), self._of(prior, y).log_prob(z))
            claim(alike, f"{type(prior).__name__}: depends on labels, and num_classes is 0")
            return
        others = torch.cat([y[:1], (y[1:] + 1) % self.num_classes])
        own, other = (self._of(prior, labels).log_prob(z)[0] for labels in (y, others))
        claim(agree(own, other), f"{type(prior).__name__}: p(z | y) of one label changes with the other labels of the batch")

    def test_gradients_reach_every_parameter(self) -> None:
        prior = self.part()
        distribution = self.distribution(prior, max(COUNT, self.num_classes))
        log_prob = distribution.log_prob(self.noise(distribution, 50))
        require_gradients(prior, log_prob.mean(), self.unused, f"{type(prior).__name__}: log_prob")


class PosteriorContract(DensityContract):
    """A posterior: the encoder's two heads, `(B, D + extra)` each, to q(z | x) of batch shape `(B,)`.

    >>> from vae_lightning.distributions.posteriors import DiagonalPosterior
    >>> class TestMyPosterior(PosteriorContract):
    ...     def make(self) -> DiagonalPosterior:
    ...         return DiagonalPosterior(latent_dim=2)
    >>> TestMyPosterior().check()
    """

    def heads(self, posterior: Any, count: int, dtype: torch.dtype) -> list[Tensor]:
        """What an encoder might put out, `(count, D + extra)` twice."""
        shape = (2, count, self.latent_dim + posterior.extra)
        return [*torch.randn(shape, generator=generator("contract", "heads"), dtype=dtype)]

    def distribution(self, part: Any, count: int = COUNT, dtype: torch.dtype = torch.float32) -> Distribution:
        heads = self.heads(part, count, dtype)
        return self._of(part, *heads)

    def _of(self, posterior: Any, loc: Tensor, log_variance: Tensor) -> Distribution:
        with reports(f"{type(posterior).__name__}: a call with heads {tuple(loc.shape)}"):
            result: Distribution = posterior(loc, log_variance)
        return result

    def require_batch(self, part: Any, batch: tuple[int, ...]) -> None:
        claim(batch == (COUNT,), f"{type(part).__name__}: the batch shape of {COUNT} images is {batch}, not {(COUNT,)}")

    def test_says_whether_it_is_gaussian(self) -> None:
        posterior = self.part()
        is_gaussian = isinstance(factors(self.distribution(posterior)), Normal)
        claim(
            posterior.gaussian in (False, is_gaussian),
            f"{type(posterior).__name__}: says that it is a Gaussian with independent dimensions, and is not",
        )

    def test_treats_each_image_by_itself(self) -> None:
        posterior = self.part()
        heads = torch.cat(self.heads(posterior, 2 * COUNT, torch.float32), dim=-1)

        def log_prob(rows: Tensor) -> Tensor:
            q = self._of(posterior, *rows.chunk(2, dim=-1))
            return q.log_prob(from_noise(q, self.noise(q, 1)))[0]

        require_independence(log_prob, heads[:COUNT], heads[COUNT:], f"{type(posterior).__name__}: log_prob")

    def test_gradients_reach_encoder_and_every_parameter(self) -> None:
        posterior = self.part()
        name, heads = type(posterior).__name__, [head.requires_grad_() for head in self.heads(posterior, COUNT, torch.float32)]
        q = self._of(posterior, *heads)
        z = from_noise(q, self.noise(q, 3))
        claim(z.requires_grad, f"{name}: no gradient of a sample reaches the encoder")
        for head, which in zip(heads, ("mean", "log-variance"), strict=True):
            (gradient,) = torch.autograd.grad(z.square().sum(), head, retain_graph=True, allow_unused=True)
            claim(gradient is not None and bool(gradient.any()), f"{name}: no gradient of a sample reaches the encoder's {which}")
        require_gradients(posterior, (z.square().sum(-1) - q.log_prob(z)).sum(), self.unused, f"{name}: a sample and its log_prob")


def check_prior(prior: Any, **settings: Any) -> None:
    """Hold `prior` to `PriorContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    PriorContract.of(prior, **settings).check()


def check_posterior(posterior: Any, **settings: Any) -> None:
    """Hold `posterior` to `PosteriorContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    PosteriorContract.of(posterior, **settings).check()
