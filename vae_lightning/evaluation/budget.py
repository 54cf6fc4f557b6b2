"""How much to compute at once: what the user allows, and half of it whenever memory runs out."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.errors import ConfigurationError
from vae_lightning.inference.chunks import over_chunks

__all__ = ["Budget"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Budget:
    """A number of decoded images to hold at once, shared by all estimators of an evaluation.

    >>> Budget(4).over(lambda x: x + 1, torch.arange(10)).tolist()
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """

    def __init__(self, max_batch: int = 4000) -> None:
        require(max_batch >= 1, "max_batch", max_batch, "at least 1")
        self.max_batch = max_batch

    def run(self, compute: Callable[[int], T]) -> T:
        """`compute(max_batch)`, begun anew with half of it as often as memory runs out; what comes later keeps to that.

        Raises:
            ConfigurationError: one image at a time is too much.
        """
        while True:
            try:
                return compute(self.max_batch)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.max_batch == 1:
                    raise ConfigurationError("max_batch=1: memory runs out even so; use a machine with more") from error
            # beyond the except clause, as the error holds on to the tensors of the attempt
            self.max_batch = max(1, self.max_batch // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            log.warning("out of memory: going on with max_batch=%d", self.max_batch)

    def over(self, compute: Callable[..., Tensor], *tensors: Tensor | None, most: int | None = None) -> Tensor:
        """`compute(*chunk)` of chunks of `tensors`, put together: as many rows at once as the budget allows, and at most `most`."""
        return self.run(lambda at_once: over_chunks(compute, *tensors, size=min(at_once, most or at_once)))


def _out_of_memory(error: BaseException) -> bool:
    # torch has a class of its own for GPUs, and on the CPU a RuntimeError like any other
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
