r"""Priors over latents, $p(z)$ or $p(z \mid y)$, fixed or learned with the model.

- standard: $N(0, I)$.
- mog: a mixture of K Gaussians, $\sum_k w_k N(\mu_k, \mathrm{diag}\, \sigma_k^2)$.
- vamp: the mean of the posteriors of K learned pseudo-inputs, $\frac1K \sum_k q(z \mid u_k)$. The prior that maximises the
  ELBO is the aggregate posterior, the mean of the posteriors of all training images, which would overfit and take too long
  ("VAE with a VampPrior", Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120).
- class: $p(z \mid y)$, a Gaussian a class.

No KL to a mixture has a closed form; `objectives.bounds.kl` then takes the mean over the samples at hand.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.distributions.likelihoods import full_precision
from vae_lightning.distributions.sampling import GaussianMixture, diagonal_gaussian
from vae_lightning.types import MNIST_SHAPE

__all__ = ["PRIORS", "ClassPrior", "MixturePrior", "Prior", "StandardPrior", "VampPrior"]

Encode = Callable[[Tensor], Distribution]
"""Gives the posteriors of images `(K, C, H, W)`, batch shape `(K,)`."""


class Prior(nn.Module):
    """From labels `(B,)` to p(z | y): event shape `(D,)`, batch shape `()`, or `(B,)` if the prior depends on the labels.

    A subclass returns the distribution from `forward`. Its constructor is given those of `latent_dim`, `num_classes` and
    `image_shape` that its signature has, beside its own arguments.

    >>> class WidePrior(Prior):
    ...     def __init__(self, latent_dim: int, variance: float = 4.0) -> None:
    ...         super().__init__()
    ...         self.register_buffer("log_variance", torch.full((latent_dim,), variance).log())
    ...
    ...     def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
    ...         return diagonal_gaussian(torch.zeros_like(self.log_variance), self.log_variance)
    >>> WidePrior(latent_dim=2)(None, encode=None).stddev
    tensor([2., 2.])
    """

    num_images: int = 0
    """Training images that `start_from` is called with before training; 0: `start_from` is not called."""
    mixes_posteriors: ClassVar[bool] = False
    """Whether the prior is made of the model's own posteriors, which must then be Gaussians with independent dimensions."""

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        raise NotImplementedError

    def start_from(self, images: Tensor) -> None:
        """Start from training images `(num_images, C, H, W)` in [0, 1]."""
        raise NotImplementedError


class StandardPrior(Prior):
    """The standard normal N(0, I).

    >>> StandardPrior(latent_dim=2, num_classes=0)(None, encode=None).log_prob(torch.zeros(2))
    tensor(-1.8379)
    """

    def __init__(self, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)
        self.origin: Tensor

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        return diagonal_gaussian(self.origin, self.origin)


class MixturePrior(Prior):
    """A mixture of diagonal Gaussians, whose means, variances and weights are learned and do not depend on labels.

    The mixture starts near the standard normal: half of its variance lies between the components, half within them.

    Args:
        components: K.

    >>> MixturePrior(latent_dim=2, num_classes=0, components=3)(None, encode=None).log_prob(torch.zeros(4, 2)).shape
    torch.Size([4])
    """

    def __init__(self, latent_dim: int, num_classes: int, components: int = 500) -> None:
        super().__init__()
        require(components >= 1, "components", components, "at least 1")
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(math.sqrt(0.5) * torch.randn(components, latent_dim))
        self.log_variance = nn.Parameter(torch.full((components, latent_dim), math.log(0.5)))

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        components = diagonal_gaussian(full_precision(self.loc), full_precision(self.log_variance))
        return GaussianMixture(full_precision(self.logits), components)


class VampPrior(Prior):
    """The mean of the posteriors of learned pseudo-inputs, images whose pixels are parameters cut off at 0 and 1.

    A pixel that leaves [0, 1] stays at that end for good, as in the authors' code (https://github.com/jmtomczak/vae_vampprior).

    Args:
        components: K, pseudo-inputs.
        init: "normal": start the pseudo-inputs from random numbers around one grey level; "images": from K training images, to
            which random numbers around 0 are added.
        mean: the grey level for "normal"; not used with "images".
        std: the random numbers' standard deviation.

    >>> prior = VampPrior(latent_dim=2, num_classes=0, image_shape=(3, 8, 8), components=5)
    >>> mixture = prior(None, encode=lambda x: diagonal_gaussian(x.mean((1, 2))[:, :2], torch.zeros(len(x), 2)))
    >>> mixture.log_prob(torch.zeros(4, 2)).shape
    torch.Size([4])
    """

    mixes_posteriors: ClassVar[bool] = True

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        image_shape: Sequence[int] = MNIST_SHAPE,
        components: int = 500,
        init: Literal["normal", "images"] = "normal",
        mean: float = 0.05,
        std: float = 0.01,
    ) -> None:
        super().__init__()
        require(components >= 1, "components", components, "at least 1")
        require(std > 0, "std", std, "positive")
        require(num_classes == 0, "num_classes", num_classes, "0 with the vamp prior; the others go with labels")
        self.num_images = components if init == "images" else 0
        self.pseudo_inputs = nn.Parameter((0 if self.num_images else mean) + std * torch.randn(components, *image_shape))
        self.register_buffer("logits", torch.zeros(components), persistent=False)
        self.logits: Tensor

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        return GaussianMixture(full_precision(self.logits), encode(F.hardtanh(self.pseudo_inputs, 0.0, 1.0)))

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        wanted = f"at most {len(images)}, the number of training images, with init: images"
        require(len(images) == len(self.pseudo_inputs), "components", len(self.pseudo_inputs), wanted)
        # the random numbers keep pixels of exactly 0 and 1, which no gradient would reach, from all staying there
        self.pseudo_inputs.add_(images)


class ClassPrior(Prior):
    """p(z | y): a diagonal Gaussian a class, started at the standard normal.

    >>> ClassPrior(latent_dim=2, num_classes=10)(torch.tensor([3, 9, 9]), encode=None).batch_shape
    torch.Size([3])
    """

    def __init__(self, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        require(num_classes >= 1, "num_classes", num_classes, "at least 1 with the class prior, a Gaussian a class")
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.zeros(num_classes, 2 * latent_dim))

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        if y is None:
            raise ValueError(f"y: the prior is conditional and needs a label from 0 to {self.num_classes - 1} an image")
        return diagonal_gaussian(*F.embedding(y, full_precision(self.weight)).chunk(2, dim=-1))


PRIORS: dict[str, Callable[..., Prior]] = {
    "standard": StandardPrior,
    "mog": MixturePrior,
    "vamp": VampPrior,
    "class": ClassPrior,
}
