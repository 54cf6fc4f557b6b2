"""Adam and AdamW (Kingma & Ba, 2015; Loshchilov & Hutter, 2019) as an update inside a graph."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from vae_lightning.engine.update.base import Update
from vae_lightning.engine.update.settings import Setting, computed_once

__all__ = ["AdamUpdate", "is_adam"]

NUMBERS = [("lr", None), ("betas", 0), ("betas", 1), ("eps", None), ("weight_decay", None)]
"""The numbers of a parameter group, by key and index."""


class AdamUpdate(Update):
    """The update of torch's Adam or AdamW: one elementwise kernel a parameter.

    Bias corrections are in float64, as in torch's fused kernels.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        groups = optimizer.param_groups
        places = {id(parameter): place for place, group in enumerate(groups) for parameter in group["params"]}
        self._group_of = [places[id(parameter)] for parameter in parameters]
        self._switches = [(group["maximize"], group["amsgrad"], group["decoupled_weight_decay"]) for group in groups]
        for parameter, place in zip(parameters, self._group_of, strict=True):
            if not optimizer.state[parameter]:
                optimizer.state[parameter].update(_fresh_state(parameter, groups[place]))
        inputs = [Setting(place, key, index) for place in range(len(groups)) for key, index in NUMBERS]
        self._counts = [float(optimizer.state[parameter]["step"]) for parameter in parameters]
        super().__init__(optimizer, parameters, inputs)

    def form(self) -> list[object]:
        # a decay of 0 leaves out an operation, which could turn an infinite weight into NaN
        decays = [bool(group["weight_decay"] != 0) for group in self.optimizer.param_groups]
        return [*super().form(), decays, [self._counts.index(count) for count in self._counts]]

    def present_state(self) -> list[Tensor]:
        held = self.optimizer.state
        pairs = zip(self.parameters, self._group_of, strict=True)
        return [held[p][name] for p, place in pairs for name in self._names(place) if name in held.get(p, {})]

    def _names(self, place: int) -> tuple[str, ...]:
        amsgrad = self._switches[place][1]
        return ("step", "exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if amsgrad else ()))

    def updated(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], state: Sequence[Tensor], settings: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        rest = iter(state)
        new_parameters: list[Tensor] = []
        new_state: list[Tensor] = []
        numbers: dict[tuple[int, float, torch.dtype], list[Tensor]] = {}
        for parameter, gradient, place, count in zip(parameters, gradients, self._group_of, self._counts, strict=True):
            step = next(rest) + 1
            moments = [next(rest) for _ in self._names(place)[1:]]
            # parameters of one group that have taken equally many steps share their bias corrections
            alike = place, count, parameter.dtype
            if alike not in numbers:
                own = settings[place * len(NUMBERS) : (place + 1) * len(NUMBERS)]
                numbers[alike] = computed_once([number.to(parameter.dtype) for number in _numbers(own, step)])
            new, moments = self._moved(parameter, gradient, moments, place, numbers[alike])
            new_parameters.append(new)
            new_state += [step, *moments]
        return new_parameters, new_state

    def _moved(
        self, parameter: Tensor, gradient: Tensor, moments: list[Tensor], place: int, numbers: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """A parameter and its moments after the step."""
        rate, shrinkage, one_minus_beta1, beta2, one_minus_beta2, eps, decay = numbers
        maximize, amsgrad, decoupled = self._switches[place]
        gradient = -gradient if maximize else gradient
        if self.optimizer.param_groups[place]["weight_decay"] != 0:
            if decoupled:
                parameter = parameter * shrinkage
            else:
                gradient = gradient + parameter * decay
        mean, square, *largest = moments
        mean = mean + (gradient - mean) * one_minus_beta1
        square = square * beta2 + gradient * gradient * one_minus_beta2
        largest = [torch.maximum(largest[0], square)] if amsgrad else []
        denominator = (largest[0] if amsgrad else square).sqrt() + eps
        return parameter - rate * mean / denominator, [mean, square, *largest]


def _numbers(settings: Sequence[Tensor], step: Tensor) -> list[Tensor]:
    """What multiplies an element, all 0-dim: both bias corrections go into the rate and into eps, which saves a division."""
    lr, beta1, beta2, eps, decay = settings
    step = step.to(lr.dtype)
    correction = (1 - beta2**step).sqrt()
    return [lr / (1 - beta1**step) * correction, 1 - lr * decay, 1 - beta1, beta2, 1 - beta2, eps * correction, decay]


def _fresh_state(parameter: Tensor, group: dict[str, object]) -> dict[str, Tensor]:
    """What torch's Adam keeps of a parameter that has taken no step."""
    on_device = group["capturable"] or group["fused"]
    double = torch.get_default_dtype() == torch.float64 and not group["fused"]
    names = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
    return {
        "step": torch.zeros(
            (), dtype=torch.float64 if double else torch.float32, device=parameter.device if on_device else torch.device("cpu")
        ),
        **{name: torch.zeros_like(parameter, memory_format=torch.preserve_format).detach() for name in names},
    }


def is_adam(optimizer: Optimizer) -> bool:
    """Whether the optimizer is torch's Adam or AdamW and no subclass, which may compute something else."""
    return type(optimizer) in (Adam, AdamW)
