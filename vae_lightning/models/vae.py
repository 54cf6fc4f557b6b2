r"""Variational autoencoders: one latent-variable model, four objectives.

$q(z \mid x) = N(\mu(x), \mathrm{diag}\, \sigma^2(x))$ or another of `distributions.posteriors`, $p(z) = N(0, I)$ or
another of `distributions.priors`, $p(x \mid z)$ by likelihood; the objectives and their sources are in `objectives.bounds`. All
figures are nats per image.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.arguments import build, require
from vae_lightning.distributions.likelihoods import LIKELIHOODS, full_precision
from vae_lightning.distributions.posteriors import POSTERIORS, DiagonalPosterior
from vae_lightning.distributions.priors import PRIORS
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.models.base import Module, named
from vae_lightning.nets import DECODERS, ENCODERS
from vae_lightning.noise import generator
from vae_lightning.objectives.bounds import (
    LinearWarmup,
    beta_objective,
    capacity_objective,
    doubly_reparameterised,
    elbo,
    iwae_bound,
    kl,
    log_weights,
    mean_log_likelihood,
)
from vae_lightning.types import NUM_PIXELS, Draw, Noise

__all__ = ["IWAE", "VAE", "BetaVAE", "CapacityVAE"]


class VAE(Module):
    """The variational autoencoder (Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114).

    Args:
        latent_dim: D.
        net: encoder and decoder, `{"name": "mlp" | "cnn2" | "cnn3", ...}`.
        likelihood: `{"name": "bernoulli" | "gaussian" | "continuous_bernoulli", ...}`.
        num_samples: K, posterior samples an image in training.
        num_classes: number of classes whose labels condition encoder and decoder; 0: unconditional.
        kl_warmup_steps: optimizer steps over which the weight of the KL grows from 0 to 1.
        start_from_mean: start the decoder's output bias from the mean training image.
        prior: `{"name": "standard" | "mog" | "vamp" | "class", ...}`.
        posterior: `{"name": "diagonal" | "iaf", ...}`.
    """

    monitor: ClassVar[str] = "val/elbo"
    monitor_mode: ClassVar[str] = "max"
    numbers: ClassVar[tuple[str, ...]] = ("kl_weight.start", "kl_weight.end", "kl_weight.steps")
    bound_samples: int = 1
    """K in validation and test."""

    def __init__(
        self,
        latent_dim: int = 20,
        net: str | Mapping[str, Any] = "mlp",
        likelihood: str | Mapping[str, Any] = "bernoulli",
        num_samples: int = 1,
        num_classes: int = 0,
        kl_warmup_steps: int = 0,
        start_from_mean: bool = False,
        optimizer: str | Mapping[str, Any] = "adam",
        lr_schedule: str | Mapping[str, Any] = "constant",
        seed: int = 0,
        prior: str | Mapping[str, Any] = "standard",
        posterior: str | Mapping[str, Any] = "diagonal",
    ) -> None:
        super().__init__(optimizer, lr_schedule, seed)
        self.keep_hyperparameters(locals())
        require(latent_dim >= 1, "model.latent_dim", latent_dim, "at least 1")
        require(num_samples >= 1, "model.num_samples", num_samples, "at least 1")
        require(num_classes >= 0, "model.num_classes", num_classes, "at least 0")
        require(kl_warmup_steps >= 0, "model.kl_warmup_steps", kl_warmup_steps, "at least 0")
        self.latent_dim, self.num_samples, self.num_classes = latent_dim, num_samples, num_classes
        self.start_from_mean = start_from_mean
        self.kl_weight = LinearWarmup(steps=kl_warmup_steps)
        self.posterior_of = build("model.posterior", named(posterior), POSTERIORS, latent_dim)
        self.encoder = build("model.net", named(net), ENCODERS, latent_dim + self.posterior_of.extra, num_classes)
        self.decoder = build("model.net", named(net), DECODERS, latent_dim, num_classes)
        self.likelihood_of = build("model.likelihood", named(likelihood), LIKELIHOODS)
        self.prior_of = build("model.prior", named(prior), PRIORS, latent_dim, num_classes)
        possible = self.has_gaussian_posterior or not self.prior_of.mixes_posteriors
        require(possible, "model.prior.name", named(prior)["name"], "another unless model.posterior.name=diagonal")
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)
        self.origin: Tensor
        self._has_weights = False
        self.register_load_state_dict_post_hook(_note_weights)  # type: ignore[no-untyped-call]

    # ---- the latent-variable model

    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z), or p(z | y): event shape `(D,)`, batch shape `()`, or `(B,)` if it depends on the labels `(B,)`."""
        prior: Distribution = self.prior_of(y, self.posterior)
        return prior

    def posterior(self, x: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        """q(z | x, y) of images `(B, 1, 28, 28)` and labels `(B,)`."""
        loc, log_variance = self.encoder(x.to(self.origin.dtype), self.one_hot(y), dropout)
        posterior: Distribution = self.posterior_of(full_precision(loc), full_precision(log_variance))
        return posterior

    @property
    def has_gaussian_posterior(self) -> bool:
        """Whether q(z | x, y) is a diagonal Gaussian."""
        return isinstance(self.posterior_of, DiagonalPosterior)

    def likelihood(self, z: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        """p(x | z, y) of latents `(*, B, D)` and labels `(B,)`: batch shape `(*, B)`."""
        rows = z.reshape(-1, z.shape[-1])
        label = self.one_hot(y)
        if label is not None:
            label = label.expand(*z.shape[:-1], -1).reshape(rows.shape[0], -1)
        logits = self.decoder(rows.to(self.origin.dtype), label, dropout)
        return self.likelihood_of.forward(logits.reshape(*z.shape[:-1], *logits.shape[1:]))

    def one_hot(self, y: Tensor | None) -> Tensor | None:
        """Labels `(B,)` as `(B, C)`, NaN for a label that no class has; None for an unconditional model, which ignores them."""
        if not self.num_classes:
            return None
        if y is None:
            raise ValueError(f"y: this model is conditional and needs a label from 0 to {self.num_classes - 1} an image")
        label = (y.unsqueeze(-1) == torch.arange(self.num_classes, device=y.device)).to(self.origin.dtype)
        return label.masked_fill(((y < 0) | (y >= self.num_classes)).unsqueeze(-1), math.nan)

    # ---- a step

    def draw_noise(self, x: Tensor, *key: int | str, training: bool = True) -> Noise:
        samples = self.num_samples if training else self.bound_samples
        batch = x.shape[0]
        # figures of an evaluation must not depend on the device, so their noise is drawn on the CPU
        device = x.device if training else torch.device("cpu")
        source = generator(*key, "posterior", device=device)
        # noise and pixels stay float32 whatever the precision of the weights: bfloat16 has three digits
        posterior = torch.randn(samples, batch, self.latent_dim, generator=source, device=device, dtype=torch.float32).to(x.device)
        layers = [(batch, f) for f in self.encoder.dropout_features]
        layers += [(samples * batch, f) for f in self.decoder.dropout_features]
        return Noise(posterior, self._uniforms(x, layers, *key) if training and layers else ())

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Draw:
        """Posterior, prior, reparameterised samples and likelihood; fresh noise of one sample an image if none is given."""
        dropout = iter(noise.dropout) if noise and noise.dropout else None
        posterior = self.posterior(x, y, dropout)
        epsilon = noise.posterior if noise else torch.randn_like(posterior.mean).unsqueeze(0)
        z = from_noise(posterior, epsilon)
        return Draw(posterior, self.prior(y), z, self.likelihood(z, y, dropout))

    def terms(self, output: Draw, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        log_likelihood, divergence = mean_log_likelihood(output, x), kl(output)
        objective = self.objective(log_likelihood, divergence, step)
        return {
            "loss": -objective,
            "elbo": elbo(log_likelihood, divergence),
            "log_likelihood": log_likelihood,
            "kl": divergence,
        }

    def objective(self, log_likelihood: Tensor, kl: Tensor, step: Tensor) -> Tensor:
        """What is maximised, `(B,)` nats, at optimizer step `step`."""
        return beta_objective(log_likelihood, kl, self.kl_weight(step))

    def on_fit_start(self) -> None:
        if self._has_weights:
            return
        data = getattr(self.trainer, "datamodule", None)
        if self.start_from_mean:
            mean_image = getattr(data, "mean_image", None)
            require(mean_image is not None, "model.start_from_mean", True, "false with a data module that has no mean_image()")
            assert mean_image is not None
            self.decoder.start_from_mean(mean_image().to(self.device))
        if self.prior_of.num_images:
            images = getattr(data, "evaluation_images", None)
            require(images is not None, "model.prior.init", "images", "normal with a data module that has no evaluation_images()")
            assert images is not None
            self.prior_of.start_from(images("train", self.prior_of.num_images)[0].to(self.device))

    def on_train_start(self) -> None:
        super().on_train_start()
        self._has_weights = True

    # ---- what one does with a trained model

    @torch.no_grad()
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Posterior means `(B, D)` of images `(B, 1, 28, 28)`."""
        return self.posterior(x, y).mean

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean images `(*, B, 1, 28, 28)` in [0, 1] of latents `(*, B, D)`."""
        return self.likelihood(z, y).mean

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean images decoded from the posterior means, `(B, 1, 28, 28)`."""
        return self.decode(self.encode(x, y), y)

    @torch.no_grad()
    def sample(self, count: int, y: Tensor | None = None, source: torch.Generator | None = None) -> Tensor:
        """Mean images `(count, 1, 28, 28)` of prior samples; `y` `(count,)` for a conditional model."""
        if self.num_classes and y is not None and not bool(((y >= 0) & (y < self.num_classes)).all()):
            raise ValueError(f"y: labels must be from 0 to {self.num_classes - 1}")
        prior = self.prior(y)
        epsilon = torch.randn(count, self.latent_dim, generator=source, device=self.origin.device)
        return self.decode(from_noise(prior, epsilon), y)

    def interpolate(self, start: Tensor, end: Tensor, steps: int = 10, y: Tensor | None = None) -> Tensor:
        """Mean images `(steps, 1, 28, 28)` at equal steps between the latents `start` and `end`, each `(D,)`."""
        weight = torch.linspace(0, 1, steps, device=start.device).unsqueeze(-1)
        return self.decode((1 - weight) * start + weight * end, y)


def _note_weights(model: VAE, _: Any) -> None:
    """Weights that were loaded are not to be replaced by those that a training starts from."""
    model._has_weights = True


class BetaVAE(VAE):
    r"""The KL weighted by `beta` (Higgins et al., 2017, https://openreview.net/forum?id=Sy2fzU9gl).

    Args beside those of `VAE`:
        beta: weight of the KL in nats per image; 1 is the VAE.
        normalized: read `beta` as the paper's $\beta_{norm} = \beta D / 784$, so that it compares across latent sizes.
    """

    numbers: ClassVar[tuple[str, ...]] = (*VAE.numbers, "beta")

    def __init__(self, beta: float = 4.0, normalized: bool = False, **vae: Any) -> None:
        super().__init__(**vae)
        self.keep_hyperparameters({"beta": beta, "normalized": normalized})
        require(beta >= 0, "model.beta", beta, "at least 0")
        self.beta = beta * NUM_PIXELS / self.latent_dim if normalized else beta

    def objective(self, log_likelihood: Tensor, kl: Tensor, step: Tensor) -> Tensor:
        return beta_objective(log_likelihood, kl, self.beta * self.kl_weight(step))


class CapacityVAE(VAE):
    """The KL drawn to a capacity that grows during training (Burgess et al., 2018, https://arxiv.org/abs/1804.03599).

    Where the KL has no closed form, an image's is estimated from `num_samples` samples, and what that estimate is off by counts
    as distance from the capacity: take several.

    Args beside those of `VAE`:
        gamma: force that draws each image's KL to the capacity.
        capacity_max: the final capacity, nats.
        capacity_steps: optimizer steps over which the capacity grows linearly from 0.
    """

    numbers: ClassVar[tuple[str, ...]] = (*VAE.numbers, "gamma", "capacity.start", "capacity.end", "capacity.steps")

    def __init__(self, gamma: float = 1000.0, capacity_max: float = 25.0, capacity_steps: int = 100_000, **vae: Any) -> None:
        super().__init__(**vae)
        self.keep_hyperparameters({"gamma": gamma, "capacity_max": capacity_max, "capacity_steps": capacity_steps})
        require(gamma >= 0, "model.gamma", gamma, "at least 0")
        require(capacity_max >= 0, "model.capacity_max", capacity_max, "at least 0")
        require(capacity_steps >= 1, "model.capacity_steps", capacity_steps, "at least 1")
        self.gamma, self.capacity = gamma, LinearWarmup(end=capacity_max, steps=capacity_steps)

    def objective(self, log_likelihood: Tensor, kl: Tensor, step: Tensor) -> Tensor:
        return capacity_objective(log_likelihood, kl, self.gamma * self.kl_weight(step), self.capacity(step))


class IWAE(VAE):
    """The importance-weighted bound on K samples (Burda et al., 2016, https://arxiv.org/abs/1509.00519).

    Its checkpoints are judged by the bound it maximises, not by the ELBO, which it may well give up.

    Args beside those of `VAE`:
        num_samples: K.
        doubly_reparameterised: use the lower-variance gradient (Tucker et al., 2019, https://arxiv.org/abs/1810.04152); for
            Gaussian posteriors.
    """

    monitor: ClassVar[str] = "val/iwae_bound"

    def __init__(self, num_samples: int = 5, doubly_reparameterised: bool = False, **vae: Any) -> None:
        super().__init__(num_samples=num_samples, **vae)
        self.keep_hyperparameters({"doubly_reparameterised": doubly_reparameterised})
        possible = not doubly_reparameterised or self.has_gaussian_posterior
        require(possible, "model.doubly_reparameterised", True, "false unless model.posterior.name=diagonal")
        self.doubly_reparameterised = doubly_reparameterised
        self.bound_samples = num_samples

    def terms(self, output: Draw, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        terms = super().terms(output, x, y, step)
        beta = self.kl_weight(step)
        weights = log_weights(output, x, beta, fixed_density=self.doubly_reparameterised)
        bound = iwae_bound(weights)
        surrogate = doubly_reparameterised(weights, output.z, beta) if self.doubly_reparameterised else bound
        # the surrogate's value means nothing: show the bound, keep the surrogate's gradient
        loss = -(surrogate + (bound - surrogate).detach())
        return {**terms, "loss": loss, "iwae_bound": iwae_bound(log_weights(output, x)).detach()}
