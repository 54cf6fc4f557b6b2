r"""Annealed importance sampling: log p(x) where samples from the prior or the encoder alone would hardly meet the posterior.

Between a first density $f_0$ that can be sampled and the last one, $f_1(z) = p(x, z \mid y)$, lies the path

$f_\beta(z) = f_0(z)^{1 - \beta} f_1(z)^\beta, \quad 0 = \beta_0 < \beta_1 < \dots < \beta_{T + 1} = 1$

along which chains of Hamiltonian Monte Carlo go from $z_0 \sim f_0$, a transition that leaves $f_{\beta_t}$ as it is
leading from $z_{t - 1}$ to $z_t$. The mean over chains of the weights

$w = \prod_{t = 0}^{T} \left(f_1(z_t) / f_0(z_t)\right)^{\beta_{t + 1} - \beta_t}$

is an unbiased estimate of p(x | y), so its logarithm is a lower bound in expectation ("Annealed importance sampling",
Neal, 2001, https://arxiv.org/abs/physics/9803008; for decoders: "On the quantitative analysis of decoder-based generative
models", Wu, Burda, Salakhutdinov and Grosse, 2017, https://arxiv.org/abs/1611.04273). With no distribution between it is
importance sampling.

Bidirectional Monte Carlo: for an image that the model itself has drawn from a known z, that z is a sample of the exact
posterior. Chains that go the same path backwards from there have weights whose mean is an unbiased estimate of 1 / p(x | y), so
they give an upper bound in expectation, and the gap between the bounds says how far either is off ("Sandwiching the marginal
likelihood using bidirectional Monte Carlo", Grosse, Ghahramani and Adams, 2015, https://arxiv.org/abs/1511.02543; "Measuring the
reliability of MCMC inference with bidirectional Monte Carlo", Grosse, Ancha and Roy, 2016, https://arxiv.org/abs/1606.02275).

All this is exact for step sizes that are fixed beforehand. They are adapted as the chains go, which is customary: on a
linear-Gaussian model with 20 distributions that moves the mean weight by 1 % or less with 16 chains, and by 2 % with two.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import choose, require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.chunks import over_chunks, rows_at_once
from vae_lightning.inference.hmc import Point, Terms, Weights, adapted, noise_size, transition
from vae_lightning.inference.observed import Observed, observed_log_likelihood, require_classes, require_images
from vae_lightning.noise import generator, global_noise
from vae_lightning.types import LatentVariableModel

__all__ = [
    "DEFAULT",
    "SCHEDULES",
    "WU",
    "AISEstimate",
    "AISSettings",
    "BidirectionalBounds",
    "annealed_importance_sampling",
    "bidirectional_monte_carlo",
]


@dataclass(frozen=True)
class AISSettings:
    """How the chains of an image go.

    >>> AISSettings(num_chains=0)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: num_chains=0: must be at least 1
    """

    num_chains: int = 16
    """C, chains an image."""
    num_distributions: int = 500
    """T, distributions between the first and the last, each with one trajectory of a chain."""
    schedule: Literal["sigmoid", "linear"] = "sigmoid"
    """How beta grows: slowly near both ends, or evenly."""
    leapfrog_steps: int = 10
    """Leapfrog steps of a trajectory; each takes one pass through the decoder and back."""
    target_acceptance: float = 0.65
    """What each image's step size is adapted to; 0.65 is the best in many dimensions (Neal, 2011)."""
    step_size: float = 0.5
    """Size of the first leapfrog steps, in widths of the distribution if `preconditioned`."""
    start: Literal["prior", "encoder"] = "prior"
    """f_0: p(z | y), or q(z | x, y), which is nearer to the end of the path where the encoder is good."""
    preconditioned: bool = True
    """Whether steps are as long in each dimension as the distribution is wide, going by the prior and the encoder.

    Only for whole images, as the encoder knows no others, and where prior and encoder know their variances.
    """

    def __post_init__(self) -> None:
        require(self.num_chains >= 1, "num_chains", self.num_chains, "at least 1")
        require(self.num_distributions >= 0, "num_distributions", self.num_distributions, "at least 0")
        choose("schedule", self.schedule, SCHEDULES)
        require(self.leapfrog_steps >= 1, "leapfrog_steps", self.leapfrog_steps, "at least 1")
        target = self.target_acceptance
        require(0 < target < 1, "target_acceptance", target, "between 0 and 1")
        require(0 < self.step_size < math.inf, "step_size", self.step_size, "positive")
        choose("start", self.start, STARTS)


