"""Optimizers and learning-rate schedules by name, from torch."""

import functools
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from vae_lightning.arguments import build, choose, require
from vae_lightning.errors import ConfigurationError, VAELightningError, one_line

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Schedule",
    "build_optimizer",
    "build_schedule",
    "check_specs",
    "direct_step",
    "laid_out_like",
    "restore_layout",
]

log = logging.getLogger(__name__)

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "adamax": Adamax,
    "rmsprop": RMSprop,
    "sgd": SGD,
}
_FUSED = {"adam", "adamw", "sgd"}


def build_optimizer(parameters: Iterable[nn.Parameter], spec: Mapping[str, Any], *, scaled: bool = False) -> Optimizer:
    """The optimizer `spec` describes; fused where torch can, unless gradients are `scaled` (float16), which may clip them.

    Of a checkpoint's state it takes the moments and keeps its own numbers (learning rate, betas, ...). Moments of another kind of
    optimizer it leaves, and says so.
    """
    choose("model.optimizer.name", spec.get("name"), OPTIMIZERS)
    lr = spec.get("lr", 1e-3)
    if isinstance(lr, int | float):
        require(0 < lr < math.inf, "model.optimizer.lr", lr, "positive and finite")
    arguments = {key: tuple(v) if key == "betas" and isinstance(v, list) else v for key, v in spec.items()}
    if spec["name"] in _FUSED:
        arguments.setdefault("fused", not scaled)
    make = functools.partial(build, "model.optimizer", arguments, OPTIMIZERS)
    optimizer: Optimizer = make(list(parameters))
    optimizer.register_load_state_dict_pre_hook(functools.partial(_with_own_settings, make))
    return optimizer


def _with_own_settings(make: Callable[..., Optimizer], optimizer: Optimizer, restored: dict[str, Any]) -> dict[str, Any]:
    """What `optimizer` takes of `restored`, the `state_dict` of an optimizer that may have had other settings or another kind."""
    if len(restored["param_groups"]) != len(optimizer.param_groups):
        return restored  # of which torch says what is wrong
    pairs = zip(optimizer.param_groups, restored["param_groups"], strict=True)
    groups = [{**own, "params": theirs["params"]} for own, theirs in pairs]
    wanted = _state_names(make, optimizer.param_groups[0]["params"][0])
    held = {name for state in restored["state"].values() for name, value in state.items() if value is not None}
    if wanted and wanted <= held:
        state = {key: {name: value for name, value in s.items() if name in wanted} for key, s in restored["state"].items()}
        return {**restored, "state": state, "param_groups": groups}
    if held or wanted:
        _say_fresh(type(optimizer).__name__)
    return {**restored, "state": {}, "param_groups": groups}


@rank_zero_only
def _say_fresh(name: str) -> None:
    log.warning("model.optimizer: %s has no use for the state of the checkpoint's optimizer, and starts afresh", name)


def _state_names(make: Callable[..., Optimizer], like: Tensor) -> set[str]:
    """What an optimizer keeps of each parameter."""
    parameter = nn.Parameter(torch.zeros(1, device=like.device))
    parameter.grad = torch.zeros_like(parameter)
    trial = make([parameter])
    trial.step()
    return {name for name, value in trial.state[parameter].items() if value is not None}


def direct_step(optimizer: Optimizer) -> Callable[[], object] | None:
    """The update of an optimizer that has taken a step, without its bookkeeping; None unless it is a plain fused Adam.

    On a small net that bookkeeping takes half as long as the update. Good for as long as the optimizer has the same parameters and
    state, and the same of them have gradients; its settings may change.
    """
    if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
        return None
    (group,) = optimizer.param_groups
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks or _has_own_step(optimizer)
    if hooks or not group["fused"] or group["amsgrad"] or not isinstance(group["lr"], float):
        return None
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states = [optimizer.state.get(parameter, {}) for parameter in parameters]
    if not all(states):  # a parameter that has just begun to learn
        return None
    means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
    update = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_

    @torch.no_grad()
    def step() -> None:
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]  # like all the settings, a schedule's to change at every step
        settings = {name: group[name] for name in ("lr", "weight_decay", "eps", "maximize")}
        update(parameters, gradients, means, squares, [], steps, beta1=beta1, beta2=beta2, amsgrad=False, **settings)

    return step


def _has_own_step(optimizer: Optimizer) -> bool:
    """Whether somebody has put a function in the place of this one optimizer's `step`; a schedule's counting one does not count."""
    return "step" in vars(optimizer) and not hasattr(optimizer.step, "_wrapped_by_lr_sched")


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


class Schedule(LambdaLR):
    """The learning rate as a function of the optimizer step, times the rate the optimizer was built with.

    Of a checkpoint's state it takes the step alone, so that a training that goes on follows the schedule it is asked for now.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        # LambdaLR keeps and restores the attributes of a callable object, but not those of a function
        super().__init__(optimizer, lambda step: factor(step))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.move_to(state_dict["last_epoch"])

    def move_to(self, step: int) -> None:
        """Set the rate to that of optimizer step `step`."""
        self.last_epoch, self._step_count = step, step + 1
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
            rate = base * factor(step)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


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
) -> Schedule | None:
    """The schedule `spec` describes, stepped once an optimizer step; None where the rate is constant."""
    if spec.get("name") == "constant":
        build("model.lr_schedule", spec, SCHEDULES, 0, 0)
        return None
    choose("model.lr_schedule.name", spec.get("name"), SCHEDULES)
    return Schedule(optimizer, build("model.lr_schedule", spec, SCHEDULES, total_steps(), steps_per_epoch()))


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
        raise ConfigurationError(_refused(spec, one_line(error))) from error


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
