"""Copies of optimizers, which step for other tensors than the optimizer itself."""

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

__all__ = ["call_step", "copied", "stand_in", "twin_of"]


def stand_in(
    optimizer: Optimizer, parameters: Sequence[Tensor], tensors: Sequence[Tensor], state: Sequence[dict[str, Any]]
) -> Optimizer:
    """An optimizer of the same class and attributes, which trains `tensors` in the place of `parameters`.

    Args:
        parameters: of `optimizer`, of which the others are left out.
        tensors: as many.
        state: what the optimizer keeps of each of them.
    """
    other = object.__new__(type(optimizer))
    # a schedule counts calls of the `step` that it puts into the optimizer
    own = {key: value for key, value in vars(optimizer).items() if key not in ("step", "state", "param_groups")}
    other.__dict__.update({key: copy.copy(value) if type(value) in (dict, list, set) else value for key, value in own.items()})
    places = {id(parameter): tensor for parameter, tensor in zip(parameters, tensors, strict=True)}
    other.param_groups = [
        {
            key: [places[id(p)] for p in value if id(p) in places] if key == "params" else copy.copy(value)
            for key, value in group.items()
        }
        for group in optimizer.param_groups
    ]
    other.state = defaultdict(dict, zip(tensors, state, strict=True))
    return other


def twin_of(optimizer: Optimizer, parameters: Sequence[Tensor]) -> tuple[Optimizer, list[Tensor]]:
    """A stand-in with copies of parameters and state, and the copies of the parameters."""
    tensors: list[Tensor] = [torch.nn.Parameter(copied(parameter)) for parameter in parameters]
    state = [tree_map(copied, dict(optimizer.state.get(parameter, {}))) for parameter in parameters]
    return stand_in(optimizer, parameters, tensors, state), tensors


def copied(value: Any) -> Any:
    """A copy of a tensor, laid out as it is; anything else as it is."""
    return value.detach().clone(memory_format=torch.preserve_format) if isinstance(value, Tensor) else value


def call_step(optimizer: Optimizer) -> None:
    """The optimizer's `step` as its class has it, without the wrapper by which torch calls hooks and profiles."""
    step: Callable[..., Any] = type(optimizer).step
    if getattr(step, "hooked", False):
        step = step.__wrapped__  # type: ignore[attr-defined]
    with torch.no_grad():
        step(optimizer)
