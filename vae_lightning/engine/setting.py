"""The numbers of an optimizer's parameter groups (learning rate, betas, ...) as 0-dim tensors that go into a graph."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Setting", "Settings"]


class Setting(NamedTuple):
    """The place of a number in an optimizer's parameter groups: `param_groups[group][key]`, or `[item]` of that."""

    group: int
    key: str
    item: int | None = None


class Settings:
    """Numbers of the parameter groups of `optimizer` as tensors, which follow a schedule.

    Args:
        inputs: the numbers.
        device: of the tensors; they are float64, or float32 on a device that has no float64.
    """

    def __init__(self, optimizer: Optimizer, inputs: Sequence[Setting], device: torch.device) -> None:
        self.optimizer, self.inputs = optimizer, list(inputs)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._tensors = [torch.zeros((), dtype=dtype, device=device) for _ in inputs]
        self._held: list[object] = [None] * len(self.inputs)
        self._keys = {(setting.group, setting.key) for setting in inputs}

    def reside(self, tensors: Sequence[Tensor]) -> None:
        """Let `tensors` hold the numbers from now on."""
        self._tensors, self._held = list(tensors), [None] * len(self.inputs)

    def values(self) -> list[float | Tensor]:
        """The numbers as they are now."""
        groups = self.optimizer.param_groups
        return [groups[group][key] if item is None else groups[group][key][item] for group, key, item in self.inputs]

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
        """Of each group its parameters' identities and everything else but the numbers, to be compared."""
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
