"""An objective with a number and a learned parameter."""

import torch
from torch import Tensor, nn

from vae_lightning.objectives.goals import Objective
from vae_lightning.types import Terms


class LearnedWeight(Objective):
    """log p(x|z) - e^w KL + target w: the weight of the KL is learned, and is in balance where e^w KL is `target` nats."""

    numbers = ("target",)

    def __init__(self, target: float = 8.0) -> None:
        super().__init__()
        self.target = target
        self.log_weight = nn.Parameter(torch.zeros(()))

    def forward(self, terms: Terms) -> Tensor:
        weight = self.log_weight.exp() * terms.kl_weight
        return terms.log_likelihood - weight * terms.kl + self.target * self.log_weight

    def metrics(self, terms: Terms) -> dict[str, Tensor]:
        return {"weight": self.log_weight.detach().exp().expand(len(terms.kl))}
