r"""Likelihoods $p(x \mid z)$: from the decoder's output to a torch Distribution over images of shape `(C, H, W)`.

A decoder puts out unbounded numbers for each pixel of each channel. The likelihood says how many, and what they mean: for most it
is one, the logit $\ell$ of the pixel's mean. `log_prob` sums over pixels and channels, so it is in nats per image.

- Bernoulli: $p(x_i = 1) = \sigma(\ell_i)$, for binary images.
- Gaussian: $x_i \sim N(\sigma(\ell_i), s^2)$, for grey levels; $s$ given, or learned as one number for all pixels.
- Gaussian per pixel: $x_i \sim N(\sigma(\ell_i), s_i^2)$ with a second number for $s_i$, which has a lower bound.
- continuous Bernoulli: $p(x_i) = C(\lambda_i)\, \lambda_i^{x_i} (1 - \lambda_i)^{1 - x_i}$ on [0, 1] with
  $\lambda = \sigma(\ell)$, for grey levels ("The continuous Bernoulli: fixing a pervasive error in variational
  autoencoders", Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845).
- logistic mixture: a probability of each of the 256 grey levels, from K weights, means and scales a pixel: see
  `distributions.logistic`.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent, Normal
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.distributions.logistic import DiscretisedLogisticMixture
from vae_lightning.errors import ConfigurationError, kind_of

__all__ = [
    "LIKELIHOODS",
    "BernoulliLikelihood",
    "ContinuousBernoulliLikelihood",
    "GaussianLikelihood",
    "GaussianPerPixelLikelihood",
    "Likelihood",
    "LogisticMixtureLikelihood",
    "LogitBernoulli",
    "StableContinuousBernoulli",
    "full_precision",
]


def full_precision(values: Tensor) -> Tensor:
    """`values` in float32 if they are in half precision, which is too coarse for log probabilities summed over pixels."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


class Likelihood(nn.Module):
    """From decoder output `(*, outputs * C, H, W)` to p(x | z), a Distribution: batch shape `(*)`, event shape `(C, H, W)`.

    A subclass sets `outputs` and `binary`, and returns the distribution of a single pixel from `pixels`. The first C of the
    decoder's channels are the first number of each pixel and colour, the next C the second number, and so on.

    >>> from torch.distributions import Laplace
    >>> class LaplaceLikelihood(Likelihood):
    ...     outputs = 2
    ...
    ...     def pixels(self, loc: Tensor, log_scale: Tensor) -> Distribution:
    ...         return Laplace(loc.sigmoid(), log_scale.exp())
    >>> images = LaplaceLikelihood()(torch.zeros(4, 2 * 3, 8, 8))
    >>> images.batch_shape, images.event_shape
    (torch.Size([4]), torch.Size([3, 8, 8]))
    """

    binary: bool = False
    """Whether this is a probability of binary images; a density or probability of grey levels otherwise."""
    outputs: int = 1
    """Numbers that the decoder puts out for each pixel of each channel."""

    def __init__(self) -> None:
        # nn.Module's own signature takes any argument, so a wrong one would not be refused by name
        super().__init__()

    def forward(self, parameters: Tensor) -> Distribution:
        parameters = full_precision(parameters)
        numbers = [parameters] if self.outputs == 1 else parameters.unflatten(-3, (self.outputs, -1)).unbind(-4)
        pixels = self.pixels(*numbers)
        if not isinstance(pixels, Distribution):
            given = f"{type(self).__name__}.pixels gave {kind_of(pixels)}"
            raise ConfigurationError(f"likelihood: {given}; a distribution of batch shape (*, C, H, W) is wanted")
        return Independent(pixels, 3, validate_args=False)

    def pixels(self, *parameters: Tensor) -> Distribution:
        """The distribution of each pixel, batch shape `(*, C, H, W)`, from `outputs` tensors of that shape."""
        raise NotImplementedError(f"{type(self).__name__} defines neither pixels(self, *parameters) nor forward(self, parameters)")


