"""Every data set says itself below which nll a bug is to be looked for."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vae_lightning.commands.estimates import is_of_binary_images, nll_floor
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


class Protocol:
    """A model that has what the protocol asks for and nothing else."""

    latent_dim = 2

    def __init__(self, pixels: Distribution) -> None:
        self.pixels = pixels

    def prior(self, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(len(x), 2), torch.ones(2)), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(self.pixels.expand(torch.Size([*z.shape[:-1], 1, 4, 4])), 3)


def test_model_of_ones_own_is_of_binary_images_if_its_pixels_are() -> None:
    binary, grey = Protocol(Bernoulli(torch.tensor(0.5))), Protocol(Normal(torch.tensor(0.0), torch.tensor(1.0)))
    assert is_of_binary_images(binary)
    assert not is_of_binary_images(grey)
    assert (nll_floor(binary, MNISTDataModule()), nll_floor(grey, MNISTDataModule())) == (76.0, None)
    assert not is_of_binary_images(nn.Identity())
