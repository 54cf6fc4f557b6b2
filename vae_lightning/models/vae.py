r"""The variational autoencoder: net x likelihood x prior x posterior x objective, each chosen for itself.

$q(z \mid x) = N(\mu(x), \mathrm{diag}\, \sigma^2(x))$ or another of `distributions.posteriors`, $p(z) = N(0, I)$ or another of
`distributions.priors`, $p(x \mid z)$ of `distributions.likelihoods`, maximised by one of `objectives.goals`. All terms are nats per
image.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vae_lightning.arguments import require
from vae_lightning.distributions.likelihoods import LIKELIHOODS, Likelihood, full_precision
from vae_lightning.distributions.posteriors import POSTERIORS, Posterior
from vae_lightning.distributions.priors import PRIORS, Prior
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError
from vae_lightning.models.base import Module, named
from vae_lightning.models.parts import built_part, require_begun, require_distribution, require_per_image
from vae_lightning.nets import build_decoder, build_encoder, decoded, dropout_features, dropout_noise, encoded
from vae_lightning.noise import Source
from vae_lightning.objectives.bounds import LinearWarmup, elbo, kl, log_likelihood, log_weights, systematic_resampling
from vae_lightning.objectives.goals import OBJECTIVES, Objective
from vae_lightning.types import MNIST_CLASSES, MNIST_SHAPE, Draw, Noise, Resampled, Terms

__all__ = ["VAE", "Spec"]

INCONSTANT = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Layers that compute otherwise in each pass of a training step."""
Spec = str | Mapping[str, Any]
"""`"mlp"`, or `{"name": "mlp", ...}` with arguments of what it names; a name with a dot is an import path."""


