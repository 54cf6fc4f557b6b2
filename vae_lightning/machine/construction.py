"""Build what somebody else's file describes without more memory than that file gives reason for."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vae_lightning.errors import CheckpointError

__all__ = ["NoMoreThan", "numbers_in"]

NAMES = """
    arange empty empty_strided eye full linspace logspace ones rand randint randn randperm tril_indices triu_indices zeros
"""
FACTORIES: frozenset[Callable[..., Any]] = frozenset(getattr(torch, name) for name in NAMES.split())
"""Functions of torch that make a tensor of any size from numbers alone."""
TIMES = 8
"""How often the numbers of a state a constructor may ask for them: the weights, their beginnings, masks."""
BESIDE = 1 << 24
"""Numbers that a constructor may ask for beside those of its state."""


class NoMoreThan(TorchFunctionMode):
    """A block in which torch makes no more new numbers than a constructor needs whose state has `numbers` of them.

    A checkpoint of a few bytes may describe a model that would fill the memory of any machine.

    Raises:
        CheckpointError: in the block, more are asked for.

    >>> with NoMoreThan(10):
    ...     torch.zeros(3, 4).shape
    torch.Size([3, 4])
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.held, self.left = numbers, TIMES * numbers + BESIDE

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if function in FACTORIES and "out" not in given:
            self.left -= self._asked(function, args, given)
            if self.left < 0:
                raise CheckpointError(f"asks for a model of far more numbers than the {self.held:,} that the file holds; refused")
        return function(*args, **given)

    @staticmethod
    def _asked(function: Any, args: tuple[Any, ...], given: dict[str, Any]) -> int:
        """How many numbers the call would make, found on a device without memory."""
        try:
            without = {key: value for key, value in given.items() if key not in ("generator", "pin_memory")}
            return int(function(*args, **without | {"device": "meta"}).numel())
        except Exception:  # of which the call itself says what is wrong
            return 0


def numbers_in(state: Mapping[str, Any]) -> int:
    """How many numbers the tensors of `state` have."""
    return sum(value.numel() for value in state.values() if isinstance(value, torch.Tensor))
