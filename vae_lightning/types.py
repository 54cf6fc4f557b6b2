"""The protocols of models, nets and data that a user may bring, and the records that the packages pass to each other.

Shapes: `B` images, `K` samples an image, `D` latent dimensions; an image has shape `(C, H, W)`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.noise import Source

__all__ = [
    "MNIST_CLASSES",
    "MNIST_SHAPE",
    "UNLABELLED",
    "Batch",
    "Decoder",
    "Draw",
    "Encoder",
    "Estimate",
    "ImageData",
    "LatentVariableModel",
    "Noise",
    "Resampled",
    "Terms",
]

MNIST_SHAPE = (1, 28, 28)
"""Channels, height and width of MNIST's images: the default of a constructor's argument, as data say their own shape."""
MNIST_CLASSES = 10
"""The number of digits: the default of a constructor's argument, as data say how many classes they have."""
UNLABELLED = -1
"""Stands in place of the label of a training image that has none."""


@runtime_checkable
class LatentVariableModel(Protocol):
    r"""$p(x, z \mid y) = p(z \mid y)\, p(x \mid z, y)$ with an approximate posterior $q(z \mid x, y)$.

    `inference`, `evaluation` and `figures` know nothing else about a model, so whatever has these members is
    evaluated like the project's own models. Unconditional models ignore `y`.

    >>> from vae_lightning import VAE
    >>> isinstance(VAE(net={"name": "mlp", "hidden": [4]}), LatentVariableModel)
    True
    """

    latent_dim: int

    def prior(self, y: Tensor | None = None) -> Distribution:
        """$p(z | y)$: event shape `(D,)`, batch shape `()` or `(B,)`."""
        ...

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """$q(z | x, y)$ of images `x` `(B, *event)`: batch shape `(B,)`, event shape `(D,)`."""
        ...

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        """$p(x | z, y)$ of latents `z` `(*, B, D)`: batch shape `(*, B)`, event shape that of one image."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Images to what a posterior is made of; any `torch.nn.Module` with this `forward` will do.

    >>> import torch
    >>> from vae_lightning.nets.mlp import MLPEncoder
    >>> encoder = MLPEncoder(latent_dim=2, num_classes=0, image_shape=(1, 4, 4), hidden=[8])
    >>> isinstance(encoder, Encoder), [tuple(head.shape) for head in encoder(torch.zeros(3, 1, 4, 4))]
    (True, [(3, 2), (3, 2)])
    """

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, `(B, D)` each, of images `(B, C, H, W)`; `y` one-hot `(B, num_classes)` in a conditional model.

        An unconditional model calls `encoder(x)`, so an encoder for such models need not take `y`.
        """
        ...


@runtime_checkable
class Decoder(Protocol):
    """Latents to what a likelihood is made of; any `torch.nn.Module` with this `forward` will do.

    >>> import torch
    >>> from vae_lightning.nets.mlp import MLPDecoder
    >>> decoder = MLPDecoder(latent_dim=2, num_classes=0, image_shape=(1, 4, 4), hidden=[8])
    >>> isinstance(decoder, Decoder), decoder(torch.zeros(3, 2)).shape
    (True, torch.Size([3, 1, 4, 4]))
    """

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters `(B, outputs * C, H, W)` of the likelihood of latents `(B, D)`; `y` as of an `Encoder`.

        `outputs` is the likelihood's: numbers that describe a pixel of one channel.
        """
        ...


@runtime_checkable
class ImageData(Protocol):
    """A `LightningDataModule` whose images can be evaluated and drawn.

    Its batches are pairs `(x, y)`: images float32 in [0, 1], `(B, C, H, W)`, and labels int64 `(B,)`, zeros if there are none.

    >>> from vae_lightning import MNISTDataModule
    >>> isinstance(MNISTDataModule("data"), ImageData), MNISTDataModule("data").image_shape
    (True, (1, 28, 28))
    """

    image_shape: tuple[int, int, int]
    """Channels (1 or 3), height and width."""
    num_classes: int
    """How many classes the labels have; 0: there are no labels."""
    label_names: tuple[str, ...]
    """What each class is called, `num_classes` of them."""

    def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        """Images and labels as in a batch of "train", "val" or "test", always the same: all, or some at equal distances."""
        ...


class Batch(NamedTuple):
    """A batch as the data loader yields it, before binarization.

    >>> import torch
    >>> images = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
    >>> Batch(images, torch.zeros(8, dtype=torch.int64), Source.of(images, "example")).source.places.shape
    torch.Size([8])
    """

    images: Tensor
    """Grey levels, uint8 `(B, C, H, W)`."""
    labels: Tensor
    """Classes, int64 `(B,)`."""
    source: Source | None
    """Where the noise of augmentation and binarization comes from; None if the images are binarized already."""


