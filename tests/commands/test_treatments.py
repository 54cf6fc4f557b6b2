"""What the numbers of a model and its data are of."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vae_lightning.commands.estimates import nll_floor
from vae_lightning.commands.treatments import is_of_binary_images, treatment_of
from vae_lightning.data import KMNISTDataModule, MNISTDataModule
from vae_lightning.models import CVAE, VAE
from vae_lightning.treatment import Treatment

NET = {"name": "mlp", "hidden": [4]}


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


class OfMine:
    """Somebody's own data, which have no name."""

    image_shape = (3, 4, 4)


@pytest.mark.parametrize(
    ("model", "data", "treatment"),
    [
        (VAE(net=NET), MNISTDataModule(), Treatment("mnist", "dynamic", pixels=784)),
        (VAE(net=NET), MNISTDataModule(binarization="threshold"), Treatment("mnist", "threshold", pixels=784)),
        (CVAE(net=NET), KMNISTDataModule(), Treatment("kmnist", "dynamic", conditional=True, pixels=784)),
        (
            VAE(net=NET, likelihood="gaussian"),
            MNISTDataModule(binarization="none"),
            Treatment("mnist", "none", binary=False, pixels=784),
        ),
        (Protocol(Bernoulli(torch.tensor(0.5))), OfMine(), Treatment("OfMine", "none", pixels=48)),
    ],
)
def test_treatment_is_that_of_the_model_and_its_data(model: Any, data: Any, treatment: Treatment) -> None:
    assert treatment_of(model, data) == treatment
