"""The protocol recognises latent-variable models, and the records hold what they say."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from toys import LinearGaussian

from vae_lightning.models import CVAE, VAE, Classifier
from vae_lightning.types import IMAGE_SHAPE, NUM_PIXELS, Batch, Estimate, LatentVariableModel, Noise

NET = {"name": "mlp", "hidden": [4]}


def test_pixels_of_an_image() -> None:
    assert math.prod(IMAGE_SHAPE) == NUM_PIXELS


@pytest.mark.parametrize("model", [VAE(net=NET), CVAE(net=NET), LinearGaussian()], ids=lambda m: type(m).__name__)
def test_latent_variable_models_follow_the_protocol(model: nn.Module) -> None:
    assert isinstance(model, LatentVariableModel)


@pytest.mark.parametrize("model", [Classifier(), nn.Linear(2, 2)], ids=lambda m: type(m).__name__)
def test_other_modules_do_not(model: nn.Module) -> None:
    assert not isinstance(model, LatentVariableModel)


def test_estimate_cannot_be_altered() -> None:
    estimate = Estimate(1.0, 0.1, 10, 1, "threshold", "mean")
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 2.0  # type: ignore[misc]


def test_noise_has_no_dropout_unless_given() -> None:
    assert Noise(torch.zeros(1)).dropout == ()


def test_batch_unpacks_in_order() -> None:
    images, labels, key = Batch(torch.zeros(2, *IMAGE_SHAPE), torch.ones(2), (1, 2))
    assert images.shape == (2, 1, 28, 28)
    assert labels.tolist() == [1, 1]
    assert key == (1, 2)
