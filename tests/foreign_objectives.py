"""Objectives as somebody else might write them."""

import torch
from torch import Tensor, nn

from vae_lightning.objectives.bounds import elbo
from vae_lightning.objectives.goals import Objective
from vae_lightning.types import Terms


class FreeBits(Objective):
    """The KL counts from `bits` nats an image on."""

    numbers = ("bits",)
    metric = "free_elbo"
    num_samples = 2

    def __init__(self, bits: float = 1.0) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, terms: Terms) -> Tensor:
        # a number may come as a tensor, which clamp takes too
        return elbo(terms.log_likelihood, terms.kl_weight * terms.kl.clamp(min=self.bits))

    def metrics(self, terms: Terms) -> dict[str, Tensor]:
        return {"free_elbo": self(terms).detach()}


class LearnedWeight(Objective):
    """The KL's weight is learned: drawn to where the KL is at `target` nats, as a Lagrange multiplier would be."""

    def __init__(self, target: float = 5.0) -> None:
        super().__init__()
        self.target = target
        self.log_weight = nn.Parameter(torch.zeros(()))

    def forward(self, terms: Terms) -> Tensor:
        weight = self.log_weight.exp()
        towards_target = -(terms.kl.detach() - self.target) * weight
        return terms.log_likelihood - weight.detach() * terms.kl - towards_target


def no_objective() -> str:
    return "none"


class Misspelt(Objective):
    """Names a number that it does not have."""

    numbers = ("wieght",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = 2.0

    def forward(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.weight * terms.kl
