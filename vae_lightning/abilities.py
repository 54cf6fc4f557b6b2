"""What a model or a data module may have beyond its protocol in `vae_lightning.types`: the one place that says what is optional.

| member | of | what it says | where it is missing |
|---|---|---|---|
| `num_classes: int` | a model | how many classes of labels it is given as `y` | 0: it ignores labels |
| `predict(x) -> (B, C)` | a model | class probabilities of images | it is no classifier |
| `num_classes: int` | data | how many classes the labels have; 0: there are none | the largest label plus 1 |
| `label_names: tuple[str, ...]` | data | what each class is called | their numbers |
| `label_noun: str` | data | what a class is in the titles of figures | "class" |
| `binarization: str` | data | how its images became binary | "none": they are as they are |
| `nll_floor: float` | data | nats that no model's nll of its images, with pixels 0 or 1, should be below; None: unknown | None |
| `sorted_by_class: bool` | data | whether the first images are all of one class | False |
| `permute(images)`, `unpermute(images)` | data | to and from the order of pixels that a model is trained on | pixels are in place |
| `permute_pixels: bool` | data, with those two | whether they do anything | True |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError

__all__ = [
    "Labels",
    "Permutation",
    "binarization_of",
    "classes_of",
    "labels_of",
    "nll_floor_of",
    "permutation_of",
    "predicts",
    "sorted_by_class",
]


def classes_of(model: object) -> int:
    """How many classes of labels `model` uses; 0 if it ignores them."""
    return int(getattr(model, "num_classes", 0))


def predicts(model: object) -> bool:
    """Whether `model` classifies images."""
    return callable(getattr(model, "predict", None))


def binarization_of(data: object) -> str:
    """How the images of `data` became binary."""
    return str(getattr(data, "binarization", "none"))


def sorted_by_class(data: object) -> bool:
    """Whether the first images of `data` are all of one class."""
    return bool(getattr(data, "sorted_by_class", False))


def nll_floor_of(data: object) -> float | None:
    """Nats that no model's nll of the images of `data`, with pixels 0 or 1, should be below; None if no such number is known."""
    floor = getattr(data, "nll_floor", None)
    return None if floor is None else float(floor)


class Permutation(NamedTuple):
    """The order of pixels that a model is trained on, as two functions of images `(*, C, H, W)`.

    >>> mirrored = Permutation(permute=lambda x: x.flip(-1), unpermute=lambda x: x.flip(-1))
    >>> mirrored.permute(torch.tensor([[[1.0, 2.0]]]))
    tensor([[[2., 1.]]])
    """

    permute: Callable[[Tensor], Tensor]
    """From images with their pixels in place to images as the model was trained on."""
    unpermute: Callable[[Tensor], Tensor]
    """From images as the model was trained on to images with their pixels in place: the inverse of `permute`."""


def permutation_of(data: object) -> Permutation | None:
    """How `data` reorders pixels; None if they are in place."""
    pair = getattr(data, "permute", None), getattr(data, "unpermute", None)
    if not all(map(callable, pair)) or not getattr(data, "permute_pixels", True):
        return None
    return Permutation(*pair)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Labels:
    """The classes of a data set as figures write them.

    >>> clothes = Labels(("shirt", "shoe"), count=2)
    >>> clothes.name(1), clothes.number("shoe"), Labels().name(7)
    ('shoe', 1, '7')
    """

    names: tuple[str, ...] = ()
    """What each class is called; a class without a name goes by its number."""
    noun: str = "class"
    """What a class is, in titles."""
    count: int | None = None
    """How many classes there are; 0: the images have no labels; None: as many as labels are seen."""

    @property
    def exist(self) -> bool:
        """Whether the images have labels."""
        return self.count != 0

    def name(self, label: int) -> str:
        """What class `label` is called."""
        return self.names[label] if 0 <= label < len(self.names) else str(label)

    def listed(self, labels: Sequence[int] | int) -> list[str]:
        """The names of `labels`, or of the first so many classes."""
        return [self.name(label) for label in (range(labels) if isinstance(labels, int) else labels)]

    def classes_in(self, y: Tensor) -> int:
        """How many classes there are, where the labels `(N,)` of some images are `y`; 0 if the images have none."""
        if self.count is not None:
            return self.count
        return int(y.max()) + 1 if len(y) else 0

    def number(self, label: int | str) -> int:
        """The class that a user called `label`, by its name or number.

        Raises:
            ConfigurationError: there is no such class.
        """
        if not self.exist:
            raise ConfigurationError(f"label={label}: the images have no labels")
        if str(label) in self.names:
            return self.names.index(str(label))
        number = int(label) if str(label).isdecimal() else -1
        if number < 0 or (self.count is not None and number >= self.count):
            numbers = "" if self.count is None else f" from 0 to {self.count - 1}"
            named = f"one of {', '.join(self.names)}, or its number" if self.names else "a class's number"
            raise ConfigurationError(f"label={label}: must be {named}{numbers}")
        return number


def labels_of(data: Any, y: Tensor | None = None) -> Labels:
    """The classes of the images of `data`.

    Args:
        y: labels of its images, of which the largest counts where `data` has no `num_classes`.
    """
    names, count = tuple(map(str, getattr(data, "label_names", ()))), getattr(data, "num_classes", None)
    if count is None and names:
        count = len(names)
    elif count is None and y is not None:
        count = int(torch.max(y)) + 1
    return Labels(names, str(getattr(data, "label_noun", "class")), count)
