"""Optimizers by name or import path, what they take of a checkpoint, and their update without bookkeeping."""

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn, optim
from torch.optim import SGD, Adam, AdamW, Optimizer

from vae_lightning.arguments import build, check, located_or_chosen, parameters, require
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.models.groups import OF_GROUPS, check_groups, named_groups
from vae_lightning.models.schedules import build_schedule, unordered
from vae_lightning.models.torch_names import torch_errors, tuples, without_null

__all__ = [
    "OPTIMIZERS",
    "build_optimizer",
    "check_specs",
    "direct_step",
    "has_own_step",
    "laid_out_like",
    "restore_layout",
    "try_specs",
]

log = logging.getLogger(__name__)

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    name.lower(): kind
    for name, kind in sorted(vars(optim).items())
    if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer
}
"""Every optimizer of torch by its class's name in lower case."""
FUSED = (Adam, AdamW, SGD)
"""Optimizers that are fused unless it is said otherwise: torch can on every device."""
NO_COUNTS = {"params", "param_names", "lr", "initial_lr"}
"""Keys of a parameter group that a step may change and a checkpoint is not to bring back."""
Make = Callable[[Any], Optimizer]


def build_optimizer(of: nn.Module | Iterable[nn.Parameter], spec: Mapping[str, Any], *, scaled: bool = False) -> Optimizer:
    """The optimizer `spec` describes; fused where torch can, unless gradients are `scaled` (float16), which may clip them.

    Of a checkpoint's state it takes the moments and keeps its own numbers (learning rate, betas, ...). Moments of another kind of
    optimizer it leaves, and says so.

    Args:
        of: the model, or parameters where `spec` has no `groups`.
        spec: `{"name": <name or import path>, **arguments}`; an argument that is None is left out. `groups` is the import path of a
            function of the model that gives torch's parameter groups.
        scaled: whether gradients are scaled.

    Raises:
        ConfigurationError: the spec is wrong, or the optimizer cannot train these parameters.

    >>> build_optimizer(nn.Linear(2, 1), {"name": "radam", "lr": 0.01}).defaults["lr"]
    0.01
    """
    spec = without_null(spec)
    groups = spec.pop("groups", None)
    target = located_or_chosen("optimizer.name", spec.get("name"), OPTIMIZERS)
    arguments = _arguments(target, spec, scaled)
    named = dict(of.named_parameters()) if isinstance(of, nn.Module) else {}

    def make(params: Any) -> Optimizer:
        with torch_errors("optimizer", spec):
            optimizer = build("optimizer", arguments, OPTIMIZERS, params=params)
        if not isinstance(optimizer, Optimizer):
            raise ConfigurationError(f"optimizer.name={spec['name']}: gives {kind_of(optimizer)}, and no optimizer of torch's")
        return optimizer

    if groups is None:
        optimizer = make(list(of.parameters()) if isinstance(of, nn.Module) else list(of))
    else:
        require(isinstance(of, nn.Module), "optimizer.groups", groups, "left out where parameters are given, and no model")
        assert isinstance(of, nn.Module)
        optimizer = make(named_groups(of, groups, target))
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        many = "evaluates the loss several times a step, and a training step here is one evaluation"
        raise ConfigurationError(f"optimizer.name={spec['name']}: {many}; choose another")
    optimizer.register_load_state_dict_pre_hook(functools.partial(_with_own_settings, make, list(named)))
    return optimizer


def _arguments(target: Any, spec: Mapping[str, Any], scaled: bool) -> dict[str, Any]:
    """The arguments of the optimizer `target`, as it takes them."""
    if not callable(target):
        return dict(spec)  # which is refused when it is built
    known, takes_any = parameters(target)
    if "lr" in spec and "lr" not in known and not takes_any:
        raise ConfigurationError(f"optimizer.lr={spec['lr']}: {spec['name']} has no such argument; null leaves it out")
    if isinstance(spec.get("lr"), int | float):
        require(0 < spec["lr"] < math.inf, "optimizer.lr", spec["lr"], "positive and finite")
    arguments = tuples(target, spec)
    if target in FUSED:
        arguments.setdefault("fused", not scaled)
    return arguments


