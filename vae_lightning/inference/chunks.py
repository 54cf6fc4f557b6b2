"""The one way to go through many images, latents or samples: some at a time, so that memory holds what is computed of them.

A chunk is cut from the first dimension of all tensors alike; what is not there, such as the labels of an unconditional model,
is None in every chunk.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["chunks", "over_chunks", "rows_at_once"]


def chunks(size: int, *tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Each `size` rows of all `tensors`, as a tuple; the last chunk may be shorter, and there is at least one.

    >>> [[part.tolist() for part in chunk if part is not None] for chunk in chunks(2, torch.arange(3), None)]
    [[[0, 1]], [[2]]]
    """
    lengths = {len(tensor) for tensor in tensors if tensor is not None}
    if len(lengths) != 1:
        raise ValueError(f"tensors of {sorted(lengths)} rows cannot be cut alike")
    for start in range(0, max(1, *lengths), max(1, size)):
        yield tuple(None if tensor is None else tensor[start : start + max(1, size)] for tensor in tensors)


def over_chunks(compute: Callable[..., Tensor], *tensors: Tensor | None, size: int) -> Tensor:
    """`compute(*chunk)` of each chunk of `tensors`, put together along the first dimension.

    >>> over_chunks(lambda x, y: x.square(), torch.arange(5), None, size=2)
    tensor([ 0,  1,  4,  9, 16])
    """
    return torch.cat([compute(*chunk) for chunk in chunks(size, *tensors)])


def rows_at_once(max_batch: int, each: int) -> int:
    """How many rows of `each` images may be held at once where `max_batch` images may: at least one.

    >>> rows_at_once(4000, 500), rows_at_once(100, 500)
    (8, 1)
    """
    return max(1, max_batch // each)
