"""Optimizers and learning-rate schedules by name, from torch."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from vae_lightning.arguments import build, choose, require
from vae_lightning.errors import ConfigurationError, VAELightningError

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "build_optimizer",
    "build_schedule",
    "check_specs",
    "direct_step",
    "laid_out_like",
    "restore_layout",
]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "adamax": Adamax,
    "rmsprop": RMSprop,
    "sgd": SGD,
}
_FUSED = {"adam", "adamw", "sgd"}


def build_optimizer(parameters: Iterable[nn.Parameter], spec: Mapping[str, Any], *, scaled: bool = False) -> Optimizer:
    """The optimizer `spec` describes; fused where torch can, unless gradients are `scaled` (float16), which may clip them."""
    choose("model.optimizer.name", spec.get("name"), OPTIMIZERS)
    lr = spec.get("lr", 1e-3)
    if isinstance(lr, int | float):
        require(0 < lr < math.inf, "model.optimizer.lr", lr, "positive and finite")
    arguments = {key: tuple(v) if key == "betas" and isinstance(v, list) else v for key, v in spec.items()}
    if spec["name"] in _FUSED:
        arguments.setdefault("fused", not scaled)
    return build("model.optimizer", arguments, OPTIMIZERS, list(parameters))


def direct_step(optimizer: Optimizer) -> Callable[[], object]:
    """`optimizer.step` of an optimizer that has taken a step, without its bookkeeping where it is a plain fused Adam.

    On a small net that bookkeeping takes half as long as the update. Every parameter must have a gradient, as in the step before.
    """
    if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
        return optimizer.step
    (group,) = optimizer.param_groups
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    if hooks or not group["fused"] or group["amsgrad"] or not isinstance(group["lr"], float):
        return optimizer.step
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states = [optimizer.state[parameter] for parameter in parameters]
    means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
    update = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    (beta1, beta2), names = group["betas"], ("weight_decay", "eps", "maximize")
    fixed = {name: group[name] for name in names}

    @torch.no_grad()
    def step() -> None:
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_add_(steps, 1)
        update(parameters, gradients, means, squares, [], steps, lr=group["lr"], beta1=beta1, beta2=beta2, amsgrad=False, **fixed)

    return step


def laid_out_like(parameter: Tensor, values: Tensor) -> Tensor:
    """`values`, of the same shape, with the strides of `parameter`: a fused optimizer pairs their numbers by place in memory."""
    if values.stride() == parameter.stride():
        return values
    return torch.empty_strided(parameter.size(), parameter.stride(), device=parameter.device).copy_(values)


def restore_layout(optimizer: Optimizer) -> None:
    """Lay restored state out like its parameters: those of an older checkpoint may have had other strides."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = laid_out_like(parameter, value)


class ConstantSchedule:
    """The learning rate stays as it is."""

    def __init__(self, total_steps: int, steps_per_epoch: int) -> None: ...

    def __call__(self, step: int) -> float:
        return 1.0


class CosineSchedule:
    """Linear warm-up over `warmup` of the steps, then half a cosine down to `final` times the learning rate."""

    def __init__(self, total_steps: int, steps_per_epoch: int, warmup: float = 0.0, final: float = 0.0) -> None:
        require(0 <= warmup < 1, "model.lr_schedule.warmup", warmup, "in [0, 1)")
        require(0 <= final <= 1, "model.lr_schedule.final", final, "in [0, 1]")
        self.total, self.warmup, self.final = total_steps, int(warmup * total_steps), final

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class BurdaSchedule:
    r"""$3^i$ epochs at $10^{-i/7}$ times the learning rate, i = 0, 1, ... `stages` - 1: 3,280 epochs for 8 stages.

    Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519.
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, stages: int = 8) -> None:
        require(stages > 0, "model.lr_schedule.stages", stages, "at least 1")
        self.steps_per_epoch, self.stages = steps_per_epoch, stages

    def __call__(self, step: int) -> float:
        epoch, stage = step // self.steps_per_epoch, 0
        while stage < self.stages - 1 and epoch >= 3**stage:
            epoch -= 3**stage
            stage += 1
        return float(10 ** (-stage / 7))


SCHEDULES: dict[str, Callable[..., Callable[[int], float]]] = {
    "constant": ConstantSchedule,
    "cosine": CosineSchedule,
    "burda": BurdaSchedule,
}


def build_schedule(
    optimizer: Optimizer, spec: Mapping[str, Any], total_steps: Callable[[], int], steps_per_epoch: Callable[[], int]
) -> LRScheduler | None:
    """The schedule `spec` describes, stepped once an optimizer step; None where the rate is constant."""
    if spec.get("name") == "constant":
        build("model.lr_schedule", spec, SCHEDULES, 0, 0)
        return None
    choose("model.lr_schedule.name", spec.get("name"), SCHEDULES)
    return LambdaLR(optimizer, build("model.lr_schedule", spec, SCHEDULES, total_steps(), steps_per_epoch()))


def check_specs(optimizer: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    """Refuse what `build_optimizer`, `build_schedule` and the first step would, before training starts."""
    _try_a_step(optimizer)
    build("model.lr_schedule", schedule, SCHEDULES, 1, 1)


_WORDS = {"beta": "betas", "epsilon": "eps", "learning rate": "lr"}
"""What torch calls arguments of its optimizers in errors, where that is not their name."""


def _try_a_step(spec: Mapping[str, Any]) -> None:
    """Build the optimizer for one small parameter and take a step: torch says of some arguments only then that they are wrong."""
    parameter = nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer = build_optimizer([parameter], spec)
        if not (spec.get("capturable") and torch.cuda.is_available()):  # which a parameter on the CPU would be refused for
            optimizer.step()
    except VAELightningError:
        raise
    except (ValueError, RuntimeError, TypeError, AssertionError) as error:
        raise ConfigurationError(_refused(spec, " ".join(str(error).split()))) from error


def _refused(spec: Mapping[str, Any], words: str) -> str:
    """What torch said of `spec`, behind the key that it is about."""
    if spec.get("foreach") and "fused" not in spec and spec.get("name") in _FUSED:
        return "model.optimizer.foreach=True: goes with +model.optimizer.fused=false only, because fused is this project's default"
    said = words.lower()
    keys = [key for word, key in _WORDS.items() if word in said]
    keys += [key for key in spec if key != "name" and re.search(rf"\b{key.lower()}\b", said)]
    keys += ["differentiable"] if spec.get("differentiable") else []  # torch speaks of leaf variables then
    key = next((f".{key}={spec[key]}" for key in keys if key in spec), "")
    return f"model.optimizer{key}: {words or 'torch refuses it'}"
