"""Optimizers as updates inside a graph: what an optimizer's `step` does to parameters and state, as pure tensor operations.

`update_of(optimizer, parameters)` gives an `Update`, whose `apply` a tracer may record behind the gradients of a step. The tensors
of its state are those of `optimizer.state`, so that checkpoints hold them, and a plain `optimizer.step()` may follow a step of the
graph and the other way round. Learning rate, betas and the other numbers of the parameter groups are inputs of the graph, so that
a schedule may change them at every step. `clipped` is Lightning's clipping of gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from vae_lightning.engine.adam import AdamUpdate, is_adam
from vae_lightning.engine.traced import TracedUpdate
from vae_lightning.engine.updating import Update, reason_against_optimizer
from vae_lightning.errors import one_line

__all__ = ["Update", "clipped", "update_of"]


def update_of(optimizer: Optimizer, parameters: Sequence[Tensor]) -> Update | str:
    """The update of `optimizer` for a graph; where there cannot be one, the reason in words: then the optimizer's `step` stays.

    Args:
        optimizer: its state is created where it has taken no step yet, as its first step would.
        parameters: those of its parameters that have gradients.

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


def clipped(gradients: Sequence[Tensor], value: Tensor, algorithm: str = "norm") -> list[Tensor]:
    """The gradients as Lightning's `clip_gradients` leaves them, as new tensors; traceable.

    Args:
        gradients: of all parameters, of any shapes.
        value: 0-dim: the largest norm of all gradients together, or the largest absolute value of an element.
        algorithm: "norm" or "value".

    >>> clipped([torch.tensor([3.0]), torch.tensor([4.0])], torch.tensor(1.0))
    [tensor([0.6000]), tensor([0.8000])]
    """
    if algorithm == "value":
        return [gradient.clamp(-value.to(gradient.dtype), value.to(gradient.dtype)) for gradient in gradients]
    norm = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]).norm()
    # torch's clip_grad_norm_ divides by the same sum, and multiplies by 1 where nothing is to be clipped
    factor = (value.to(norm.dtype) / (norm + 1e-6)).clamp(max=1.0)
    return [gradient * factor.to(gradient.dtype) for gradient in gradients]
