r"""Stochastic variational inference: a posterior fitted to each image by itself, where the encoder's will not do.

The encoder knows whole images. Given only the pixels $x_O$ that a mask leaves, a diagonal Gaussian
$q(z) = N(\mu, \mathrm{diag}\, \sigma^2)$ is fitted to $p(z \mid x_O, y)$ by gradient ascent in $(\mu, \log \sigma)$ on

$E_q\left[\log p(x_O \mid z, y)\right] - KL\left(q(z) \,\|\, p(z \mid y)\right)
= \log p(x_O \mid y) - KL\left(q(z) \,\|\, p(z \mid x_O, y)\right)$

with reparameterised samples of q ("Stochastic variational inference", Hoffman, Blei, Wang and Paisley, 2013,
https://arxiv.org/abs/1206.7055; "Auto-encoding variational Bayes", Kingma and Welling, 2014,
https://arxiv.org/abs/1312.6114).

All images share their noise, so that an image's fit does not depend on which others are fitted beside it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vae_lightning.arguments import choose, require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.chunks import over_chunks, rows_at_once
from vae_lightning.inference.elbo import bound_at, mean_elbo
from vae_lightning.inference.observed import Observed, log_joint, require_images
from vae_lightning.noise import generator
from vae_lightning.types import LatentVariableModel

__all__ = ["DEFAULT", "DRAWS", "ORIGINAL", "QUICK", "Fit", "SVISettings", "Start", "complete", "stochastic_variational_inference"]

DRAWS = 400
"""Draws from the prior among which a fit looks for its start; q is then a tenth as wide as the prior."""


Start = Literal["draws", "prior", "encoder"]


@dataclass(frozen=True)
class SVISettings:
    """How the posterior of an image is fitted.

    >>> SVISettings(start="priors")
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: start=priors: unknown; did you mean prior? choose from: draws, prior, encoder
    """

    optimizer: Literal["sgd", "adam"] = "adam"
    """Plain gradient ascent, or Adam (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980)."""
    learning_rate: float = 0.1
    """Length of the first step, on the mean and the log standard deviation of q."""
    max_steps: int = 1000
    """Steps after which an image is left as it is."""
    num_samples: int = 20
    """K, reparameterised samples of q that the gradient of a step is the mean of."""
    start: Start = "draws"
    """q before the first step.

    draws: around the likeliest of the encoder's mean, for the image whose unseen pixels are 0, and `DRAWS` draws from the prior;
    prior: with mean and deviation of p(z | y), from where noisy steps now and then end in one;
    encoder: the encoder's for the image with its unseen pixels black, which it is sure of and so often near a lesser one.
    """
    patience: int | None = 40
    """Steps whose mean ELBO must be better than that of any as many before; None: never stop early."""
    tolerance: float = 0.02
    """What counts as better, nats."""
    reductions: int = 2
    """How often an image that got no better goes on with a tenth of the learning rate before it stops."""
    elbo_samples: int = 500
    """Samples of q for the ELBO that is reported."""

    def __post_init__(self) -> None:
        choose("optimizer", self.optimizer, OPTIMIZERS)
        choose("start", self.start, STARTS)
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        require(self.max_steps >= 0, "max_steps", self.max_steps, "at least 0")
        require(self.num_samples >= 1, "num_samples", self.num_samples, "at least 1")
        require(self.patience is None or self.patience >= 1, "patience", self.patience, "at least 1, or null for never")
        require(self.tolerance >= 0, "tolerance", self.tolerance, "at least 0")
        require(self.reductions >= 0, "reductions", self.reductions, "at least 0")
        require(self.elbo_samples >= 1, "elbo_samples", self.elbo_samples, "at least 1")


class Fit(NamedTuple):
    """What was fitted to B images.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    >>> fit = stochastic_variational_inference(model, torch.zeros(3, 1, 28, 28), settings=SVISettings(max_steps=2))
    >>> fit.posterior.mean.shape, fit.steps.tolist()
    (torch.Size([3, 2]), [2, 2, 2])
    """

    posterior: Distribution
    """q(z), an Independent Normal: batch shape `(B,)`, event shape `(D,)`."""
    elbo: Tensor
    """ELBO of the observed pixels, `(B,)` nats, with noise that the fit has not seen."""
    steps: Tensor
    """How many steps each image took, int64 `(B,)`."""


def stochastic_variational_inference(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None = None,
    mask: Tensor | None = None,
    settings: SVISettings | None = None,
    source: torch.Generator | None = None,
    max_batch: int = 4000,
) -> Fit:
    """Fit q(z) to p(z | observed pixels, y) of each image, holding about `max_batch` decoded images at a time.

    The model's weights get no gradient and stay as they are. Works under `torch.no_grad` and `torch.inference_mode` too.

    Args:
        x: images `(B, *event)`; what stands in unseen pixels has no effect.
        y: labels `(B,)` of a conditional model; ignored by others.
        mask: bool, `event` or `(B, *event)`, True where observed; None: everywhere.
        settings: `DEFAULT` if None; `ORIGINAL` for the numbers of xwinxu/variational-mnist.
        source: generator on the device of `x`; one of a fixed seed if None.

    Raises:
        ConfigurationError: the images or the labels are not the model's.
        NotImplementedError: the model's pixels are not independent given z.
    """
    require_images(model, x, y, mask)
    settings = settings or DEFAULT
    source = source or generator(0, "svi", device=x.device)
    state = source.get_state()
    fits = []
    with torch.inference_mode(False), torch.enable_grad():
        images = Observed.of(x, y, mask)
        for rows in torch.arange(len(x), device=x.device).split(rows_at_once(max_batch, settings.num_samples)):
            source.set_state(state)
            fits.append(_fit(model, images.take(rows), settings, source, max_batch))
    parameters, elbo, steps = (torch.cat(parts) for parts in zip(*fits, strict=True))
    return Fit(_posterior(parameters), elbo, steps)


@torch.no_grad()
def complete(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None,
    mask: Tensor,
    posterior: Distribution,
    num_samples: int,
    source: torch.Generator,
    max_batch: int = 4000,
) -> Tensor:
    """Images `(K, B, *event)`: the observed pixels of `x`, and for the others the means decoded from K samples of `posterior`.

    Args:
        x: images `(B, *event)`.
        y: labels `(B,)` of a conditional model; ignored by others.
        mask: bool, `event` or `(B, *event)`, True where observed.
        posterior: a diagonal Gaussian, batch shape `(B,)`, event shape `(D,)`.
        source: generator on the device of `x`.
    """
    require(num_samples >= 1, "num_samples", num_samples, "at least 1")
    loc = posterior.mean
    z = from_noise(posterior, torch.randn(num_samples, *loc.shape, generator=source, device=loc.device, dtype=loc.dtype))
    means = over_chunks(lambda chunk: model.likelihood(chunk, y).mean, z, size=rows_at_once(max_batch, len(x)))
    return torch.where(mask.to(x.device), x, means)


# ---- a fit


def _fit(
    model: LatentVariableModel, images: Observed, settings: SVISettings, source: torch.Generator, max_batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters `(B, 2, D)`, ELBO and steps `(B,)`."""
    parameters = STARTS[settings.start](model, images, source, max_batch).detach().clone()
    optimizer = OPTIMIZERS[settings.optimizer](parameters)
    plateau = _Plateau(parameters, settings)
    # drawn first: how many draws the steps take depends on all images
    fresh = _noise(settings.elbo_samples, parameters, source)
    going, remaining = torch.arange(len(parameters), device=parameters.device), images
    steps = torch.zeros_like(going)
    for step in range(1, settings.max_steps + 1):
        current = parameters[going].requires_grad_()
        elbo = _elbo(model, remaining, current, _noise(settings.num_samples, current, source))
        (gradient,) = torch.autograd.grad(elbo.sum(), current)
        rate = plateau.rate[going].unsqueeze(-1).unsqueeze(-1)
        parameters[going] += rate * optimizer.direction(gradient, going, step)
        steps[going] = step
        if plateau.judge(elbo.detach(), going, step):
            going = going[~plateau.stopped[going]]
            if not len(going):
                break
            remaining = images.take(going)
    x, y, mask = images
    bound = mean_elbo(model, _posterior(parameters), fresh, x, y, mask, max_batch)
    return parameters, bound.to(parameters.dtype), steps


