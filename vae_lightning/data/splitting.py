"""Split a user's images into training, validation and test images, and number their classes."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.errors import DataError
from vae_lightning.noise import generator

__all__ = ["Part", "numbered", "split"]

log = logging.getLogger(__name__)

SHARE = 10
"""One image in so many goes to a split without a given size."""


class Part(NamedTuple):
    """Images of a user, with labels where there are any: a split, or all images.

    >>> Part(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), np.array(["cat", "dog", "cat"])).labels.tolist()
    ['cat', 'dog', 'cat']
    """

    images: Tensor
    """Grey levels, uint8 `(N, C, H, W)`."""
    labels: NDArray[np.generic] | None
    """Whole numbers or names, `(N,)`; None without labels."""


def numbered(parts: Mapping[str, Part], where: str) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The names of all classes, sorted, and the number of its class for each image of each part, int64 `(N,)`.

    Names that are numbers are sorted as such: 2 comes before 10.

    A single class says as much as no labels: then there are no names, and all numbers are 0.

    Raises:
        DataError: a part has no labels and another has, or one of a class that training images have not.

    >>> images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    >>> names, numbers = numbered({"all": Part(images, np.array(["dog", "cat", "dog"]))}, "pets")
    >>> names, numbers["all"].tolist()
    (('cat', 'dog'), [1, 0, 1])
    """
    held = {name: part.labels for name, part in parts.items() if part.labels is not None}
    if held and len(held) < len(parts):
        (without, *_) = (name for name in parts if name not in held)
        raise DataError(f"{where}: its {next(iter(held))} images have labels, and its {without} images have none")
    known = np.unique(np.concatenate(list(held.values()))) if held else np.empty(0)
    for name, labels in held.items():
        unseen = np.setdiff1d(labels, held.get("train", labels))
        if len(unseen):
            raise DataError(f"{where}: the class {unseen[0]} of its {name} images has no training image")
    if len(known) == 1:
        log.warning("%s: all images are of the class %s, so they count as images without labels", where, known[0])
    if len(known) < 2:
        return (), {name: torch.zeros(len(part.images), dtype=torch.int64) for name, part in parts.items()}
    names = list(map(str, known.tolist()))
    order = sorted(range(len(names)), key=lambda place: int(names[place])) if all(map(str.isdecimal, names)) else range(len(names))
    number_of = np.argsort(order)
    numbers = {name: torch.from_numpy(number_of[np.searchsorted(known, labels)].astype(np.int64)) for name, labels in held.items()}
    return tuple(names[place] for place in order), numbers


def split(
    parts: Mapping[str, tuple[Tensor, Tensor]], val_size: int | None, test_size: int | None, seed: int, where: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """The splits "train", "val" and "test" of images and labels by part.

    Args:
        parts: of everything, "all", which is shuffled by `seed`; or of "train" and what else is given, where the splits that are
            not are taken from the training images.
        val_size, test_size: how many images a split takes that is not given; None: a tenth of those it is taken from.

    Raises:
        ConfigurationError: a size is given of a split that is given, or is more than there are.
        DataError: there are fewer than three images to split.
    """
    sizes: dict[str, int] = {}
    source = "all" if "all" in parts else "train"
    images, labels = parts[source]
    for name, size in (("val", val_size), ("test", test_size)):
        if name in parts:
            require(size is None, f"{name}_size", size, f"null: {where} has {len(parts[name][0])} {name} images of its own")
        else:
            sizes[name] = max(1, len(images) // SHARE) if size is None else size
    rest = len(images) - sum(sizes.values())
    if rest < 1:
        fixed = {name: size for name, size in (("val_size", val_size), ("test_size", test_size)) if size is not None}
        asked = ", ".join(f"{name}={size}" for name, size in fixed.items())
        fewer = f"{asked}: leaves no training image, as {where}" if asked else where
        least = "" if fixed else f"; it takes {1 + len(sizes)} or more"
        count = f"{len(images)} image{'s' * (len(images) != 1)}"
        raise DataError(f"{fewer} holds {count} to be split into train, {', '.join(sizes)}{least}")
    if not sizes:
        return dict(parts)
    order = torch.randperm(len(images), generator=generator(seed, "splits"))
    places = dict(zip(("test", "val", "train"), order.split([sizes.get("test", 0), sizes.get("val", 0), rest]), strict=True))
    taken = {name: (images[places[name]], labels[places[name]]) for name in ("train", *sizes)}
    if lost := len(labels.unique()) - len(taken["train"][1].unique()):
        log.warning("%s: %d classes have no training image, as they have few images and these are split by seed", where, lost)
    return {**parts, **taken} if source == "train" else taken
