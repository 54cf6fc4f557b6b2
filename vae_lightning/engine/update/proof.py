"""A traced update against the optimizer's own steps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vae_lightning.engine.update.number import Untraceable
from vae_lightning.engine.update.twin import call_step, copied, twin_of

if TYPE_CHECKING:
    from vae_lightning.engine.update.traced import TracedUpdate

__all__ = ["give_gradients", "prove"]

STEPS = 3
"""Steps that a trace and the optimizer take side by side before the trace is trusted."""
CLOSE = 1e-3
"""Part of the largest change of a tensor by which a trace may miss the optimizer's own change: rounding in another order."""

WARM = 1e-3
"""Learning rate of the comparison where the optimizer's own is 0."""


def give_gradients(parameters: Sequence[Tensor], generator: torch.Generator) -> None:
    """Random gradients for `parameters`, of the size that those of a training have."""
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter) * 0.01


def prove(update: "TracedUpdate") -> None:
    """Take some steps by `update` and as many by a twin of its optimizer, with falling learning rates, and compare.

    Args:
        update: for copies of parameters and state, which are changed.

    Raises:
        Untraceable: parameters, state or counts differ by more than rounding.
    """
    optimizer, parameters = update.optimizer, update.parameters
    twin, copies = twin_of(optimizer, parameters)
    generator = torch.Generator().manual_seed(1)
    start = [copied(tensor) for tensor in (*parameters, *update.state)]
    taken = 0
    for _ in range(STEPS):
        give_gradients(parameters, generator)
        for ours, theirs in zip(parameters, copies, strict=True):
            theirs.grad = copied(ours.grad)
        for group, other in zip(optimizer.param_groups, twin.param_groups, strict=True):
            if "lr" in group:
                group["lr"] = other["lr"] = (group["lr"] or WARM) * 0.9  # a warm-up begins at 0
        call_step(twin)
        taken += _take(update)
    if not taken:
        raise Untraceable("its graph fits none of the next steps")
    reference = update.other_for(twin, copies)
    for begin, ours, theirs in zip(start, (*parameters, *update.state), (*copies, *reference.state), strict=True):
        change = (theirs - begin).abs().max()
        if not (ours - theirs).abs().max() <= CLOSE * change + 1e-6 * begin.abs().max() + 1e-12:
            raise Untraceable("its graph misses the optimizer's own steps")
    if reference.values() != update.values():
        raise Untraceable("its graph misses the optimizer's own count of steps")


def _take(update: "TracedUpdate") -> bool:
    """Take a step; whether it was the graph's."""
    if not update.holds():
        update.plain_step()
        return False
    with torch.no_grad():
        gradients = [parameter.grad for parameter in update.parameters if parameter.grad is not None]
        update.apply(update.parameters, gradients, update.state, update.settings())
    update.advance()
    return True
