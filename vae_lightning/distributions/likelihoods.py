r"""Likelihoods: decoder output to a torch Distribution over images of shape `(1, 28, 28)`.

Every decoder puts out one unbounded number a pixel, its logit $\ell$; what it means is decided here. `log_prob` sums over
pixels, so it is in nats per image.

- Bernoulli: $p(x_i = 1) = \sigma(\ell_i)$, for binary images.
- Gaussian: $x_i \sim N(\sigma(\ell_i), s^2)$, for grey levels; $s$ given, or learned as one number for all pixels.
- continuous Bernoulli: $p(x_i) = C(\lambda_i)\, \lambda_i^{x_i} (1 - \lambda_i)^{1 - x_i}$ on [0, 1] with
  $\lambda = \sigma(\ell)$, for grey levels ("The continuous Bernoulli: fixing a pervasive error in variational
  autoencoders", Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845).
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent, Normal
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.types import IMAGE_SHAPE

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "LogitBernoulli",
    "StableContinuousBernoulli",
    "full_precision",
]


def full_precision(values: Tensor) -> Tensor:
    """float32 for the outputs of a net in mixed precision: probabilities summed over pixels need it; others as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


class Likelihood(nn.Module):
    """Decoder output `(*, 1, 28, 28)` to a Distribution of batch shape `(*)` and event shape `(1, 28, 28)`."""

    binary: bool = False
    """Whether this is a probability of binary images; a density of grey levels otherwise."""
    outputs: int = 1
    """How many numbers of the decoder's describe each pixel of each channel."""

    def __init__(self) -> None:
        # nn.Module's own signature takes any argument, so a wrong one would not be refused by name
        super().__init__()

    def forward(self, logits: Tensor) -> Distribution:
        return Independent(self.pixels(full_precision(logits)), len(IMAGE_SHAPE), validate_args=False)

    def pixels(self, logits: Tensor) -> Distribution:
        """The distribution of each pixel by itself."""
        raise NotImplementedError


class LogitBernoulli(Bernoulli):
    r"""torch's Bernoulli with $\log p(x) = x \ell - \log(1 + e^\ell)$, which compiles to a shorter step than torch's formula."""

    def log_prob(self, value: Tensor) -> Tensor:
        # beyond the threshold, 1 + e^l is e^l in double precision too
        return value * self.logits - F.softplus(self.logits, threshold=40)


class BernoulliLikelihood(Likelihood):
    """Binary pixels, from logits: no clamp, so a confident and wrong pixel costs what it costs."""

    binary = True

    def pixels(self, logits: Tensor) -> Distribution:
        return LogitBernoulli(logits=logits, validate_args=False)


class GaussianLikelihood(Likelihood):
    """Grey pixels around the decoded level with standard deviation `scale`, learned from there if `learn_scale`."""

    def __init__(self, scale: float = 0.1, learn_scale: bool = True) -> None:
        super().__init__()
        require(scale > 0, "scale", scale, "positive")
        log_scale = torch.tensor(math.log(scale))
        self.log_scale: Tensor
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def pixels(self, logits: Tensor) -> Distribution:
        return Normal(logits.sigmoid(), full_precision(self.log_scale).exp(), validate_args=False)


class StableContinuousBernoulli(ContinuousBernoulli):
    r"""torch's continuous Bernoulli with its normaliser from logits, $C = \ell / \tanh(\ell / 2)$, and its mean likewise.

    torch computes both from probabilities clamped near 0 and 1: at $|\ell| = 30$ C is half a nat off a pixel, and the
    mean twice what it should be; the black background of MNIST pushes logits there.
    """

    @property
    def mean(self) -> Tensor:
        near, small, away = self._parts(self.logits)
        series = 0.5 + small / 12 - small**3 / 720 + small**5 / 30240
        return torch.where(near, series, 0.5 + 0.5 / torch.tanh(away / 2) - 1 / away)

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = torch.broadcast_tensors(self.logits, value)
        return self._log_normaliser(logits) - F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    @staticmethod
    def _parts(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Where the logits are near 0, and the logits for either formula.

        `where` needs finite gradients on the side not taken too, so each formula gets a harmless number where it is not used:
        grey levels of exactly 0 drive logits to -10^7 and beyond, whose sixth power is no longer finite.
        """
        near = logits.abs() < 0.1
        return near, torch.where(near, logits, 0.0), torch.where(near, 1.0, logits)

    @classmethod
    def _log_normaliser(cls, logits: Tensor) -> Tensor:
        near, small, away = cls._parts(logits)
        series = math.log(2) + small**2 / 12 - small**4 * (7 / 1440) + small**6 * (31 / 90720)
        return torch.where(near, series, (away / torch.tanh(away / 2)).log())


class ContinuousBernoulliLikelihood(Likelihood):
    """Grey pixels on [0, 1]."""

    def pixels(self, logits: Tensor) -> Distribution:
        return StableContinuousBernoulli(logits=logits, validate_args=False)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "continuous_bernoulli": ContinuousBernoulliLikelihood,
}