def _posterior(parameters: Tensor) -> Distribution:
    loc, log_scale = parameters.unbind(-2)
    return Independent(Normal(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)


def _noise(count: int, parameters: Tensor, source: torch.Generator) -> Tensor:
    """`(K, 1, D)`: the same for all images."""
    shape = (count, 1, parameters.shape[-1])
    return torch.randn(shape, generator=source, device=parameters.device, dtype=parameters.dtype)


def _elbo(model: LatentVariableModel, images: Observed, parameters: Tensor, noise: Tensor) -> Tensor:
    """`(B,)` nats."""
    loc, log_scale = parameters.unbind(-2)
    z = loc + log_scale.exp() * noise
    return bound_at(model, _posterior(parameters), z, images.x, images.y, images.mask).elbo


# ---- where it starts


def _start(loc: Tensor, scale: Tensor, count: int) -> Tensor:
    return torch.stack([loc, scale.expand_as(loc).log()], dim=-2).expand(count, 2, loc.shape[-1])


@torch.no_grad()
def _from_draws(model: LatentVariableModel, images: Observed, source: torch.Generator, max_batch: int) -> Tensor:
    prior = model.prior(images.y)
    scale = prior.stddev
    z = from_noise(prior, torch.randn(DRAWS, 1, scale.shape[-1], generator=source, device=scale.device, dtype=scale.dtype))
    guess = model.posterior(images.x, images.y).mean.unsqueeze(0)
    candidates = (z, guess)
    joint = torch.cat([log_joint(model, latents, images.x, images.y, images.mask, max_batch) for latents in candidates])
    z = torch.cat([latents.expand(-1, len(images.x), -1) for latents in candidates])
    best = joint.argmax(0).view(1, -1, 1).expand(1, -1, z.shape[-1])
    return _start(z.gather(0, best).squeeze(0), 0.1 * scale, len(images.x))


def _from_prior(model: LatentVariableModel, images: Observed, source: torch.Generator, max_batch: int) -> Tensor:
    prior = model.prior(images.y)
    return _start(prior.mean, prior.stddev, len(images.x))


def _from_encoder(model: LatentVariableModel, images: Observed, source: torch.Generator, max_batch: int) -> Tensor:
    posterior = model.posterior(images.x, images.y)
    return _start(posterior.mean, posterior.stddev, len(images.x))


STARTS: dict[str, Callable[[LatentVariableModel, Observed, torch.Generator, int], Tensor]] = {
    "draws": _from_draws,
    "prior": _from_prior,
    "encoder": _from_encoder,
}


# ---- how it climbs


class _Ascent:
    """Plain gradient ascent."""

    def __init__(self, parameters: Tensor) -> None:
        self.mean = torch.zeros_like(parameters)
        self.square = torch.zeros_like(parameters)

    def direction(self, gradient: Tensor, rows: Tensor, step: int) -> Tensor:
        return gradient


class _Adam(_Ascent):
    """Adam with its usual constants; every image has moments of its own."""

    def direction(self, gradient: Tensor, rows: Tensor, step: int) -> Tensor:
        self.mean[rows] = mean = self.mean[rows].lerp(gradient, 0.1)
        self.square[rows] = square = self.square[rows].lerp(gradient.square(), 0.001)
        return mean / (1 - 0.9**step) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)


