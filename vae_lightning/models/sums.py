"""Sums of per-image terms kept on the device, so that logging costs nothing until it is asked for a mean."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from vae_lightning.errors import CheckpointError, one_line

__all__ = ["MetricSums", "precise", "require_totals", "summed"]

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
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self.count = 0.0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add per-image terms, each `(B,)`."""
        self.add_sums(terms, summed(terms).detach(), next(iter(terms.values())).shape[0])

    def add_sums(self, names: Iterable[str], sums: Tensor, count: float) -> None:
        """Add terms summed over `count` images already, `(number of names,)`."""
        if self._sums is None:
            # a copy, because what a CUDA graph returns does not last
            self._names, self._sums = tuple(names), sums.clone()
        else:
            assert self._names == tuple(names), "the names of the terms changed"
            self._sums = self._sums + sums
        self.count += count

    def copy_to(self, buffer: Tensor) -> None:
        """Copy the sums `(number of names,)` to `buffer`, where a step adds to them; zeros if there are none."""
        buffer.zero_() if self._sums is None else buffer.copy_(self._sums)

    def take(self, names: Iterable[str], buffer: Tensor, count: float) -> None:
        """Go on with the sums in `buffer`, to which those of `count` more images were added since `copy_to`."""
        if count:
            assert self._sums is None or self._names == tuple(names), "the names of the terms changed"
            self._names, self._sums = tuple(names), buffer.clone()
            self.count += count

    def merge(self, other: "MetricSums") -> None:
        if other._sums is not None:
            self.add_sums(other._names, other._sums, other.count)

    def means(self, reduce: Callable[[Tensor], Tensor] = lambda value: value) -> dict[str, float]:
        """Means per image; `reduce` sums a tensor over the ranks of a distributed run."""
        totals = self.totals(reduce)
        return {name: total / totals[COUNT] for name, total in totals.items() if name != COUNT}

    def totals(self, reduce: Callable[[Tensor], Tensor] = lambda value: value) -> dict[str, float]:
        """The sums over all ranks, and the number of images in them, as plain numbers; empty before the first image."""
        if self._sums is None:
            return {}
        totals = reduce(torch.cat([self._sums, self._sums.new_tensor([self.count])])).tolist()
        return dict(zip([*self._names, COUNT], totals, strict=True))

    def restore(self, totals: Mapping[str, float], ranks: int, device: torch.device) -> None:
        """Go on from `totals`, of which each of `ranks` takes an equal part."""
        shares = {name: total / ranks for name, total in totals.items() if name != COUNT}
        self.reset()
        if shares:
            sums = torch.tensor([*shares.values()], dtype=precise(device), device=device)
            self.add_sums(shares, sums, totals[COUNT] / ranks)


def require_totals(content: object) -> None:
    """Refuse what a checkpoint says of sums so far, unless that is `MetricSums.totals` by name.

    Raises:
        CheckpointError: it is not; the message continues the checkpoint's name.

    >>> require_totals({"epoch": {"kl": 4.0, "images": 2.0}, "window": {}})
    """
    kinds = content.values() if isinstance(content, Mapping) else [content]
    for totals in kinds:
        numbers = totals if isinstance(totals, Mapping) else {"": totals}
        if not all(isinstance(number, float | int) for number in numbers.values()) or (numbers and COUNT not in numbers):
            raise CheckpointError(f"is damaged: its sums so far are {one_line(repr(content), 80)}")


def summed(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of each of the per-image terms `(B,)`, in the order of their names."""
    kind = precise(next(iter(terms.values())).device)
    return torch.stack([term.sum(dtype=kind) for term in terms.values()])


def precise(device: torch.device) -> torch.dtype:
    """The dtype of sums over many images on `device`."""
    return torch.float32 if device.type == "mps" else torch.float64