class Noise(NamedTuple):
    """All random numbers of one training step, which is a pure function of them, parameters and images.

    >>> import torch
    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, num_samples=5, net={"name": "mlp", "hidden": [4], "dropout": 0.5})
    >>> x = torch.zeros(8, 1, 28, 28)
    >>> noise = model.draw_noise(x, Source.of(x, "example"))
    >>> noise.posterior.shape, [tuple(uniform.shape) for uniform in noise.dropout]
    (torch.Size([5, 8, 2]), [(8, 4), (40, 4)])
    """

    posterior: Tensor
    """Standard normal `(K, B, D)`; empty for a classifier."""
    dropout: tuple[Tensor, ...] = ()
    """Uniform on [0, 1), a tensor `(B, *features)` for each dropout layer in order; empty: dropout is off."""
    resampling: Tensor | None = None
    """Uniform on [0, 1), `(B,)`, where samples are drawn anew by their weights for `Draw.resampled`."""


class Draw(NamedTuple):
    """One pass of images through a latent-variable model.

    >>> import torch
    >>> from vae_lightning import VAE
    >>> draw = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]})(torch.zeros(8, 1, 28, 28))
    >>> draw.z.shape, draw.posterior.batch_shape, draw.likelihood.batch_shape
    (torch.Size([1, 8, 2]), torch.Size([8]), torch.Size([1, 8]))
    """

    posterior: Distribution
    """$q(z | x, y)$, batch shape `(B,)`."""
    prior: Distribution
    """$p(z | y)$, batch shape `()` or `(B,)`."""
    z: Tensor
    """Reparameterised samples of the posterior, `(K, B, D)`."""
    likelihood: Distribution
    """$p(x | z, y)$, batch shape `(K, B)`."""
    resampled: "Resampled | None" = None
    """A few of the samples, for the gradient to be computed through."""
    known: tuple[Distribution, Tensor, Tensor] | None = None
    """A likelihood, images, and log p(x | z, y) of these by it, `(K, B)` nats, if it has been computed already."""


class Resampled(NamedTuple):
    """`M` samples, drawn with replacement from the K of a `Draw` by their importance weights.

    >>> import torch
    >>> from vae_lightning import VAE
    >>> objective = {"name": "iwae", "gradient_samples": 2}
    >>> model, x = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, objective=objective), torch.zeros(8, 1, 28, 28)
    >>> model(x, noise=model.draw_noise(x, Source.of(x, "example"))).resampled.places.shape
    torch.Size([2, 8])
    """

    draw: Draw
    """A draw of the posterior and prior that the K samples are of, with `M` samples."""
    places: Tensor
    """Places of the samples among the K, `(M, B)`."""
    probability: Tensor
    """Probability with which each sample was drawn, `(M, B)`: its share of the weights."""


class Terms(NamedTuple):
    """The terms of `B` images that an objective is computed from.

    >>> import torch
    >>> from vae_lightning import VAE
    >>> model, x = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}), torch.zeros(8, 1, 28, 28)
    >>> terms = model.objective_terms(model(x), x, step=torch.tensor(0.0))
    >>> torch.equal(model.objective(terms), terms.log_likelihood - terms.kl)
    True
    """

    draw: Draw
    """The pass of the images through the model."""
    x: Tensor
    """The images, `(B, C, H, W)`."""
    log_likelihood: Tensor
    """Mean of log p(x | z, y) over the K samples, `(B,)` nats."""
    kl: Tensor
    """KL(q(z | x, y) || p(z | y)), `(B,)` nats."""
    kl_weight: Tensor
    """The factor of warm-up on the KL's weight at this step, `()`."""
    step: Tensor
    """The number of the optimizer step, `()`, float32."""


@dataclass(frozen=True)
class Estimate:
    """A number that can be published, with its error and all else that is needed to judge the number.

    >>> Estimate(-100.0, 0.3, num_images=10_000, num_samples=1, binarization="dynamic", estimator="lower bound of log p(x)").value
    -100.0
    """

    value: float
    """Mean over the images (nats per image; a fraction for accuracies)."""
    standard_error: float
    """Standard error of that mean over images."""
    num_images: int
    """How many images the value is the mean of."""
    num_samples: int
    """K, latent samples an image; 0 where nothing is sampled."""
    binarization: str
    """How the images were binarized; estimates of different binarizations are not comparable."""
    estimator: str
    """The method of estimation, in words."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the estimator, plain values by name."""
    seconds: float = math.nan
    """Wall time of the computation; estimates that come out of one computation each have its whole time."""
    section: str = ""
    """The heading under which a report shows the estimate; empty: the heading of the part that measured it."""
    seed: int | None = None
    """The seed of the noise in the estimation; None if unknown."""
    measured: str = ""
    """The time of the evaluation, in UTC by ISO 8601, as a report may hold estimates of several evaluations."""
