"""The content of a checkpoint that was read from a mapped file, taken into memory after a look at how much it claims to be.

Pickled containers may hold each other any number of times: forty lists, each of which holds the next one twice, are a tree of
10^12 leaves for whoever prints, copies or compares them. A tensor may claim to have 10^12 elements of which a file holds one.
"""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["in_memory"]

MOST = 2_000_000
"""The most values in a checkpoint beside the elements of tensors: an optimizer of a hundred thousand tensors has fewer."""


def in_memory(content: Any, size: int) -> Any:
    """`content`, what torch read from a mapped file of `size` bytes, with all tensors in memory of their own.

    Tensors that share memory go on sharing it.

    Raises:
        ValueError: a tensor claims more than the file holds, or there are more values than in a checkpoint; the message continues
            "is damaged (".

    >>> in_memory({"weights": [torch.zeros(2)]}, size=100)
    {'weights': [tensor([0., 0.])]}
    """
    return _Copy(size).of(content)[0]


class _Copy:
    def __init__(self, size: int) -> None:
        self.size = size
        self.known: dict[int, tuple[Any, int, Any]] = {}
        """What takes the place of each container and tensor, by its identity; how many values that has; and the original."""
        self.storages: dict[int, Tensor] = {}

    def of(self, value: Any) -> tuple[Any, int]:
        """What takes the place of `value`, and how many values it has, each counted as often as it is held."""
        if not isinstance(value, dict | list | tuple | Tensor):
            return value, 1
        if id(value) not in self.known:
            self.known[id(value)] = (None, MOST + 1, value)  # as it is seen from within itself
            self.known[id(value)] = (*self._taken(value), value)
        copy, count, _ = self.known[id(value)]
        if count > MOST:
            raise ValueError("it holds itself, or more values than a checkpoint has")
        return copy, count

    def _taken(self, value: Any) -> tuple[Any, int]:
        """What takes the place of `value`; dicts and lists stay, with other values in them."""
        if isinstance(value, Tensor):
            return self._tensor(value), 1
        count = 1
        entries = list(value.items() if isinstance(value, dict) else enumerate(value))
        held: list[Any] = []
        for key, item in entries:
            copy, more = self.of(item)
            held.append(copy)
            count += more
            if copy is not item and not isinstance(value, tuple):
                value[key] = copy
        if isinstance(value, tuple) and any(copy is not item for copy, (_, item) in zip(held, entries, strict=True)):
            return tuple(held), count
        attributes = getattr(value, "__dict__", None)  # such as the versions of modules that a state_dict carries
        return value, count + (self.of(attributes)[1] if attributes else 0)

    def _tensor(self, value: Tensor) -> Tensor:
        if value.device.type != "cpu":
            raise ValueError(f"a tensor of it is on the device {value.device.type}, where nothing is stored")
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_conj() or value.is_neg():
            return value.detach().clone()
        if value.numel() * value.element_size() > self.size:
            raise ValueError(f"a tensor of it claims {value.numel():,} elements, more than the file holds")
        if value.is_quantized:
            return value.clone()
        storage = self._storage(value.untyped_storage())
        copy = torch.empty(0, dtype=value.dtype).set_(storage, value.storage_offset(), value.shape, value.stride())
        return nn.Parameter(copy, value.requires_grad) if type(value) is nn.Parameter else copy.requires_grad_(value.requires_grad)

    def _storage(self, mapped: torch.UntypedStorage) -> torch.UntypedStorage:
        size = mapped.nbytes()
        if size > self.size:
            raise ValueError(f"a tensor of it claims {size:,} bytes, more than the file holds")
        known = self.storages.get(mapped.data_ptr())
        if known is None or known.numel() < size:
            known = torch.empty(0, dtype=torch.uint8).set_(mapped, 0, (size,), (1,)).clone()
            self.storages[mapped.data_ptr()] = known
        return known.untyped_storage()