class VAE(Module):
    """The variational autoencoder (Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114).

    Every spec is a name, or `{"name": ..., **arguments}`; a name with a dot is the import path of one's own.

    Args:
        latent_dim: D.
        net: encoder and decoder, a spec of `nets.NETS`: `{"name": "mlp" | "gated_mlp" | "cnn2" | "cnn3" | "resnet", ...}`.
        likelihood: a spec of `LIKELIHOODS`: `{"name": "bernoulli" | "gaussian" | ..., ...}`.
        num_samples: K, posterior samples an image in training; None: the objective's own, 1 unless it is a bound of K samples.
        num_classes: number of classes whose labels condition encoder and decoder; 0: unconditional; None: as many as
            MNIST has. The commands give the data's for None.
        kl_warmup_steps: optimizer steps over which the weight of the KL grows from 0 to 1.
        start_from_mean: start the decoder's output bias from the mean training image.
        prior: a spec of `PRIORS`: `{"name": "standard" | "mog" | "vamp" | "class", ...}`.
        posterior: a spec of `POSTERIORS`: `{"name": "diagonal" | "iaf", ...}`.
        objective: a spec of `OBJECTIVES`: `{"name": "elbo" | "beta" | "capacity" | "iwae" | "dreg" | "miwae" | "piwae" |
            "ciwae", ...}`.
        encoder, decoder: instead of the net's, a spec or a module: `encoder(x)` gives the mean and the log-variance of q(z | x),
            `(B, D)` each, `decoder(z)` the likelihood's parameters, `(B, outputs * C, H, W)`; in a conditional model
            `encoder(x, y)` and `decoder(z, y)`, y one-hot `(B, num_classes)`.
        image_shape: of one image, `(C, H, W)`; None: MNIST's. The commands give that of the data.

    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, likelihood="gaussian", image_shape=(3, 8, 8))
    >>> x = torch.rand(4, 3, 8, 8)
    >>> model.encode(x).shape, model.reconstruct(x).shape
    (torch.Size([4, 2]), torch.Size([4, 3, 8, 8]))
    """

    monitor_mode: ClassVar[str] = "max"
    numbers: ClassVar[tuple[str, ...]] = ("kl_weight.start", "kl_weight.end", "kl_weight.steps")
    bound_samples: int = 1
    """K in validation and test."""

    def __init__(
        self,
        latent_dim: int = 20,
        net: Spec = "mlp",
        likelihood: Spec = "bernoulli",
        num_samples: int | None = None,
        num_classes: int | None = 0,
        kl_warmup_steps: int = 0,
        start_from_mean: bool = False,
        optimizer: Spec = "adam",
        lr_schedule: Spec = "constant",
        seed: int = 0,
        prior: Spec = "standard",
        posterior: Spec = "diagonal",
        objective: Spec = "elbo",
        encoder: Spec | nn.Module | None = None,
        decoder: Spec | nn.Module | None = None,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(optimizer, lr_schedule, seed)
        self.keep_hyperparameters(locals())
        require(latent_dim >= 1, "latent_dim", latent_dim, "at least 1")
        num_classes = self.hparams["num_classes"] = MNIST_CLASSES if num_classes is None else num_classes
        require(num_classes >= 0, "num_classes", num_classes, "at least 0")
        require(kl_warmup_steps >= 0, "kl_warmup_steps", kl_warmup_steps, "at least 0")
        image_shape = self.hparams["image_shape"] = list(MNIST_SHAPE if image_shape is None else image_shape)
        require(len(image_shape) == 3 and min(image_shape) >= 1, "image_shape", image_shape, "channels, height and width")
        self.latent_dim, self.num_classes, self.image_shape = latent_dim, num_classes, tuple(image_shape)
        self.start_from_mean = start_from_mean
        self.kl_weight = LinearWarmup(steps=kl_warmup_steps)
        shared = {"num_classes": num_classes, "image_shape": self.image_shape}
        self.posterior_of = built_part("posterior", posterior, POSTERIORS, Posterior, latent_dim=latent_dim)
        self.likelihood_of = built_part("likelihood", likelihood, LIKELIHOODS, Likelihood, image_shape=self.image_shape)
        features = latent_dim + self.posterior_of.extra
        self.encoder = build_encoder(net, encoder, latent_dim=features, **shared)
        self.decoder = build_decoder(net, decoder, latent_dim=latent_dim, outputs=self.likelihood_of.outputs, **shared)
        for name in ("encoder", "decoder"):
            require_begun(getattr(self, name), name)
        self.prior_of = built_part("prior", prior, PRIORS, Prior, latent_dim=latent_dim, **shared)
        self.objective_of = built_part("objective", objective, OBJECTIVES, Objective, latent_dim=latent_dim, **shared)
        self._require_that_they_fit(named(prior)["name"], named(objective)["name"])
        self.num_samples = self.objective_of.num_samples if num_samples is None else num_samples
        require(self.num_samples >= 1, "num_samples", num_samples, "at least 1")
        bounds = self.objective_of.bounds
        require(
            self.num_samples % bounds == 0, "objective.bounds", bounds, f"a divisor of num_samples, which is {self.num_samples}"
        )
        self._require_gradient_samples(kl_warmup_steps)
        self.hparams["num_samples"] = self.num_samples
        self.bound_samples = self.num_samples if self.objective_of.bounds_by_samples else 1
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)
        self.origin: Tensor
        self._has_weights = False
        self.register_load_state_dict_post_hook(_note_weights)  # type: ignore[no-untyped-call]

    def _require_that_they_fit(self, prior: str, objective: str) -> None:
        """Refuse a prior or an objective that is made for Gaussian posteriors with another one."""
        wanted = "another unless posterior.name=diagonal"
        require(self.has_gaussian_posterior or not self.prior_of.mixes_posteriors, "prior.name", prior, wanted)
        if getattr(self.objective_of, "sticking_the_landing", False):
            wanted = "false unless posterior.name=diagonal"
            require(self.has_gaussian_posterior, "objective.sticking_the_landing", True, wanted)
        require(self.has_gaussian_posterior or not self.objective_of.needs_gaussian_posterior, "objective.name", objective, wanted)

    def _require_gradient_samples(self, kl_warmup_steps: int) -> None:
        count = self.objective_of.gradient_samples
        if not count:
            return
        key = "objective.gradient_samples"
        require(count <= self.num_samples, key, count, f"at most num_samples, which is {self.num_samples}")
        require(self.has_gaussian_posterior, key, count, "0 unless posterior.name=diagonal")
        # the samples are drawn by the weights without warm-up, which in its first steps are of others by orders of magnitude
        require(not kl_warmup_steps, "kl_warmup_steps", kl_warmup_steps, f"0 with {key}")
        # a second pass through these would weigh the samples otherwise than the first one, by which they were drawn
        inconstant = dropout_features(self.decoder) or any(isinstance(layer, INCONSTANT) for layer in self.decoder.modules())
        require(not inconstant, key, count, "0 with dropout or batch normalisation in the decoder")

    @property
    def monitor(self) -> str:  # type: ignore[override]
        """The metric that says which checkpoint is best: the objective's."""
        return f"val/{self.objective_of.metric}"

    # ---- the latent-variable model

    def prior(self, y: Tensor | None = None) -> Distribution:
        """p(z), or p(z | y): event shape `(D,)`, batch shape `()`, or `(B,)` if it depends on the labels `(B,)`."""
        prior = self.prior_of(y, self.posterior)
        batches = ((),) if y is None else ((), y.shape)
        return require_distribution(prior, self.prior_of, "prior", batches, (self.latent_dim,))

    def posterior(self, x: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        """q(z | x, y) of images `(B, C, H, W)` and labels `(B,)`.

        Raises:
            ConfigurationError: the images are of another shape than the model's.
        """
        if x.shape[1:] != self.image_shape:
            wanted = f"(B, {', '.join(map(str, self.image_shape))})"
            raise ConfigurationError(f"x: must be images {wanted}, as the model's image_shape says; it is {tuple(x.shape)}")
        features = self.latent_dim + self.posterior_of.extra
        loc, log_variance = encoded(self.encoder, x.to(self.origin.dtype), self.one_hot(y), dropout, features)
        posterior = self.posterior_of(full_precision(loc), full_precision(log_variance))
        return require_distribution(posterior, self.posterior_of, "posterior", (x.shape[:1],), (self.latent_dim,))

    @property
    def has_gaussian_posterior(self) -> bool:
        """Whether q(z | x, y) is a diagonal Gaussian."""
        return self.posterior_of.gaussian

    def likelihood(self, z: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        """p(x | z, y) of latents `(*, B, D)` and labels `(B,)`: batch shape `(*, B)`."""
        rows = z.reshape(-1, z.shape[-1])
        label = self.one_hot(y)
        if label is not None:
            label = label.expand(*z.shape[:-1], -1).reshape(rows.shape[0], self.num_classes)
        outputs = self.likelihood_of.outputs
        parameters = decoded(self.decoder, rows.to(self.origin.dtype), label, dropout, outputs, self.image_shape)
        likelihood = self.likelihood_of(parameters.reshape(*z.shape[:-1], *parameters.shape[1:]))
        return require_distribution(likelihood, self.likelihood_of, "likelihood", (z.shape[:-1],), self.image_shape)

    def one_hot(self, y: Tensor | None) -> Tensor | None:
        """Labels `(B,)` as `(B, C)`, NaN for a label that no class has; None for an unconditional model, which ignores them."""
        if not self.num_classes:
            return None
        if y is None:
            raise ValueError(f"y: this model is conditional and needs a label from 0 to {self.num_classes - 1} an image")
        label = (y.unsqueeze(-1) == torch.arange(self.num_classes, device=y.device)).to(self.origin.dtype)
        return label.masked_fill(((y < 0) | (y >= self.num_classes)).unsqueeze(-1), math.nan)

    # ---- a step

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        samples = self.num_samples if training else self.bound_samples
        # noise and pixels stay float32 whatever the precision of the weights: bfloat16 has three digits
        posterior = source.normal("posterior", samples, self.latent_dim)
        if not training:
            return Noise(posterior)
        resampling = source.uniform("resampling", ()) if self.objective_of.gradient_samples else None
        return Noise(posterior, self._dropout_noise(source), resampling)

    def _dropout_noise(self, source: Source) -> tuple[Tensor, ...]:
        """Noise of the dropout layers in the order in which they are computed."""
        decoder = dropout_noise(self.decoder, source, "decoder", self.num_samples)
        return dropout_noise(self.encoder, source, "encoder") + decoder

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Draw:
        """Posterior, prior, reparameterised samples and likelihood; fresh noise of one sample an image if none is given."""
        dropout = iter(noise.dropout) if noise and noise.dropout else None
        posterior = self.posterior(x, y, dropout)
        epsilon = noise.posterior if noise else torch.randn_like(posterior.mean).unsqueeze(0)
        z = from_noise(posterior, epsilon)
        draw = Draw(posterior, self.prior(y), z, self.likelihood(z, y, dropout))
        return self._with_resampled(draw, x, y, noise.resampling) if noise and noise.resampling is not None else draw

    def _with_resampled(self, draw: Draw, x: Tensor, y: Tensor | None, uniform: Tensor) -> Draw:
        """`draw` with some of its samples resampled by their weights, from `uniform` `(B,)`."""
        draw = draw._replace(known=(draw.likelihood, x, log_likelihood(draw, x)))
        shares = log_weights(draw, x).detach().softmax(0)
        places = systematic_resampling(shares, uniform, self.objective_of.gradient_samples)
        z = draw.z.gather(0, places.unsqueeze(-1).expand(-1, -1, draw.z.shape[-1]))
        few = Draw(draw.posterior, draw.prior, z, self.likelihood(z, y))
        return draw._replace(resampled=Resampled(few, places, shares.gather(0, places)))

    def terms(self, output: Draw, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        """Loss, ELBO and the ELBO's two parts of images `x` `(B, C, H, W)`, and the objective's own metrics: `(B,)` nats each."""
        terms = self.objective_terms(output, x, step)
        return {
            "loss": -require_per_image(self.objective(terms), self, "objective", len(terms.x)),
            "elbo": elbo(terms.log_likelihood, terms.kl),
            "log_likelihood": terms.log_likelihood,
            "kl": terms.kl,
            **self.objective_of.metrics(terms),
        }

    def objective(self, terms: Terms) -> Tensor:
        """What is maximised, `(B,)` nats: by the model's objective, unless a subclass says it here."""
        return require_per_image(self.objective_of(terms), self.objective_of, "objective", len(terms.x))

    def objective_terms(self, draw: Draw, x: Tensor, step: Tensor) -> Terms:
        """The inputs of the objective at optimizer step `step`."""
        known = log_likelihood(draw, x)  # once, for all that asks for it
        if isinstance(draw, Draw):
            draw = draw._replace(known=(draw.likelihood, x, known))
        return Terms(draw, x, known.mean(0), kl(draw), self.kl_weight(step), step)

    def on_fit_start(self) -> None:
        if self._has_weights:
            return
        data = getattr(self.trainer, "datamodule", None)
        if self.start_from_mean:
            mean_image = getattr(data, "mean_image", None)
            require(mean_image is not None, "start_from_mean", True, "false with a data module that has no mean_image()")
            assert mean_image is not None
            start = getattr(self.decoder, "start_from_mean", None)
            require(start is not None, "start_from_mean", True, "false with a decoder that has no start_from_mean(mean)")
            assert start is not None
            start(mean_image().to(self.device))
        if self.prior_of.num_images:
            images = getattr(data, "evaluation_images", None)
            require(images is not None, "prior.init", "images", "normal with a data module that has no evaluation_images()")
            assert images is not None
            self.prior_of.start_from(images("train", self.prior_of.num_images)[0].to(self.device))

    def on_train_start(self) -> None:
        super().on_train_start()
        self._has_weights = True

    # ---- what one does with a trained model

    @torch.no_grad()
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Posterior means `(B, D)` of images `(B, C, H, W)`."""
        return self.posterior(x, y).mean

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean images `(*, B, C, H, W)` in [0, 1] of latents `(*, B, D)`."""
        return self.likelihood(z, y).mean

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Mean images decoded from the posterior means, `(B, C, H, W)`."""
        return self.decode(self.encode(x, y), y)

    @torch.no_grad()
    def sample(self, count: int, y: Tensor | None = None, source: torch.Generator | None = None) -> Tensor:
        """Mean images `(count, C, H, W)` of prior samples; `y` `(count,)` for a conditional model.

        Raises:
            ConfigurationError: there is not one label of the model's classes for each image.
        """
        if self.num_classes and y is not None:
            fits = isinstance(y, Tensor) and y.shape == (count,) and bool(((y >= 0) & (y < self.num_classes)).all())
            if not fits:
                raise ConfigurationError(f"y: labels must be from 0 to {self.num_classes - 1}, a tensor ({count},)")
        prior = self.prior(y)
        epsilon = torch.randn(count, self.latent_dim, generator=source, device=self.origin.device)
        return self.decode(from_noise(prior, epsilon), y)

    def interpolate(self, start: Tensor, end: Tensor, steps: int = 10, y: Tensor | None = None) -> Tensor:
        """Mean images `(steps, C, H, W)` at equal steps between the latents `start` and `end`, each `(D,)`."""
        weight = torch.linspace(0, 1, steps, device=start.device).unsqueeze(-1)
        return self.decode((1 - weight) * start + weight * end, y)


def _note_weights(model: VAE, _: Any) -> None:
    """Remember that weights were loaded: a training must not replace them by starting values."""
    model._has_weights = True
