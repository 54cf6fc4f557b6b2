"""The numbers of an optimizer's parameter groups (learning rate, betas, ...) as 0-dim tensors that go into a graph."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Setting", "Settings", "computed_once"]


class Setting(NamedTuple):
    """The place of a number in an optimizer's parameter groups: `param_groups[group][key]`, or `[item]` of that."""

    group: int
    key: str
    item: int | None = None


class Settings:
    """Numbers of the parameter groups of `optimizer` as tensors, which follow a schedule.

    Args:
        inputs: the numbers.
        counters: numbers of the optimizer's state that are not tensors, as (parameter, key); they come after `inputs`.
        device: of the tensors; they are float64, or float32 on a device that has no float64.
    """

    def __init__(
        self, optimizer: Optimizer, inputs: Sequence[Setting], device: torch.device, counters: Sequence[tuple[Tensor, str]] = ()
    ) -> None:
        self.optimizer, self.inputs, self.counters = optimizer, list(inputs), list(counters)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._tensors = [torch.zeros((), dtype=dtype, device=device) for _ in (*self.inputs, *self.counters)]
        self._held: list[object] = [None] * len(self._tensors)
        self._keys = {(setting.group, setting.key) for setting in inputs}

    def reside(self, tensors: Sequence[Tensor]) -> None:
        """Let `tensors` hold the numbers from now on."""
        self._tensors, self._held = list(tensors), [None] * len(self._tensors)

    def values(self) -> list[float | Tensor]:
        """The numbers as they are now."""
        groups, state = self.optimizer.param_groups, self.optimizer.state
        numbers = [groups[group][key] if item is None else groups[group][key][item] for group, key, item in self.inputs]
        return numbers + [state[parameter][key] for parameter, key in self.counters] if self.counters else numbers

    def tensors(self) -> list[Tensor]:
        """The numbers as they are now, in the same 0-dim tensors at every call."""
        for place, value in enumerate(self.values()):
            if isinstance(value, Tensor):
                self._tensors[place].copy_(value.squeeze())
                self._held[place] = None
            elif value != self._held[place]:
                self._tensors[place].fill_(value)
                self._held[place] = value
        return self._tensors

    def form(self) -> list[object]:
        """Everything in each group but the numbers, with its parameters' identities, to be compared."""
        return [
            {
                key: [id(parameter) for parameter in value] if key == "params" else _comparable(value)
                for key, value in group.items()
                if (place, key) not in self._keys
            }
            for place, group in enumerate(self.optimizer.param_groups)
        ]


def _comparable(value: object) -> object:
    """`value`, or its identity and version where it is a tensor, whose values a comparison would wait for."""
    return (id(value), value._version) if isinstance(value, Tensor) else value


def computed_once(numbers: Sequence[Tensor]) -> list[Tensor]:
    """0-dim tensors of one dtype as they are, by way of memory: a compiler that fused powers and roots into the loops over the
    elements of a parameter would compute them for every few elements.
    """
    return list(torch.stack(list(numbers)).unbind(-1))
