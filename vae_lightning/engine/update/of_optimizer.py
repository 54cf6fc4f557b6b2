"""The update of an optimizer, whatever its kind, or why there cannot be one."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from vae_lightning.engine.update.adam import AdamUpdate, is_adam
from vae_lightning.engine.update.base import Update, reason_against_optimizer
from vae_lightning.engine.update.traced import TracedUpdate
from vae_lightning.errors import one_line

__all__ = ["update_of"]


def update_of(optimizer: Optimizer, parameters: Sequence[Tensor]) -> Update | str:
    """The update of `optimizer` for a graph; where there cannot be one, the reason in words: then the optimizer's `step` stays.

    Args:
        optimizer: its state is created where it has taken no step yet, as its first step would.
        parameters: those of its parameters that have gradients.

    >>> import torch
    >>> weight = torch.ones(1)
    >>> update = update_of(torch.optim.AdamW([weight], lr=0.5, weight_decay=0.0), [weight])
    >>> update.apply([weight], [torch.ones(1)], update.state, update.settings())
    >>> weight
    tensor([0.5000])
    """
    reason = reason_against_optimizer(optimizer) or _reason_against_parameters(optimizer, parameters)
    if reason is not None:
        return reason
    if is_adam(optimizer):
        update = AdamUpdate(optimizer, parameters)
        elsewhere = any(tensor.device != parameters[0].device for tensor in update.state)
        return "the optimizer counts its steps on the CPU; fused=true would on the device" if elsewhere else update
    try:
        return TracedUpdate(optimizer, parameters)
    except Exception as error:  # whatever foreign code raises that meets numbers of another kind
        return f"{type(optimizer).__name__} cannot be traced: {one_line(error)}"


def _reason_against_parameters(optimizer: Optimizer, parameters: Sequence[Tensor]) -> str | None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not parameters:
        return "no parameter has a gradient"
    if any(id(parameter) not in held for parameter in parameters):
        return "the optimizer does not hold every parameter"
    if len({parameter.device for parameter in parameters}) > 1:
        return "the parameters are on several devices"
    if any(not parameter.is_floating_point() for parameter in parameters):
        return "a parameter is complex"
    return None
