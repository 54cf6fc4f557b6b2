"""Every data set says itself below which nll a bug is to be looked for."""

from typing import Any

import pytest
from torch import nn

from vae_lightning.commands.estimates import nll_floor
from vae_lightning.data import FashionMNISTDataModule, KMNISTDataModule, MNISTDataModule, Shapes2DDataModule
from vae_lightning.models import VAE

NET = {"name": "mlp", "hidden": [4]}


class Shirts(FashionMNISTDataModule):
    """Somebody's own data, with a floor of their own."""

    nll_floor = 200.0


@pytest.mark.parametrize(
    ("data", "floor"),
    [
        (MNISTDataModule(), 76.0),
        (FashionMNISTDataModule(), None),
        (KMNISTDataModule(), None),
        (Shapes2DDataModule(), None),
        (Shirts(), 200.0),
        (object(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_floor_is_that_of_the_data(data: Any, floor: float | None) -> None:
    assert nll_floor(VAE(net=NET), data) == floor


@pytest.mark.parametrize("model", [VAE(net=NET, likelihood="gaussian"), nn.Identity()], ids=lambda model: type(model).__name__)
def test_densities_have_no_floor(model: nn.Module) -> None:
    assert nll_floor(model, MNISTDataModule()) is None
