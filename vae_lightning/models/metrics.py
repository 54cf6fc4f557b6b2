"""Sums of per-image figures kept on the device, so that logging costs nothing until it is asked for a mean."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["MetricSums"]

COUNT = "images"


class MetricSums:
    """Running sums by name, and the number of images in them.

    >>> sums = MetricSums()
    >>> sums.add({"kl": torch.tensor([1.0, 3.0])})
    >>> sums.means()
    {'kl': 2.0}
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.count = 0.0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add per-image figures, each `(B,)`."""
        kind = torch.float64 if next(iter(terms.values())).device.type != "mps" else None
        sums = {name: term.detach().sum(dtype=kind) for name, term in terms.items()}
        self.add_sums(sums, next(iter(terms.values())).shape[0])

    def add_sums(self, sums: Mapping[str, Tensor], count: float) -> None:
        """Add figures summed over `count` images already, each `()`."""
        for name, total in sums.items():
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self.count += count

    def merge(self, other: "MetricSums") -> None:
        self.add_sums(other._sums, other.count)

    def means(self, reduce: Callable[[Tensor], Tensor] = lambda value: value) -> dict[str, float]:
        """Means per image; `reduce` sums a tensor over the ranks of a distributed run."""
        totals = self.totals(reduce)
        return {name: total / totals[COUNT] for name, total in totals.items() if name != COUNT}

    def totals(self, reduce: Callable[[Tensor], Tensor] = lambda value: value) -> dict[str, float]:
        """The sums over all ranks, and the number of images in them, as plain numbers; empty before the first image."""
        if not self._sums:
            return {}
        stacked = torch.stack([*self._sums.values()])
        totals = reduce(torch.cat([stacked, stacked.new_tensor([self.count])])).tolist()
        return dict(zip([*self._sums, COUNT], totals, strict=True))

    def restore(self, totals: Mapping[str, float], ranks: int, device: torch.device) -> None:
        """Go on from `totals`, of which each of `ranks` takes an equal part."""
        kind = torch.float64 if device.type != "mps" else torch.float32
        shares = {name: torch.tensor(total / ranks, dtype=kind, device=device) for name, total in totals.items()}
        self.count = totals.get(COUNT, 0) / ranks
        self._sums = {name: share for name, share in shares.items() if name != COUNT}
