"""Latent-variable models, and data, whose every answer is known in closed form."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal


class LinearGaussian(nn.Module):
    """p(z) = N(0, I) and p(x | z, y) = N(W z + b_y, s^2 I), in float64.

    W has orthogonal columns, so that the exact posterior is a diagonal Gaussian. `posterior` is that one with its mean
    moved by `shift` and its standard deviations multiplied by `stretch`. With no classes there is one b and y is ignored.
    """

    noise = 0.6

    def __init__(
        self, pixels: int = 5, latent_dim: int = 2, num_classes: int = 0, shift: float = 0.0, stretch: float = 1.0
    ) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        columns = torch.linalg.qr(torch.randn(pixels, latent_dim, generator=source, dtype=torch.float64)).Q
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.weight = nn.Parameter(columns * torch.linspace(1.5, 0.7, latent_dim, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(max(1, num_classes), pixels, generator=source, dtype=torch.float64))
        variance = 1 / (1 + self.weight.detach().square().sum(0) / self.noise**2)
        self.slope = nn.Parameter(variance.unsqueeze(-1) * self.weight.detach().mT / self.noise**2)
        self.shift = nn.Parameter(torch.full_like(variance, shift))
        self.log_scale = nn.Parameter(variance.log() / 2 + math.log(stretch))
        self.exact_scale = variance.sqrt()

    def offset(self, y: Tensor | None) -> Tensor:
        return self.bias[y] if self.num_classes else self.bias[0]

    def prior(self, y: Tensor | None = None) -> Distribution:
        zero = torch.zeros(self.latent_dim, dtype=torch.float64)
        return Independent(Normal(zero, zero + 1), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal((x - self.offset(y)) @ self.slope.mT + self.shift, self.log_scale.exp()), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(z @ self.weight.mT + self.offset(y), self.noise), 1)

    # ---- the answers

    def exact_posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        """p(z | x, y)."""
        return Independent(Normal((x - self.offset(y)) @ self.slope.mT, self.exact_scale), 1)

    def marginal(self, y: Tensor | None = None) -> Distribution:
        """p(x | y); p(x) where there are no classes."""
        identity = torch.eye(len(self.weight), dtype=torch.float64)
        return MultivariateNormal(self.offset(y), self.weight @ self.weight.mT + self.noise**2 * identity)

    def log_marginal_over_labels(self, x: Tensor) -> Tensor:
        """log p(x), all labels being equally likely."""
        joint = [self.marginal(torch.tensor(y)).log_prob(x) - math.log(self.num_classes) for y in range(self.num_classes)]
        return torch.stack(joint).logsumexp(0)


class Painter(nn.Module):
    """Binary images whose left and right halves are as dark as z_0 and z_1 say, and whose first row is black for odd labels.

    The posterior of an image is N((logit of its left half's mean, of its right half's), 0.1^2), clamped to [-3, 3].
    """

    scale = 0.1

    def __init__(self, latent_dim: int = 2, num_classes: int = 0) -> None:
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes

    def prior(self, y: Tensor | None = None) -> Distribution:
        zero = torch.zeros(self.latent_dim)
        return Independent(Normal(zero, zero + 1), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        halves = torch.stack([x[..., 1:, :14].mean((-3, -2, -1)), x[..., 1:, 14:].mean((-3, -2, -1))], dim=-1)
        rest = torch.zeros(len(x), max(0, self.latent_dim - 2))
        loc = torch.cat([halves.logit(1e-3).clamp(-3, 3), rest], dim=-1)[:, : self.latent_dim]
        return Independent(Normal(loc, self.scale), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        left, right = z[..., 0], z[..., min(1, self.latent_dim - 1)]
        logits = torch.stack([left, right], dim=-1).repeat_interleave(14, dim=-1)
        logits = logits.view(*z.shape[:-1], 1, 1, 28).repeat(*[1] * (z.dim() - 1), 1, 28, 1)
        if self.num_classes:
            assert y is not None, "a conditional model needs labels"
            logits[..., 0, 0, :] = torch.where(y % 2 == 1, 20.0, -20.0).unsqueeze(-1)
        return Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)


class Squares:
    """Images whose first pixels are the factors' values."""

    def __init__(self, *sizes: int) -> None:
        self.factor_sizes = sizes
        self.factor_names = tuple("abcdef"[: len(sizes)])

    def images_of(self, factors: Tensor) -> Tensor:
        images = torch.zeros(len(factors), 784)
        images[:, : factors.shape[-1]] = factors / 10
        return images.view(-1, 1, 28, 28)


def factors_of(images: Tensor) -> Tensor:
    return 10 * images.flatten(1)[:, :2]
