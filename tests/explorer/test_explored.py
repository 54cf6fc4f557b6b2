"""A model in the form that the page reads: all of it, small, and the same each time."""

import json
from typing import Any

import pytest
import torch

from vae_lightning import VAE
from vae_lightning.abilities import Labels
from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.explored import BYTES_OF_IMAGES, IMAGES, Explored, Source, explored
from vae_lightning.machine.files import finite


class Grey:
    """Images of grey levels."""

    binarization = "none"


class Binary:
    """Images that are black or white."""

    binarization = "dynamic"


def small(data: Any, shape: tuple[int, int, int] = (1, 6, 6), count: int = 500, labels: Labels | None = None) -> Explored:
    torch.manual_seed(0)
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, image_shape=shape).eval()
    x = torch.rand(count, *shape)
    y = torch.arange(count) % 3
    x = x if data is Grey else x.round()
    return explored(model, data(), x, y, labels or Labels(count=3), Source("vae", "VAE", "best.ckpt", "ab", "toys"))


@pytest.fixture(scope="module")
def binary() -> Explored:
    return small(Binary)


def test_all_of_it_is_json(binary: Explored) -> None:
    plain = json.loads(json.dumps(finite(binary.plain), allow_nan=False))
    assert plain["title"] == "vae"
    assert plain["functions"].keys() == {"encoder", "decoder", "terms", "prior"}
    assert (plain["shape"], plain["latentDim"], plain["classes"], plain["labels"]) == ([1, 6, 6], 2, 0, ["0", "1", "2"])


def test_images_are_spread_over_the_test_images_and_bits_where_they_are_binary(binary: Explored) -> None:
    kind, shape, _ = binary.plain["constants"]["tensors"][binary.plain["images"]]
    assert (kind, shape) == ("b1", [IMAGES, 1, 6, 6])
    assert len(binary.plain["pictured"]) == IMAGES
    assert len(binary.plain["mapped"]) == 400
    assert binary.plain["mapped"] == [i * 500 // 400 % 3 for i in range(400)]
    assert binary.plain["pictured"][1] == (500 // IMAGES) % 3


def test_large_images_of_grey_levels_are_fewer() -> None:
    plain = small(Grey, (3, 40, 40), count=20).plain
    kind, shape, _ = plain["constants"]["tensors"][plain["images"]]
    assert kind == "u1"
    assert shape[0] == BYTES_OF_IMAGES // 4800


def test_images_without_labels_have_none() -> None:
    assert small(Binary, labels=Labels(count=0)).plain["labels"] == []


def test_same_model_gives_the_same_page(binary: Explored) -> None:
    assert small(Binary).plain == binary.plain


def test_images_of_fewer_pixels_than_a_byte_has_bits_are_all_kept() -> None:
    plain = small(Binary, (1, 1, 3), count=20).plain
    assert plain["constants"]["tensors"][plain["images"]][:2] == ["b1", [20, 1, 1, 3]]
    assert plain["rounding"]["images"] == 20


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_model_whose_values_are_not_finite_is_refused(number: float) -> None:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]}, image_shape=(1, 6, 6)).eval()
    with torch.no_grad():
        list(model.decoder.parameters())[-1].fill_(number)
    x, y = torch.rand(5, 1, 6, 6).round(), torch.zeros(5).long()
    with pytest.raises(ConfigurationError, match=r"^the model gives values that are not finite"):
        explored(model, Binary(), x, y, Labels(count=0), Source("vae", "VAE", "best.ckpt", "ab", "toys"))