OPTIMIZERS: dict[str, type[_Ascent]] = {"sgd": _Ascent, "adam": _Adam}


class _Plateau:
    """Each image's learning rate, and whether it has stopped."""

    def __init__(self, parameters: Tensor, settings: SVISettings) -> None:
        self.settings = settings
        self.rate = torch.full_like(parameters[:, 0, 0], settings.learning_rate)
        self.total = torch.zeros_like(self.rate)
        self.best = torch.full_like(self.rate, -math.inf)
        self.failures = torch.zeros_like(self.rate, dtype=torch.int64)

    @property
    def stopped(self) -> Tensor:
        return self.failures > self.settings.reductions

    def judge(self, elbo: Tensor, rows: Tensor, step: int) -> bool:
        """Take in the ELBO `(B,)` of the images `rows`; whether some of them have stopped now."""
        patience = self.settings.patience
        if patience is None:
            return False
        self.total[rows] += elbo / patience
        if step % patience:
            return False
        # a NaN is not better either
        better = self.total[rows] > self.best[rows] + self.settings.tolerance
        self.best[rows] = torch.fmax(self.best[rows], self.total[rows])
        self.total[rows] = 0
        self.rate[rows] *= torch.where(better, 1.0, 0.1)
        self.failures[rows] += ~better
        return bool(self.stopped[rows].any())


DEFAULT = SVISettings()

QUICK = SVISettings(max_steps=100, num_samples=5)
"""A fifth of the time, for fits that are only a proposal of importance sampling."""

ORIGINAL = SVISettings("sgd", learning_rate=0.001, max_steps=2500, num_samples=100, start="prior", patience=None)
"""The settings of xwinxu/variational-mnist (https://github.com/xwinxu/variational-mnist)."""