def _with_own_settings(make: Make, names: list[str], optimizer: Optimizer, restored: dict[str, Any]) -> dict[str, Any]:
    """What `optimizer` takes of `restored`, the `state_dict` of an optimizer that may have had other settings or another kind.

    Args:
        make: builds an optimizer of the same kind for other parameters.
        names: of the model's parameters, in its order; empty where they are not known.
    """
    theirs, own = (_names_of(groups, names) for groups in (restored["param_groups"], optimizer.state_dict()["param_groups"]))
    if theirs is None or own is None:  # parameters without names, which are known by their places
        if len(restored["param_groups"]) != len(optimizer.param_groups):
            return restored  # of which torch says what is wrong
        places = {key: key for key in restored["state"]}
        groups = [{**o, "params": t["params"]} for o, t in zip(optimizer.param_groups, restored["param_groups"], strict=True)]
    else:
        there = {name: key for key, name in theirs.items()}
        places = {there[name]: key for key, name in own.items() if name in there}
        groups = optimizer.state_dict()["param_groups"]
    state = {places[key]: value for key, value in restored["state"].items() if key in places}
    kept = _fitting(make, optimizer, state)
    if kept:
        group_of = {places[key]: group for group in restored["param_groups"] for key in group["params"] if key in places}
        before: list[dict[str, Any]] = [next((group_of[key] for key in group["params"] if key in group_of), {}) for group in groups]
        first = [group["params"][0] for group in optimizer.param_groups]
        groups = [{**own, **_counted(make, one, own, old)} for one, own, old in zip(first, groups, before, strict=True)]
    return {**restored, "state": kept, "param_groups": groups}