class AISEstimate(NamedTuple):
    """What C chains of each of B images came to.

    >>> weights = torch.zeros(4, 1)
    >>> AISEstimate(weights[0], weights, torch.tensor([4.0]), torch.tensor([0.7]), torch.tensor([0.5])).standard_error
    tensor([0.])
    """

    log_marginal: Tensor
    """The estimate of log p(x), or log p(x | y), `(B,)` nats, float64: a lower bound in expectation."""
    log_weights: Tensor
    """Log weight of each chain, `(C, B)` nats, float64."""
    effective_sample_size: Tensor
    """(sum w)^2 / sum w^2, `(B,)`, from 1 to C: how many of the chains count."""
    acceptance: Tensor
    """Share of the trajectories that were accepted, `(B,)`; NaN without any."""
    step_size: Tensor
    """Size of the last leapfrog steps, `(B,)`."""

    @property
    def standard_error(self) -> Tensor:
        """Standard error of `log_marginal`, `(B,)` nats: the relative standard error of the mean weight, infinite for one chain."""
        chains = len(self.log_weights)
        return ((chains / self.effective_sample_size - 1).clamp(min=0) / (chains - 1 or math.nan)).sqrt().nan_to_num(math.inf)


class BidirectionalBounds(NamedTuple):
    """log p(x), or log p(x | y), of B images that the model has drawn, between two bounds.

    >>> BidirectionalBounds(torch.zeros(1, 4), torch.tensor([-90.5]), torch.tensor([-90.0])).gap
    tensor([0.5000])
    """

    x: Tensor
    """The images, `(B, *event)`."""
    lower: Tensor
    """The lower bound, annealed from the prior or encoder to the posterior, `(B,)` nats, float64."""
    upper: Tensor
    """The upper bound, annealed back from the exact posterior, `(B,)` nats, float64; both are bounds in expectation."""

    @property
    def gap(self) -> Tensor:
        """`upper - lower`, `(B,)` nats: in expectation, no less than what either is off; of one image it may be negative."""
        return self.upper - self.lower


def annealed_importance_sampling(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None = None,
    mask: Tensor | None = None,
    settings: AISSettings | None = None,
    source: torch.Generator | None = None,
    max_batch: int = 4000,
) -> AISEstimate:
    """Estimate log p(observed pixels | y) of each image, holding about `max_batch` decoded images at a time.

    Each image has random numbers of its own, so its estimate depends on how many images `source` has served before, but neither
    on what they are nor on which are computed together. The model's weights get no gradient and stay as they are. Works under
    `torch.no_grad` and `torch.inference_mode` too.

    Args:
        x: images `(B, *event)`; what stands in unseen pixels has no effect.
        y: labels `(B,)` of a conditional model; ignored by others.
        mask: bool, `event` or `(B, *event)`, True where observed; None: everywhere.
        settings: `DEFAULT` if None; `WU` for the protocol of Wu et al. (2017).
        source: a generator; one of a fixed seed if None.

    Raises:
        ConfigurationError: the images or the labels are not the model's.
        NotImplementedError: the model's pixels are not independent given z, and there is a mask.
    """
    require_images(model, x, y, mask)
    settings, source = settings or DEFAULT, source or generator(0, "ais")
    with torch.inference_mode(False), torch.no_grad():
        images = Observed.of(x, y, mask)
        log_weights, acceptance, step_size = _run(model, images, None, None, settings, source, max_batch)
        log_sum, log_sum_of_squares = log_weights.logsumexp(0), (2 * log_weights).logsumexp(0)
        effective_sample_size = (2 * log_sum - log_sum_of_squares).exp()
    return AISEstimate(_log_mean(log_weights), log_weights, effective_sample_size, acceptance, step_size)


