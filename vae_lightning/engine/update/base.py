"""What an update inside a graph is, whatever the optimizer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim import optimizer as torch_optimizer

from vae_lightning.engine.update.settings import Setting, Settings
from vae_lightning.models.optimization import has_own_step, restore_layout

__all__ = ["Update", "reason_against_optimizer"]


class Update:
    """The update of one kind of optimizer, for parameters that all have gradients.

    Args:
        optimizer: whose update it is; its state is created where it has taken no step yet.
        parameters: the parameters that have gradients, in the order in which `apply` takes them.
        inputs: the numbers of the parameter groups that the update reads.
        counters: the numbers of the optimizer's state that it reads, as (parameter, key).
    """

    state: list[Tensor]
    """The tensors of `optimizer.state` that the update reads and writes."""

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Sequence[Tensor],
        inputs: Sequence[Setting],
        counters: Sequence[tuple[Tensor, str]] = (),
    ) -> None:
        self.optimizer, self.parameters = optimizer, list(parameters)
        restore_layout(optimizer)
        self._settings = Settings(optimizer, inputs, parameters[0].device, counters)
        self.state = self.present_state()
        self._form = self.form()

    def settings(self) -> list[Tensor]:
        """The numbers of the parameter groups as they are now, in the same 0-dim tensors at every call."""
        return self._settings.tensors()

    def reside(self, state: Sequence[Tensor], settings: Sequence[Tensor]) -> None:
        """Let the optimizer's state, and `settings`, be these tensors, which hold the same values."""
        places = {id(tensor): new for tensor, new in zip(self.state, state, strict=True)}
        for held in self.optimizer.state.values():
            for name, tensor in held.items():
                held[name] = places.get(id(tensor), tensor)
        self._settings.reside(settings)
        self.state = self.present_state()

    def values(self) -> list[float]:
        """The numbers of the parameter groups as they are now, in the order of `settings`."""
        return [float(value) for value in self._settings.values()]

    def apply(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        state: Sequence[Tensor],
        settings: Sequence[Tensor],
        valid: Tensor | None = None,
    ) -> None:
        """Take one step, in place; traceable.

        Args:
            parameters: those of the constructor, or tensors of the same shapes.
            gradients: one of each parameter.
            state: `self.state`, or tensors of the same shapes.
            settings: what `self.settings()` gives.
            valid: 0-dim and bool: whether the step is taken at all. None is yes.
        """
        new_parameters, new_state = self.updated(parameters, gradients, state, settings)
        for old, new in zip([*parameters, *state], [*new_parameters, *new_state], strict=True):
            old.copy_(new if valid is None else torch.where(valid, new, old))

    def holds(self) -> bool:
        """Whether `apply` is right for the next step: an optimizer may do something else at some steps. Asked before each step.

        Where the answer is no, `plain_step` takes the step; where it is no for good, a new update must be made.
        """
        return True

    def advance(self) -> None:
        """Count, on the host, the step that `apply` has taken; to be called once after each, before a schedule moves on."""
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # by which a schedule knows that a step came before it

    def plain_step(self) -> None:
        """Take a step by the optimizer's own `step`, from the parameters' `grad`; `state` keeps its tensors."""
        self.optimizer.step()

    def updated(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], state: Sequence[Tensor], settings: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters and the state after one step, as new tensors; the arguments are those of `apply`."""
        raise NotImplementedError

    def fits(self, optimizer: Optimizer) -> bool:
        """Whether nothing has changed since the update was made that a graph of it has frozen.

        Numbers that are inputs, gradients, and what the tensors hold may change.
        """
        if optimizer is not self.optimizer or reason_against_optimizer(optimizer) is not None or self.form() != self._form:
            return False
        present = self.present_state()
        return len(present) == len(self.state) and all(new is old for new, old in zip(present, self.state, strict=True))

    def form(self) -> list[object]:
        """What of the parameter groups a graph freezes: who is in which, and everything but the numbers that are inputs."""
        return self._settings.form()

    def structure(self) -> list[object]:
        """`form`, and nothing that tells one model's parameters from another's."""
        form: list[Any] = self.form()
        own = {"initial_lr"}  # what a schedule began with
        return [
            {k: len(v) if k == "params" else v for k, v in f.items() if k not in own} if isinstance(f, dict) else f for f in form
        ]

    def present_state(self) -> list[Tensor]:
        """The tensors of the optimizer's state as they are now, in the order of `state`; fewer where some are missing."""
        raise NotImplementedError


def reason_against_optimizer(optimizer: Optimizer) -> str | None:
    """Why the update of `optimizer` must stay the optimizer's own `step`, in words; None where nothing has been hung on it."""
    if has_own_step(optimizer):
        return "the optimizer has a step of its own"
    hooks = (
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        torch_optimizer._global_optimizer_pre_hooks,
        torch_optimizer._global_optimizer_post_hooks,
    )
    if any(hooks):
        return "the optimizer has a hook"
    return None