class LogitBernoulli(Bernoulli):
    r"""torch's Bernoulli with $\log p(x) = x \ell - \log(1 + e^\ell)$, which compiles to a shorter step than torch's formula.

    >>> LogitBernoulli(logits=torch.tensor(0.0)).log_prob(torch.tensor(1.0))
    tensor(-0.6931)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        # beyond the threshold, 1 + e^l is e^l in double precision too
        return value * self.logits - F.softplus(self.logits, threshold=40)


class BernoulliLikelihood(Likelihood):
    """Binary pixels, from logits: no clamp, so a confident and wrong pixel costs what it costs.

    >>> BernoulliLikelihood()(torch.zeros(1, 28, 28)).log_prob(torch.ones(1, 28, 28)) / 784
    tensor(-0.6931)
    """

    binary = True

    def pixels(self, logits: Tensor) -> Distribution:  # type: ignore[override]
        return LogitBernoulli(logits=logits, validate_args=False)


class GaussianLikelihood(Likelihood):
    """Grey pixels around the decoded level with one standard deviation for all.

    Args:
        scale: the standard deviation, in units of the grey scale.
        learn_scale: learn it, from `scale` on.

    >>> GaussianLikelihood(scale=0.2)(torch.zeros(1, 28, 28)).stddev[0, 0, 0].detach()
    tensor(0.2000)
    """

    def __init__(self, scale: float = 0.1, learn_scale: bool = True) -> None:
        super().__init__()
        require(scale > 0, "scale", scale, "positive")
        log_scale = torch.tensor(math.log(scale))
        self.log_scale: Tensor
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def pixels(self, logits: Tensor) -> Distribution:  # type: ignore[override]
        return Normal(logits.sigmoid(), full_precision(self.log_scale).exp(), validate_args=False)


class GaussianPerPixelLikelihood(Likelihood):
    r"""Grey pixels around the decoded level, each with a standard deviation that is decoded too.

    A second number $r$ of each pixel gives the standard deviation, $s_{min} + (s - s_{min}) \log(1 + e^r) / \log 2$: `scale` for
    $r = 0$, where decoders start, and never below `min_scale`. Without a lower bound, pixels that are black in every image would
    make the density infinite; with it they add at most $-\log(s_{min} \sqrt{2 \pi})$ nats each, 3.0 for 0.02.

    Args:
        scale: the standard deviation at the start, in units of the grey scale.
        min_scale: its lower bound.

    >>> images = GaussianPerPixelLikelihood(scale=0.1, min_scale=0.02)(torch.full((2 * 3, 8, 8), -100.0))
    >>> images.event_shape, images.stddev.min()
    (torch.Size([3, 8, 8]), tensor(0.0200))
    """

    outputs = 2

    def __init__(self, scale: float = 0.1, min_scale: float = 0.02) -> None:
        super().__init__()
        require(min_scale > 0, "min_scale", min_scale, "positive")
        require(min_scale < scale < math.inf, "scale", scale, f"above min_scale, {min_scale}, and finite")
        self.scale, self.min_scale = scale, min_scale

    def pixels(self, logits: Tensor, widths: Tensor) -> Distribution:  # type: ignore[override]
        growth = F.softplus(widths) / math.log(2)
        return Normal(logits.sigmoid(), self.min_scale + (self.scale - self.min_scale) * growth, validate_args=False)


class StableContinuousBernoulli(ContinuousBernoulli):
    r"""torch's continuous Bernoulli with its normaliser from logits, $C = \ell / \tanh(\ell / 2)$, and its mean likewise.

    torch computes both from probabilities clamped near 0 and 1: at $|\ell| = 30$ C is half a nat off a pixel, and the
    mean twice what it should be; the black background of MNIST pushes logits there.

    >>> StableContinuousBernoulli(logits=torch.tensor(-30.0)).mean
    tensor(0.0333)
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
        """Whether each of the logits is near 0, and the logits for either formula.

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
    """Grey pixels on [0, 1].

    >>> ContinuousBernoulliLikelihood()(torch.zeros(1, 28, 28)).mean[0, 0, 0]
    tensor(0.5000)
    """

    def pixels(self, logits: Tensor) -> Distribution:  # type: ignore[override]
        return StableContinuousBernoulli(logits=logits, validate_args=False)


class LogisticMixtureLikelihood(Likelihood):
    """A probability of each of the 256 grey levels of a pixel, by a mixture of logistic distributions; channels are independent.

    The decoder's numbers of a pixel are K weights' logits, K means, black being -1 and white 1, and K logarithms of scales.

    Args:
        components: K.

    >>> likelihood = LogisticMixtureLikelihood(components=2)
    >>> images = likelihood(torch.zeros(4, likelihood.outputs * 3, 8, 8))
    >>> images.event_shape, images.log_prob(torch.zeros(4, 3, 8, 8)).shape
    (torch.Size([3, 8, 8]), torch.Size([4]))
    """

    def __init__(self, components: int = 5) -> None:
        super().__init__()
        require(components >= 1, "components", components, "at least 1")
        self.outputs = 3 * components

    def pixels(self, *parameters: Tensor) -> Distribution:
        return DiscretisedLogisticMixture(*torch.stack(parameters).unflatten(0, (3, -1)))


LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "gaussian": GaussianLikelihood,
    "gaussian_per_pixel": GaussianPerPixelLikelihood,
    "continuous_bernoulli": ContinuousBernoulliLikelihood,
    "logistic_mixture": LogisticMixtureLikelihood,
}