def bidirectional_monte_carlo(
    model: LatentVariableModel,
    num_images: int,
    y: Tensor | None = None,
    settings: AISSettings | None = None,
    source: torch.Generator | None = None,
    max_batch: int = 4000,
) -> BidirectionalBounds:
    """Bounds on both sides of log p(x | y) of images that the model draws, by annealed importance sampling to and fro.

    Args:
        num_images: B.
        y: labels `(B,)` of a conditional model; ignored by others.
        settings: `DEFAULT` if None.
        source: a generator; one of a fixed seed if None.

    Raises:
        ConfigurationError: there is no image, or labels are not the model's, one an image.
    """
    require(num_images >= 1, "num_images", num_images, "at least 1")
    require_classes(model, y)
    require(y is None or y.shape == (num_images,), "y", None if y is None else tuple(y.shape), f"labels ({num_images},)")
    settings, source = settings or DEFAULT, source or generator(0, "bdmc")
    with torch.inference_mode(False), torch.no_grad():
        y = None if y is None else y.clone()
        z, x = _simulated(model, num_images, y, source, max_batch)
        images = Observed(x, y, None)
        forth = _run(model, images, None, None, settings, source, max_batch)
        back = _run(model, images, z, forth.step_size, settings, source, max_batch)
    return BidirectionalBounds(x, _log_mean(forth.log_weights), -_log_mean(back.log_weights))


# ---- a path, and the way along it


class _Path(NamedTuple):
    """The path of densities from f_0 to f_1, for C chains of each of B images."""

    first: Distribution
    """f_0, batch shape `()` or `(B,)`."""
    terms: Terms
    """What log f_beta is a weighted sum of."""
    ends: tuple[Weights, Weights]
    """Weights of the terms in log f_0 and in log f_1."""
    like: Tensor
    """A tensor with the latents' precision and device."""
    precisions: tuple[Tensor, Tensor] | None
    """1 / variance of f_0 and f_1 in each dimension, `(D,)` or `(B, D)`; None: taken as equal in all."""

    def weights(self, beta: float) -> Weights:
        """Weights of the terms in log f_beta."""
        return [(1 - beta) * first + beta * last for first, last in zip(*self.ends, strict=True)]

    def log_ratio(self, point: Point) -> Tensor:
        """log f_1 - log f_0, `(C, B)` nats, float64."""
        slope = [last - first for first, last in zip(*self.ends, strict=True)]
        return point._replace(values=tuple(value.double() for value in point.values)).log_density(slope)

    def widths(self, beta: float) -> Tensor | float:
        """Standard deviation of f_beta in each dimension, `(D,)` or `(B, D)`, were f_0 and f_1 Gaussians."""
        return 1.0 if self.precisions is None else torch.lerp(*self.precisions, beta).rsqrt()


def _path(model: LatentVariableModel, images: Observed, settings: AISSettings) -> _Path:
    x, y, mask = images
    prior, posterior = model.prior(y), model.posterior(x, y)

    def log_likelihood(z: Tensor) -> Tensor:
        return observed_log_likelihood(model.likelihood(z, y), x, mask)

    first, terms, ends = STARTS[settings.start](prior, posterior, log_likelihood)
    precisions = _precisions(first, posterior) if settings.preconditioned and mask is None else None
    return _Path(first, terms, ends, prior.mean, precisions)


def _from_prior(prior: Distribution, posterior: Distribution, log_likelihood: Callable[[Tensor], Tensor]) -> "_Start":
    def terms(z: Tensor) -> tuple[Tensor, Tensor]:
        return prior.log_prob(z), log_likelihood(z)

    return prior, terms, ((1.0, 0.0), (1.0, 1.0))


def _from_encoder(prior: Distribution, posterior: Distribution, log_likelihood: Callable[[Tensor], Tensor]) -> "_Start":
    def terms(z: Tensor) -> tuple[Tensor, Tensor]:
        return posterior.log_prob(z), prior.log_prob(z) + log_likelihood(z)

    return posterior, terms, ((1.0, 0.0), (0.0, 1.0))


_Start = tuple[Distribution, Terms, tuple[Weights, Weights]]

STARTS: dict[str, Callable[[Distribution, Distribution, Callable[[Tensor], Tensor]], _Start]] = {
    "prior": _from_prior,
    "encoder": _from_encoder,
}
"""f_0, the terms of the path from f_0, and the weights of the terms at both ends."""


def _precisions(first: Distribution, posterior: Distribution) -> tuple[Tensor, Tensor] | None:
    try:
        return 1 / first.variance, 1 / posterior.variance
    except NotImplementedError:
        return None


def _linear(size: int) -> Tensor:
    return torch.linspace(0, 1, size, dtype=torch.float64)


def _sigmoid(size: int) -> Tensor:
    """sigmoid(4 (2 t - 1)) for t from 0 to 1, stretched to reach from 0 to 1 itself."""
    values = (4 * (2 * _linear(size) - 1)).sigmoid()
    return (values - values[0]) / (values[-1] - values[0])