def _counted(make: Make, parameter: nn.Parameter, group: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the checkpoint's group `theirs` that grows as an optimizer takes steps, such as the number of SOAP's steps."""
    dim, of_group = _kind(parameter, group)
    before, after = (_trial(make, parameter.device, dim, of_group, steps).param_groups[0] for steps in (0, 1))
    counted = {key for key in after if key not in NO_COUNTS and (key not in before or before[key] != after[key])}
    return {key: value for key, value in theirs.items() if key in counted}


def _names_of(groups: list[dict[str, Any]], names: list[str]) -> dict[int, str] | None:
    """The name of each parameter by its key in the state; None where it is not known."""
    keys = [key for group in groups for key in group["params"]]
    own = [name for group in groups for name in group.get("param_names", ())] or names
    return dict(zip(keys, own, strict=True)) if len(own) == len(keys) else None


def _fitting(make: Make, optimizer: Optimizer, state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The part of `state` that `optimizer` keeps of each parameter; nothing if some of it is missing."""
    of_groups = [(parameter, group) for group in optimizer.param_groups for parameter in group["params"]]
    kinds = {key: _kind(*of_groups[key]) for key in state or [0]}
    wanted = {kind: _state_of(make, of_groups[0][0].device, *kind) for kind in set(kinds.values())}
    held = {key: {name for name, value in entry.items() if value is not None} for key, entry in state.items()}
    if state and any(wanted.values()) and all(wanted[kinds[key]].keys() <= held[key] for key in state):
        return {key: _own_in(optimizer, entry, wanted[kinds[key]]) for key, entry in state.items()}
    if any(held.values()) or any(wanted.values()):
        _say_fresh(type(optimizer).__name__)
    return {}


def _own_in(optimizer: Optimizer, entry: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """The part of a parameter's restored `entry` that a `fresh` one has, with fresh values of repeated settings."""
    return {name: fresh[name] if name in optimizer.defaults else value for name, value in entry.items() if name in fresh}


@rank_zero_only
def _say_fresh(name: str) -> None:
    log.warning("optimizer: %s has no use for the state of the checkpoint's optimizer, and starts afresh", name)


def _kind(parameter: nn.Parameter, group: Mapping[str, Any]) -> tuple[int, tuple[tuple[str, Any], ...]]:
    """What decides which state an optimizer keeps of `parameter`: its dimensions, and keys that only groups have."""
    return parameter.dim(), tuple((key, group[key]) for key in sorted(OF_GROUPS) if key in group)


def _state_of(make: Make, device: torch.device, dim: int, of_group: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """What an optimizer keeps of a parameter of `dim` dimensions after a step, in a group with the keys `of_group`."""
    trial = _trial(make, device, dim, of_group, steps=1)
    (parameter,) = trial.param_groups[0]["params"]
    return {name: value for name, value in trial.state[parameter].items() if value is not None}


def _trial(make: Make, device: torch.device, dim: int, of_group: Iterable[tuple[str, Any]], steps: int) -> Optimizer:
    """An optimizer of a parameter of `dim` dimensions, in a group with the keys `of_group`, after `steps` on a gradient of zero."""
    parameter = nn.Parameter(torch.zeros((2,) * dim, device=device))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = make([{"params": [parameter], **dict(of_group)}])
    for _ in range(steps):
        optimizer.step()
    return optimizer


def direct_step(optimizer: Optimizer) -> Callable[[], object] | None:
    """The update of an optimizer that has taken a step, without its bookkeeping; None unless it is a plain fused Adam.

    On a small net that bookkeeping takes half as long as the update. Good for as long as the optimizer has the same parameters and
    state, and the same of them have gradients; its settings may change.
    """
    if type(optimizer) not in (Adam, AdamW) or len(optimizer.param_groups) != 1:
        return None
    (group,) = optimizer.param_groups
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks or has_own_step(optimizer)
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


def has_own_step(optimizer: Optimizer) -> bool:
    """Whether somebody has put a function in the place of this one optimizer's `step`; a schedule's counting one does not count."""
    return "step" in vars(optimizer) and not hasattr(optimizer.step, "_wrapped_by_lr_sched")


def laid_out_like(parameter: Tensor, values: Tensor) -> Tensor:
    """`values`, of the same shape, with the strides of `parameter`: a fused optimizer pairs their numbers by place in memory."""
    if values.stride() == parameter.stride():
        return values
    return torch.empty_strided(parameter.size(), parameter.stride(), dtype=values.dtype, device=values.device).copy_(values)


def restore_layout(optimizer: Optimizer) -> None:
    """Lay restored state out like its parameters: those of an older checkpoint may have had other strides."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = laid_out_like(parameter, value)


def check_specs(optimizer: Mapping[str, Any], schedule: Mapping[str, Any]) -> None:
    """Refuse of two specs what does not depend on the model, before it is built: wrong names, types and ranges.

    Raises:
        ConfigurationError: says which argument is wrong.
    """
    if optimizer.get("groups") is None:
        _try(nn.ParameterList([nn.Parameter(torch.zeros(2, 2))]), optimizer, schedule)
        return
    check_groups(optimizer["groups"])
    target = located_or_chosen("optimizer.name", optimizer.get("name"), OPTIMIZERS)
    if callable(target):  # an optimizer such as Muon is built of groups alone, and so once there is a model
        arguments = _arguments(target, without_null({**optimizer, "groups": None}), scaled=False)
        check(target, {key: value for key, value in arguments.items() if key != "name"}, "optimizer", offered=["params"])


def try_specs(
    model: nn.Module, optimizer: Mapping[str, Any], schedule: Mapping[str, Any], monitor: tuple[str, str] = ("val/loss", "min")
) -> None:
    """Refuse what cannot train the parameters of `model`, by a step on gradients of zero; the parameters are changed.

    Raises:
        ConfigurationError: says which argument is wrong.
    """
    _try(model, optimizer, schedule, monitor)


def _try(
    model: nn.Module,
    spec: Mapping[str, Any],
    schedule: Mapping[str, Any] | None,
    monitor: tuple[str, str] = ("val/loss", "min"),
) -> None:
    """Build the optimizer and the schedule and take a step: torch says of some arguments only then that they are wrong."""
    if (
        spec.get("foreach")
        and spec.get("fused") is None
        and located_or_chosen("optimizer.name", spec.get("name"), OPTIMIZERS) in FUSED
    ):
        raise ConfigurationError(
            "optimizer.foreach=True: goes with fused=False only, because fused is this project's default; give both"
        )
    optimizer = build_optimizer(model, spec)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with torch_errors("optimizer", without_null(spec)), unordered():
        if not (spec.get("capturable") and torch.cuda.is_available()):  # which a parameter on the CPU would be refused for
            optimizer.step()
    if schedule is not None:
        with torch_errors("lr_schedule", schedule), unordered():
            built = build_schedule(optimizer, schedule, lambda: 1000, lambda: 100, monitor)
            if built is not None:
                built.step()
