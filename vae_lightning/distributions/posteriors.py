r"""Approximate posteriors $q(z \mid x)$, from the outputs of the encoder.

- diagonal: $N(\mu(x), \mathrm{diag}\, \sigma^2(x))$.
- iaf: $z_0 = \mu(x) + \sigma(x) \epsilon$ and T autoregressive steps $z_t = \exp(a_t) z_{t-1} + b_t$, where the d-th numbers of
  $a_t$ and $b_t$ are functions of the first d - 1 of $z_{t-1}$ and of further features $h(x)$, so that
  $\log q(z_T \mid x) = \log N(\epsilon; 0, I) - \sum_d \left(\log \sigma_d(x) + \sum_t a_{td}\right)$: one pass to draw and to
  weigh a sample ("Improving variational inference with inverse autoregressive flow", Kingma et al., 2016,
  https://arxiv.org/abs/1606.04934), D passes a step to weigh any other point. The steps are zuko's
  (https://zuko.readthedocs.io), in alternating orders.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import diagonal_gaussian
from vae_lightning.noise import standard_normal

__all__ = ["MOMENT_DRAWS", "POSTERIORS", "DiagonalPosterior", "FlowDistribution", "FlowPosterior", "Posterior"]

MOMENT_DRAWS = 128
"""Samples from which the mean and standard deviation of a flow are estimated."""
AT_ONCE = 20_000
"""Samples that pass through a flow at once, at most."""


class Posterior(nn.Module):
    """From the outputs of the encoder's two heads, `(B, D + extra)` each, to q(z | x): batch shape `(B,)`, event shape `(D,)`.

    >>> class LaplacePosterior(Posterior):
    ...     def forward(self, loc: Tensor, log_variance: Tensor) -> Distribution:
    ...         scale = (0.5 * log_variance).exp() / math.sqrt(2)
    ...         return torch.distributions.Independent(torch.distributions.Laplace(loc, scale), 1)
    >>> LaplacePosterior()(torch.zeros(4, 2), torch.zeros(4, 2)).log_prob(torch.zeros(4, 2)).shape
    torch.Size([4])
    """

    extra: int = 0
    """Outputs of each head beyond D."""
    gaussian: bool = False
    """Whether q(z | x) is a Gaussian with independent dimensions, which some priors and objectives need."""

    def forward(self, loc: Tensor, log_variance: Tensor) -> Distribution:
        raise NotImplementedError


class DiagonalPosterior(Posterior):
    """A Gaussian with independent dimensions.

    >>> DiagonalPosterior(latent_dim=2)(torch.zeros(4, 2), torch.zeros(4, 2)).batch_shape
    torch.Size([4])
    """

    gaussian = True

    def __init__(self, latent_dim: int) -> None:
        super().__init__()

    def forward(self, loc: Tensor, log_variance: Tensor) -> Distribution:
        return diagonal_gaussian(loc, log_variance)


class FlowPosterior(Posterior):
    """An inverse autoregressive flow, which starts close to the encoder's diagonal Gaussian.

    Args:
        steps: T.
        hidden: sizes of the hidden layers of each step's masked net.
        context: outputs of each head of the encoder beyond D; those of both heads together are h(x).

    >>> flow = FlowPosterior(latent_dim=2, hidden=[8], context=3)
    >>> q = flow(torch.zeros(4, 2 + flow.extra), torch.zeros(4, 2 + flow.extra))
    >>> z = q.from_noise(torch.zeros(4, 2))
    >>> q.log_prob(z).shape
    torch.Size([4])
    """

    def __init__(self, latent_dim: int, steps: int = 2, hidden: Sequence[int] = (256, 256), context: int = 32) -> None:
        super().__init__()
        require(latent_dim >= 2, "latent_dim", latent_dim, "at least 2 with the iaf posterior")
        require(steps >= 1, "steps", steps, "at least 1")
        enough = len(hidden) > 0 and min(hidden) >= latent_dim
        require(enough, "hidden", list(hidden), "one or more sizes, each at least latent_dim")
        require(context >= 1, "context", context, "at least 1")
        # importing zuko takes a moment, which only flows need to wait for
        from zuko.flows.autoregressive import MaskedAutoregressiveTransform

        self.latent_dim, self.extra = latent_dim, context
        ascending = torch.arange(latent_dim)
        orders = [ascending if step % 2 else ascending.flip(0) for step in range(steps)]
        self.steps = nn.ModuleList(
            MaskedAutoregressiveTransform(latent_dim, 2 * context, order=order, hidden_features=hidden, activation=nn.ELU)
            for order in orders
        )
        for step in self.steps:
            last = [layer for layer in step.modules() if isinstance(layer, nn.Linear)][-1]
            nn.init.normal_(last.weight, std=0.01 / math.sqrt(last.in_features))
            nn.init.zeros_(last.bias)

    def forward(self, loc: Tensor, log_variance: Tensor) -> Distribution:
        sizes = (self.latent_dim, self.extra)
        (loc, one), (log_variance, other) = loc.split(sizes, dim=-1), log_variance.split(sizes, dim=-1)
        context = torch.cat([one, other], dim=-1)
        return FlowDistribution(diagonal_gaussian(loc, log_variance), [step(context) for step in self.steps])


class FlowDistribution(Distribution):
    """The distribution of samples of `base` after `steps`: quick to sample from, slow to weigh any other point.

    `log_prob` of the tensor that `from_noise` returned last costs nothing, as the density is computed with the sample.

    Args:
        base: Independent Normal of batch shape `(*)` and event shape `(D,)`.
        steps: zuko's transforms of points `(*, D)`.

    >>> q = FlowDistribution(diagonal_gaussian(torch.zeros(2), torch.zeros(2)), steps=[])
    >>> q.log_prob(q.from_noise(torch.zeros(2)))
    tensor(-1.8379)
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Distribution, steps: Sequence[Any]) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.base, self.steps = base, steps
        self._last_sample: tuple[Tensor, Tensor] | None = None
        self._cached_moments: tuple[Tensor, Tensor] | None = None

    def from_noise(self, epsilon: Tensor) -> Tensor:
        """Samples `(*, D)`, differentiable, from standard normal noise."""
        z, log_prob = self._pass(epsilon)
        self._last_sample = z, log_prob
        return z

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        loc = self.base.mean
        return self.from_noise(torch.randn(self._extended_shape(sample_shape), dtype=loc.dtype, device=loc.device))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density of points `(*, D)`, `(*)` nats."""
        last, density = self._last_sample or (None, None)
        if density is not None and value is last and density.requires_grad >= self._wants_gradients:
            return density
        z, correction = value, torch.zeros((), dtype=value.dtype, device=value.device)
        with _full_precision(value):
            for step in reversed(self.steps):
                before = step.inv(z)
                correction = correction + step.log_abs_det_jacobian(before, z)
                z = before
            log_prob: Tensor = self.base.log_prob(z) - correction
        return log_prob

    @property
    def mean(self) -> Tensor:
        """The mean `(*, D)`, estimated from `MOMENT_DRAWS` samples of noise that is always the same."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """The variance `(*, D)`, estimated like the mean; both are exact if the steps scale and shift all points alike."""
        return self._moments()[1]

    @property
    def _wants_gradients(self) -> bool:
        return torch.is_grad_enabled() and self.base.mean.requires_grad

    def _pass(self, epsilon: Tensor) -> tuple[Tensor, Tensor]:
        with _full_precision(epsilon):
            z = self.base.mean + self.base.stddev * epsilon
            log_prob = self.base.log_prob(z)
            for step in self.steps:
                z, growth = step.call_and_ladj(z)
                log_prob = log_prob - growth
        return z, log_prob

    def _moments(self) -> tuple[Tensor, Tensor]:
        if self._cached_moments is None or self._cached_moments[0].requires_grad < self._wants_gradients:
            epsilon = _moment_noise(self.base.mean)
            at_once = max(1, AT_ONCE // max(1, self.batch_shape.numel()))
            z = [self._pass(part)[0] for part in epsilon.split(at_once)]
            mean = torch.stack([part.sum(0) for part in z]).sum(0) / MOMENT_DRAWS
            variance = torch.stack([(part - mean).square().sum(0) for part in z]).sum(0) / MOMENT_DRAWS
            self._cached_moments = mean, variance
        return self._cached_moments


def _moment_noise(like: Tensor) -> Tensor:
    """Noise `(MOMENT_DRAWS, 1..., D)` in pairs of opposite signs, with a variance of exactly 1 in each dimension."""
    half = standard_normal((MOMENT_DRAWS // 2, *[1] * (like.dim() - 1), like.shape[-1]), like, "moments of a flow")
    half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])


def _full_precision(values: Tensor) -> torch.autocast:
    """A block without mixed precision, which is too coarse for the factors that make the density."""
    return torch.autocast(values.device.type, enabled=False)


POSTERIORS: dict[str, Callable[..., Posterior]] = {"diagonal": DiagonalPosterior, "iaf": FlowPosterior}
