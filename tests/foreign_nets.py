"""Nets as somebody else might write them, without a base class of this project, right and wrong; and a likelihood."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Laplace

from vae_lightning.distributions.likelihoods import Likelihood
from vae_lightning.nets import NetPair


class LinearEncoder(nn.Module):
    """For models with labels and without."""

    def __init__(self, latent_dim: int, num_classes: int, image_shape: Sequence[int], gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.heads = nn.Linear(math.prod(image_shape) + num_classes, 2 * latent_dim)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rows = x.flatten(1) if y is None else torch.cat([x.flatten(1), y], dim=-1)
        loc, log_variance = (self.gain * self.heads(rows)).chunk(2, dim=-1)
        return loc, log_variance


class LinearDecoder(nn.Module):
    def __init__(self, latent_dim: int, num_classes: int, image_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.shape = (outputs * channels, height, width)
        self.pixels = nn.Linear(latent_dim + num_classes, math.prod(self.shape))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        rows: Tensor = self.pixels(z if y is None else torch.cat([z, y], dim=-1))
        return rows.view(-1, *self.shape)


class UnconditionalEncoder(nn.Module):
    """Knows of no labels, and takes nothing but the latent's size."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc, self.log_variance = nn.LazyLinear(latent_dim), nn.LazyLinear(latent_dim)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.loc(x.flatten(1)), self.log_variance(x.flatten(1))]


class LaplaceLikelihood(Likelihood):
    outputs = 2

    def pixels(self, loc: Tensor, log_scale: Tensor) -> Distribution:  # type: ignore[override]
        return Laplace(loc.sigmoid(), 0.1 + log_scale.exp())


LINEAR = NetPair(LinearEncoder, LinearDecoder)


class Halved:
    """A pair of which one half was forgotten."""

    encoder = LinearEncoder


def text(**_: Any) -> str:
    return "text"


class Raises(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        raise FileNotFoundError(f"weights for {latent_dim}\ndimensions")


class Gives(nn.Module):
    """Whatever of the given name, which no model can use."""

    def __init__(self, latent_dim: int = 2, what: str = "features") -> None:
        super().__init__()
        self.latent_dim, self.what = latent_dim, what
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        size = self.latent_dim
        made: dict[str, Any] = {
            "features": x.new_zeros(len(x), size),
            "three": (x.new_zeros(len(x), size),) * 3,
            "wide": (x.new_zeros(len(x), size), x.new_zeros(len(x), 2 * size)),
            "dictionary": {"loc": x.new_zeros(len(x), size)},
            "numbers": (0.0, x.new_zeros(len(x), size)),
            "flat": x.new_zeros(len(x), 784),
            "pair": (x.new_zeros(len(x), 1, 28, 28), None),
            "one": x.new_zeros(len(x), 1, 28, 28),
        }
        return made[self.what]


class NotBegun(nn.Module):
    """A module whose author forgot a line."""

    def __init__(self, **_: object) -> None:
        pass
