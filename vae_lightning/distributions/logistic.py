r"""A mixture of logistic distributions on the 256 grey levels of a pixel.

On a scale where black is -1 and white is 1, a level's mass is what the mixture's density has within half a level of it, and black
and white take the tails: with $F_k(x) = \sigma((x - \mu_k) / s_k)$ and $h = 1/255$,

$$p(x) = \sum_k w_k \left(F_k(x + h) - F_k(x - h)\right),$$

the first term 1 for white, the second 0 for black ("PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood
and other modifications", Salimans et al., 2017, https://arxiv.org/abs/1701.05517). With $a = (x + h - \mu) / s$ and
$b = (x - h - \mu) / s$, $\log(\sigma(a) - \sigma(b)) = \log \sigma(a) + \log \sigma(-b) + \log(1 - e^{b - a})$, in which nothing
cancels, however small the mass is.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints
from torch.nn import functional as F

__all__ = ["LARGEST_LOG_SCALE", "WHITE", "DiscretisedLogisticMixture"]

WHITE = 255
"""The highest grey level; the lowest is 0."""
LARGEST_LOG_SCALE = 7.0
"""Log scales are cut off at minus this, a ninth of a level, as the paper does, and at plus this, a thousand times the range."""


class DiscretisedLogisticMixture(Distribution):
    """Grey levels in [0, 1] of batch shape `(*)`, multiples of 1/255; any other value has the mass of the level next to it.

    Args:
        logits: of the components' weights, `(K, *)`.
        loc: the components' means before rounding, `(K, *)`; black is -1, white is 1.
        log_scale: logarithms of their scales in the same unit, `(K, *)`, cut off at 7 either way.

    >>> pixel = DiscretisedLogisticMixture(logits=torch.zeros(2), loc=torch.tensor([-1.0, 0.5]), log_scale=torch.zeros(2))
    >>> levels = torch.arange(256) / 255
    >>> bool(torch.isclose(pixel.log_prob(levels).exp().sum(), torch.tensor(1.0)))
    True
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.unit_interval

    def __init__(self, logits: Tensor, loc: Tensor, log_scale: Tensor) -> None:
        super().__init__(loc.shape[1:], validate_args=False)
        self.logits, self.loc = logits.log_softmax(0), loc
        self.log_scale = log_scale.clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)

    def log_prob(self, value: Tensor) -> Tensor:
        """`(*)` nats of values `(*)` in [0, 1]."""
        level = (value * WHITE).round()
        # after K come the dimensions that the value has before those of the batch
        beside = (slice(None), *[None] * (value.dim() - len(self.batch_shape)))
        logits, loc, precision = self.logits[beside], self.loc[beside], (-self.log_scale[beside]).exp()
        centred = 2 * level / WHITE - 1 - loc
        upper, lower = precision * (centred + 1 / WHITE), precision * (centred - 1 / WHITE)
        below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
        within = below + above + (-torch.expm1(-precision * (2 / WHITE))).log()
        mass = torch.where(level <= 0, below, torch.where(level >= WHITE, above, within))
        return (logits + mass).logsumexp(0)

    @property
    def mean(self) -> Tensor:
        """`(*)`, of the levels, not of the logistics before rounding."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """`(*)`, of the levels too."""
        return self._moments()[1]

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance from the probabilities of exceeding each level: E(x) is their sum, E(x^2) that of 2k - 1 times them."""
        weight, precision = self.logits.exp(), (-self.log_scale).exp()
        first = second = torch.zeros_like(self.loc[0])
        for level in range(1, WHITE + 1):
            edge = (2 * level - 1) / WHITE - 1
            exceeded = (weight * ((self.loc - edge) * precision).sigmoid()).sum(0)
            first, second = first + exceeded, second + (2 * level - 1) * exceeded
        return first / WHITE, ((second - first.square()) / WHITE**2).clamp(min=0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Grey levels of shape `(*sample_shape, *)`."""
        shape = self._extended_shape(sample_shape)
        with torch.no_grad():
            chosen = Categorical(logits=self.logits.movedim(0, -1), validate_args=False).sample(torch.Size(sample_shape))
            loc, log_scale = (
                values.movedim(0, -1).expand(*shape, -1).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
                for values in (self.loc, self.log_scale)
            )
            # never 0 or 1, whose logits are infinite
            share = torch.rand(shape, dtype=loc.dtype, device=loc.device).clamp(1e-7, 1 - 1e-7)
            level = ((loc + log_scale.exp() * share.logit() + 1) / 2 * WHITE).round()
            return level.clamp(0, WHITE) / WHITE
