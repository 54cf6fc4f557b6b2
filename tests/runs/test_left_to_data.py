"""Arguments of a model that a config leaves to the data."""

from typing import Any

import pytest

from vae_lightning import VAE
from vae_lightning.data import Shapes2DDataModule
from vae_lightning.errors import ConfigurationError
from vae_lightning.runs.left_to_data import left_to_data, with_data


class Images:
    image_shape, num_classes = (3, 8, 8), 5


def model(image_shape: list[int], num_classes: int | None = None, width: int = 2) -> None: ...


@pytest.mark.parametrize(
    ("asked", "left", "arguments"),
    [
        ({}, ["image_shape"], {"image_shape": [3, 8, 8]}),
        ({"image_shape": None, "num_classes": None}, ["image_shape", "num_classes"], {"image_shape": [3, 8, 8], "num_classes": 5}),
        ({"image_shape": [1, 4, 4], "num_classes": 0, "width": 3}, [], {"image_shape": [1, 4, 4], "num_classes": 0, "width": 3}),
        ({"width": None}, ["image_shape"], {"image_shape": [3, 8, 8], "width": None}),
    ],
)
def test_what_is_null_or_needed_and_not_given_is_the_datas(
    asked: dict[str, Any], left: list[str], arguments: dict[str, Any]
) -> None:
    assert left_to_data(model, asked) == left
    assert with_data(model, asked, Images()) == arguments


def test_what_the_data_do_not_say_is_the_models_default_or_refused() -> None:
    assert with_data(model, {"image_shape": [1, 4, 4], "num_classes": None}, object()) == {"image_shape": [1, 4, 4]}
    with pytest.raises(ConfigurationError, match="image_shape: is left to the data, and an object has no image_shape; give it"):
        with_data(model, {}, object())
    assert with_data(VAE, {"image_shape": None}, object()) == {}


def test_classes_of_images_without_labels_are_refused() -> None:
    class Unlabelled(Images):
        num_classes = 0

    with pytest.raises(
        ConfigurationError, match="num_classes: null is the number of classes of the data, and these have no labels"
    ):
        with_data(model, {"num_classes": None}, Unlabelled())


def test_models_and_data_of_this_project() -> None:
    assert with_data(VAE, {"image_shape": None, "latent_dim": 3}, Shapes2DDataModule())["image_shape"] == [1, 28, 28]
