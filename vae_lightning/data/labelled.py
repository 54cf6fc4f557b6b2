"""Few labels: which images of a split keep theirs."""

import torch
from torch import Tensor

from vae_lightning.arguments import require

__all__ = ["places_of_labelled"]


def places_of_labelled(labels: Tensor, num_labels: int, num_classes: int, source: torch.Generator) -> Tensor:
    """Places of `num_labels` images of labels int64 `(N,)`, equally many a class, drawn by `source`; `(num_labels,)`.

    Raises:
        ConfigurationError: a class has fewer images.

    >>> places = places_of_labelled(torch.tensor([0, 0, 1, 1, 1]), 2, 2, torch.Generator())
    >>> torch.tensor([0, 0, 1, 1, 1])[places].tolist()
    [0, 1]
    """
    places = [(labels == c).nonzero().squeeze(1) for c in range(num_classes)]
    most = num_classes * min(map(len, places))
    wanted = f"at most {most}, equally many a class" if most else "null: of some class there is no training image"
    require(num_labels <= most, "num_labels", num_labels, wanted)
    each = num_labels // num_classes
    return torch.cat([place[torch.randperm(len(place), generator=source)[:each]] for place in places])
