"""Values of each image of a test, beside their means: what the error over images and differences on the same images are made of.

A value stays on the device until the test has ended, so that the test waits for nothing. With the values comes a mark of each
image, by which two tests are known to have seen the same images, in the same order and with the same pixels.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["IMAGES", "ImageValues", "marks"]

IMAGES = "_images"
"""The name of the images' marks beside the values."""

Reduce = Callable[[Tensor, str], Tensor]
"""Reduces a tensor over the ranks of a distributed run, by "sum" or "max"."""


def marks(x: Tensor) -> Tensor:
    """A number `(B,)`, float64, of each of the images `x` `(B, C, H, W)`, which other images hardly have too.

    Of binary images it is a whole number, the same on every device; of others it is so to a part in 1e12.

    >>> marks(torch.tensor([[[[0.0, 1.0]]], [[[1.0, 0.0]]]])).tolist()
    [40504.0, 1.0]
    """
    pixels = x.detach().flatten(1)
    if pixels.device.type == "mps":  # which has no float64
        pixels = pixels.cpu()
    weights = torch.arange(pixels.shape[1], device=pixels.device) * 40503 % 65521 + 1
    return pixels.double() @ weights.double()


class ImageValues:
    """The values of the images of a test, by name, and the images' marks.

    >>> values = ImageValues()
    >>> values.add({"kl": torch.tensor([1.0, 3.0])}, torch.zeros(2, 1, 4, 4), None)
    >>> values.gathered(lambda tensor, by: tensor, 1)["kl"].tolist()
    [1.0, 3.0]
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._names: tuple[str, ...] = ()
        self._values: list[Tensor] = []
        self._marks: list[Tensor] = []
        self._places: list[Tensor | None] = []

    def add(self, terms: Mapping[str, Tensor], x: Tensor, places: Tensor | None) -> None:
        """Add the terms of a batch, `(B,)` each.

        Args:
            x: its images, `(B, C, H, W)`.
            places: which images of the split they are, `(B,)`; None where the loader does not say.
        """
        self._names = tuple(terms)
        kind = torch.float64 if any(term.dtype == torch.float64 for term in terms.values()) else torch.float32
        self._values.append(torch.stack([term.detach().to(kind) for term in terms.values()]))
        self._marks.append(marks(x))
        self._places.append(places)

    def gathered(self, reduce: Reduce, ranks: int) -> dict[str, Tensor]:
        """The values of all images that were tested, `(N,)` each, in the split's order, and `_images`, their marks.

        All ranks must call it. Empty for several ranks whose loader does not say which images it gave to which, and without images.
        """
        if ranks == 1:
            return self._on_one()
        places = [place for place in self._places if place is not None]
        known = torch.cat(places).long() if places and len(places) == len(self._places) else None
        device = self._values[0].device if self._values else None
        last = 0 if known is None else int(known.max()) + 1
        size = torch.tensor([last, len(self._names), int(known is None and bool(self._values))], device=device)
        images, names, unknown = (int(value) for value in reduce(size, "max").tolist())
        if unknown or not images:
            return {}
        # each image is of one rank, so that a sum over ranks is its value, to the last bit
        sheet = torch.zeros(names + 2, images, dtype=torch.float64, device=device)
        if known is not None:
            counted = torch.ones_like(known, dtype=torch.float64)
            sheet[:, known] = torch.stack([*torch.cat(self._values, 1).double(), torch.cat(self._marks), counted])
        sheet = reduce(sheet, "sum").cpu()
        sheet = sheet[:, sheet[-1] == 1]
        return self._named(sheet[:-2].to(self._values[0].dtype), sheet[-2]) if self._names else {}

    def _on_one(self) -> dict[str, Tensor]:
        if not self._values:
            return {}
        values, images = torch.cat(self._values, 1).cpu(), torch.cat(self._marks).cpu()
        places = [place for place in self._places if place is not None]
        if len(places) == len(self._places):
            order = torch.cat(places).cpu().argsort(stable=True)
            values, images = values[:, order], images[order]
        return self._named(values, images)

    def _named(self, values: Tensor, images: Tensor) -> dict[str, Tensor]:
        return {**dict(zip(self._names, values, strict=True)), IMAGES: images}
