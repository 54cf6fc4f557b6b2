"""An optimizer, parameter groups and a schedule."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class SignDescent(torch.optim.Optimizer):
    """Steps of one size in the direction of the sign of a running mean of the gradient."""

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                    mean.lerp_(parameter.grad, 1 - group["momentum"])
                    parameter.sub_(mean.sign(), alpha=float(group["lr"]))
        return loss


def by_role(model: nn.Module) -> list[dict[str, Any]]:
    """Quicker steps for what is not a net."""
    nets = [*model.encoder.parameters(), *model.decoder.parameters()]
    rest = [p for p in model.parameters() if not any(p is n for n in nets)]
    return [{"params": nets}, *([{"params": rest, "lr": 0.01}] if rest else [])]


def all_in_one(model: nn.Module) -> list[dict[str, Any]]:
    """One group."""
    return [{"params": list(model.parameters())}]


def sawtooth(total_steps: int, steps_per_epoch: int, least: float = 0.1) -> Callable[[int], float]:
    """Falls from 1 to `least` within each epoch."""
    return lambda step: 1 - (1 - least) * (step % steps_per_epoch) / steps_per_epoch
