"""Models of binary images whose code lengths are known."""

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal


class Toy(nn.Module):
    """p(z) = N(0, I), p(x | z) a Bernoulli of logits W z + b, q(z | x) a Gaussian whose mean is V x and deviation `scale`.

    With `coupling` 0 and `scale` 1, x and z are independent and the posterior is exact, so that the ELBO is log p(x).
    """

    def __init__(self, coupling: float = 0.0, scale: float = 1.0, num_classes: int = 0) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.latent_dim, self.num_classes, self.scale = 2, num_classes, scale
        self.weight = nn.Parameter(coupling * torch.randn(12, 2, generator=source))
        self.bias = nn.Parameter(torch.randn(max(1, num_classes), 12, generator=source))

    def prior(self, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        loc = (x.flatten(1) - 0.5) @ (self.weight / 4)
        return Independent(Normal(loc, torch.full_like(loc, self.scale)), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        logits = z @ self.weight.mT + (self.bias[y] if self.num_classes else self.bias[0])
        return Independent(Bernoulli(logits=logits.unflatten(-1, (1, 3, 4))), 3)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Images of the model's own, and labels."""
        torch.manual_seed(1)
        y = torch.arange(count) % max(1, self.num_classes)
        with torch.no_grad():
            return self.likelihood(torch.randn(count, 2), y).sample(), y
