"""A user's images are split as asked for, and their classes numbered alike on every machine."""

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_lightning.data.splitting import Part, numbered, split
from vae_lightning.errors import ConfigurationError, DataError


def images(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1)


def part(*labels: object) -> Part:
    return Part(images(len(labels)), np.array(labels))


@pytest.mark.parametrize(
    ("labels", "names", "numbers"),
    [
        (("dog", "cat", "dog"), ("cat", "dog"), [1, 0, 1]),
        (("10", "2", "1", "2"), ("1", "2", "10"), [2, 1, 0, 1]),
        (("10", "2", "b"), ("10", "2", "b"), [0, 1, 2]),
        ((7, 3, 10), ("3", "7", "10"), [1, 0, 2]),
    ],
)
def test_classes_are_numbered_in_the_order_of_their_names(labels: tuple[object, ...], names: object, numbers: list[int]) -> None:
    found, by_part = numbered({"all": part(*labels)}, "pets")
    assert found == names
    assert by_part["all"].tolist() == numbers
    assert by_part["all"].dtype == torch.int64


def test_one_class_is_none() -> None:
    names, numbers = numbered({"all": part("cat", "cat")}, "pets")
    assert names == ()
    assert numbers["all"].tolist() == [0, 0]


def test_class_without_a_training_image_is_named() -> None:
    with pytest.raises(DataError, match="pets: the class dog of its test images has no training image"):
        numbered({"train": part("cat", "cow"), "test": part("dog")}, "pets")
    with pytest.raises(DataError, match="its train images have labels, and its test images have none"):
        numbered({"train": part("cat", "cow"), "test": Part(images(2), None)}, "pets")


def test_every_image_is_in_one_split_and_the_seed_says_in_which() -> None:
    whole = {"all": (images(50), torch.arange(50))}
    first, again, other = (split(whole, 5, 10, seed, "pets") for seed in (0, 0, 1))
    assert {name: len(x) for name, (x, _) in first.items()} == {"train": 35, "val": 5, "test": 10}
    assert sorted(torch.cat([y for _, y in first.values()]).tolist()) == list(range(50))
    for name in first:
        assert torch.equal(first[name][0].flatten().long(), first[name][1]), "images and labels stay together"
        assert torch.equal(first[name][1], again[name][1])
    assert not torch.equal(first["test"][1], other["test"][1])


def test_class_that_is_left_without_a_training_image_is_said(caplog: pytest.LogCaptureFixture) -> None:
    split({"all": (images(50), torch.arange(50) % 2)}, 5, 10, 0, "pets")
    assert not caplog.text
    split({"all": (images(50), torch.arange(50))}, 5, 10, 0, "pets")
    assert "pets: 15 classes have no training image" in caplog.text


def test_splits_that_are_given_stay_and_have_no_size() -> None:
    given = {"train": (images(20), torch.arange(20)), "test": (images(4), torch.arange(4))}
    found = split(given, None, None, 0, "pets")
    assert torch.equal(found["test"][1], torch.arange(4))
    assert (len(found["train"][0]), len(found["val"][0])) == (18, 2)
    with pytest.raises(ConfigurationError, match="test_size=3: must be null: pets has 4 test images of its own"):
        split(given, None, 3, 0, "pets")


def test_too_few_images_are_counted() -> None:
    with pytest.raises(DataError, match="pets holds 2 images to be split into train, val, test; it takes 3 or more"):
        split({"all": (images(2), torch.zeros(2))}, None, None, 0, "pets")