SCHEDULES: dict[str, Callable[[int], Tensor]] = {"sigmoid": _sigmoid, "linear": _linear}
"""beta of so many distributions, 0 and 1 being the first and the last."""


# ---- the chains


class _Chains(NamedTuple):
    log_weights: Tensor
    """`(C, B)` nats, float64."""
    acceptance: Tensor
    """`(B,)`."""
    step_size: Tensor
    """`(B,)`."""


def _run(
    model: LatentVariableModel,
    images: Observed,
    exact: Tensor | None,
    step_size: Tensor | None,
    settings: AISSettings,
    source: torch.Generator,
    max_batch: int,
) -> _Chains:
    """Chains from f_0 to the posterior of each image; back from its exact sample `exact` `(B, D)` where that is given."""
    seeds, chains = _seeds(len(images.x), source), []
    betas = SCHEDULES[settings.schedule](settings.num_distributions + 2)
    for rows in torch.arange(len(images.x)).split(rows_at_once(max_batch, settings.num_chains)):
        path = _path(model, images.take(rows), settings)
        noise = _Noise([seeds[row] for row in rows.tolist()], settings.num_chains, path.like)
        if exact is None:
            z = from_noise(path.first, noise(model.latent_dim))
        else:
            z = exact[rows].expand(settings.num_chains, -1, -1)
        first = torch.full_like(z[0, :, 0], settings.step_size) if step_size is None else step_size[rows]
        chains.append(_anneal(path, z, betas if exact is None else betas.flip(0), first, noise, settings))
    return _Chains(*(torch.cat(parts, dim=-1) for parts in zip(*chains, strict=True)))


def _anneal(path: _Path, z: Tensor, betas: Tensor, step_size: Tensor, noise: "_Noise", settings: AISSettings) -> _Chains:
    """Chains from `z` `(C, B, D)` along `betas`, which go from 1 to 0 for the way back."""
    point = Point.at(z, path.terms)
    log_weights = torch.zeros(z.shape[:2], dtype=torch.float64, device=z.device)
    accepted = torch.zeros_like(step_size)
    steps = list(zip(betas.diff().tolist(), betas[1:].tolist(), strict=True))
    for change, beta in steps[:-1]:
        log_weights += change * path.log_ratio(point)
        step = step_size.unsqueeze(-1) * path.widths(beta)
        point, acceptance = transition(
            point, path.terms, path.weights(beta), step, settings.leapfrog_steps, noise(noise_size(z.shape[-1]))
        )
        step_size = adapted(step_size, acceptance, settings.target_acceptance)
        accepted += acceptance.mean(0)
    log_weights += steps[-1][0] * path.log_ratio(point)
    return _Chains(log_weights, accepted / (len(steps) - 1 or math.nan), step_size)


class _Noise:
    """Standard normal noise that is each image's own, whichever are beside it.

    Drawn on the CPU, so that estimates do not depend on the device; a pass through a decoder takes far longer.
    """

    def __init__(self, seeds: list[int], num_chains: int, like: Tensor) -> None:
        self.sources = [generator(seed, "chains") for seed in seeds]
        self.num_chains, self.like = num_chains, like

    def __call__(self, size: int) -> Tensor:
        """`(C, B, size)`."""
        shape = (self.num_chains, size)
        each = [torch.randn(shape, generator=source, dtype=self.like.dtype) for source in self.sources]
        return torch.stack(each, dim=1).to(self.like.device)


def _seeds(num_images: int, source: torch.Generator) -> list[int]:
    return torch.randint(2**62, (num_images,), generator=source, device=source.device).tolist()


def _log_mean(log_weights: Tensor) -> Tensor:
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def _simulated(
    model: LatentVariableModel, num_images: int, y: Tensor | None, source: torch.Generator, max_batch: int
) -> tuple[Tensor, Tensor]:
    """Latents `(B, D)` from the prior and images `(B, *event)` drawn from them."""
    prior = model.prior(y)
    noise = _Noise(_seeds(num_images, source), 1, prior.mean)(model.latent_dim)
    z = from_noise(prior, noise).squeeze(0)
    # a likelihood, which may be anyone's, can be sampled only with torch's own generator
    with global_noise(_seeds(1, source)[0], z.device):
        x = over_chunks(lambda latents, labels: model.likelihood(latents, labels).sample(), z, y, size=max_batch)
    return z, x


DEFAULT = AISSettings()

WU = AISSettings(num_distributions=10_000, preconditioned=False)
"""The protocol of Wu, Burda, Salakhutdinov and Grosse (2017)."""
