r"""Priors over latents that are learned with the model, $p(z)$ or $p(z \mid y)$.

- standard: $N(0, I)$.
- mog: a mixture of K Gaussians, $\sum_k w_k N(\mu_k, \mathrm{diag}\, \sigma_k^2)$.
- vamp: the mean of the posteriors of K learned pseudo-inputs, $\frac1K \sum_k q(z \mid u_k)$. The prior that maximises the
  ELBO is the aggregate posterior, the same mean over all training images, which would overfit and take too long ("VAE with a
  VampPrior", Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120).
- class: $p(z \mid y)$, a Gaussian a class.

No KL to a mixture has a closed form; `objectives.bounds.kl` then takes the mean over the samples at hand.
"""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.distributions.likelihoods import full_precision
from vae_lightning.distributions.sampling import GaussianMixture, diagonal_gaussian
from vae_lightning.types import IMAGE_SHAPE

__all__ = ["PRIORS", "ClassPrior", "MixturePrior", "Prior", "StandardPrior", "VampPrior"]

Encode = Callable[[Tensor], Distribution]
"""Images `(K, 1, 28, 28)` to their posteriors."""


class Prior(nn.Module):
    """Labels `(B,)` to a Distribution of event shape `(D,)` and batch shape `()`, or `(B,)` where it depends on them."""

    num_images: int = 0
    """How many training images `start_from` wants; 0: none."""
    mixes_posteriors: ClassVar[bool] = False
    """Whether it is made of the model's own posteriors, which must then be Gaussians."""

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        raise NotImplementedError

    def start_from(self, images: Tensor) -> None:
        """Start from training images `(num_images, 1, 28, 28)` in [0, 1]."""
        raise NotImplementedError


class StandardPrior(Prior):
    """N(0, I)."""

    def __init__(self, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent_dim), persistent=False)
        self.origin: Tensor

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        return diagonal_gaussian(self.origin, self.origin)


class MixturePrior(Prior):
    """A mixture of diagonal Gaussians; means, variances and weights are learned. Labels do not change it.

    It starts near the standard normal: half of its variance lies between the components, half within them.

    Args:
        components: K.
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

    A pixel that leaves [0, 1] stays at that end, as in the authors' code (https://github.com/jmtomczak/vae_vampprior).

    Args:
        components: K, pseudo-inputs.
        init: start them from random numbers around one grey level, or from that many training images and such numbers around 0.
        mean: that grey level.
        std: the standard deviation of those numbers.
    """

    mixes_posteriors: ClassVar[bool] = True

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
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
        self.pseudo_inputs = nn.Parameter((0 if self.num_images else mean) + std * torch.randn(components, *IMAGE_SHAPE))
        self.register_buffer("logits", torch.zeros(components), persistent=False)
        self.logits: Tensor

    def forward(self, y: Tensor | None, encode: Encode) -> Distribution:
        return GaussianMixture(full_precision(self.logits), encode(F.hardtanh(self.pseudo_inputs, 0.0, 1.0)))

    @torch.no_grad()
    def start_from(self, images: Tensor) -> None:
        wanted = f"at most {len(images)}, the number of training images, with init: images"
        require(len(images) == len(self.pseudo_inputs), "components", len(self.pseudo_inputs), wanted)
        # what is added keeps pixels of exactly 0 and 1, which no gradient would reach, from all staying there
        self.pseudo_inputs.add_(images)


class ClassPrior(Prior):
    """p(z | y): a diagonal Gaussian a class, started at the standard normal."""

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
