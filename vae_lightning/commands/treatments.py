"""What the numbers of a model and its data are of, which decides which others they compare with."""

import math
from typing import Any

import torch
from torch.distributions import Bernoulli

from vae_lightning.abilities import binarization_of
from vae_lightning.distributions.factors import factors
from vae_lightning.inference.latents import classes_of
from vae_lightning.treatment import Treatment
from vae_lightning.types import LatentVariableModel

__all__ = ["is_of_binary_images", "treatment_of"]


def treatment_of(model: Any, data: Any) -> Treatment:
    """What the numbers of `model` on `data` are of; data without a name go by their class, which no published figure is of."""
    conditional = isinstance(model, LatentVariableModel) and classes_of(model) > 0
    shape = getattr(data, "image_shape", None)
    pixels = None if shape is None else math.prod(shape)
    name = str(getattr(data, "dataset", type(data).__name__))
    return Treatment(name, binarization_of(data), conditional, is_of_binary_images(model), pixels)


def is_of_binary_images(model: Any) -> bool:
    """Whether `model` gives probabilities of pixels that are 0 or 1, and no densities of grey levels."""
    says = getattr(getattr(model, "likelihood_of", None), "binary", None)
    if says is not None or not isinstance(model, LatentVariableModel):
        return bool(says)
    weights = next(iter(model.parameters()), torch.zeros(())) if isinstance(model, torch.nn.Module) else torch.zeros(())
    y = torch.zeros(1, dtype=torch.int64, device=weights.device) if classes_of(model) else None
    with torch.no_grad():
        likelihood = model.likelihood(torch.zeros(1, model.latent_dim, device=weights.device), y)
    return isinstance(factors(likelihood), Bernoulli)
