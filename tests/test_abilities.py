"""What a model or a data module has beyond its protocol is used, and what it has not is assumed as the table says."""

import pytest
import torch

from vae_lightning.abilities import Labels, classes_of, labels_of, nll_floor_of, permutation_of, predicts, sorted_by_class
from vae_lightning.errors import ConfigurationError


class Bare:
    """Has nothing beyond a protocol."""


def test_what_is_missing_is_assumed() -> None:
    bare = Bare()
    assert classes_of(bare) == 0
    assert not predicts(bare)
    assert not sorted_by_class(bare)
    assert permutation_of(bare) is None
    assert nll_floor_of(bare) is None
    assert labels_of(bare) == Labels((), "class", None)
    assert labels_of(bare, torch.tensor([0, 4])).count == 5


def test_what_is_there_is_used() -> None:
    class Rich:
        num_classes, label_names, label_noun, sorted_by_class, permute_pixels = 2, ("cat", "dog"), "animal", True, True
        nll_floor = 50

        def predict(self, x: torch.Tensor) -> torch.Tensor:
            return x

        def permute(self, images: torch.Tensor) -> torch.Tensor:
            return images.flip(-1)

        def unpermute(self, images: torch.Tensor) -> torch.Tensor:
            return images.flip(-1) + 1

    rich = Rich()
    assert (classes_of(rich), predicts(rich), sorted_by_class(rich)) == (2, True, True)
    assert labels_of(rich) == Labels(("cat", "dog"), "animal", 2)
    assert nll_floor_of(rich) == 50.0
    permutation = permutation_of(rich)
    assert permutation is not None
    assert permutation.unpermute(torch.zeros(1)) == 1
    Rich.permute_pixels = False
    assert permutation_of(rich) is None


def test_a_class_is_found_by_name_first_and_by_number() -> None:
    years = Labels(("1", "0", "7"), count=3)
    assert [years.number(label) for label in ("1", 1, "0", 7, 2)] == [0, 0, 1, 2, 2]
    assert Labels(count=4).number(3) == 3
    for label in (4, "4", "x", -1, "", "²"):
        with pytest.raises(ConfigurationError, match=r"label=.*: must be a class's number from 0 to 3"):
            Labels(count=4).number(label)
    with pytest.raises(ConfigurationError, match="label=0: the images have no labels"):
        Labels(count=0).number(0)


def test_classes_without_names_go_by_their_numbers() -> None:
    assert Labels(("a",)).listed(3) == ["a", "1", "2"]
    assert Labels().listed([5, 2]) == ["5", "2"]
    assert Labels().classes_in(torch.tensor([0, 6])) == 7
    assert Labels(count=0).classes_in(torch.tensor([0, 0])) == 0
