"""Whether the noise of a model is a function of its source alone, whatever the model's code does."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vae_lightning import VAE
from vae_lightning.engine.purity import draws_purely
from vae_lightning.noise import Source
from vae_lightning.types import Noise

X = torch.zeros(4, 1, 28, 28)


class Small(VAE):
    def __init__(self) -> None:
        super().__init__(latent_dim=2, net={"name": "mlp", "hidden": [8]})
        self.calls = torch.zeros(())


class FromItself(Small):
    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        return Noise(torch.randn(1, len(x), 2))


class Counts(Small):
    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        self.calls = self.calls + 1
        return super().draw_noise(x, source, training)


class Looks(Small):
    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        noise = super().draw_noise(x, source, training)
        return noise if float(noise.posterior.sum()) > -1e9 else Noise(noise.posterior * 0)


class Breaks(Small):
    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        raise KeyError("of somebody's own")


class AsksForTheStep(Small):
    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        return Noise(source.normal("posterior", 1, 2) * (1 + self.global_step))


@pytest.mark.parametrize(
    ("kind", "purely"),
    [(Small, True), (FromItself, False), (Counts, False), (Looks, False), (Breaks, False), (AsksForTheStep, False)],
)
def test_noise_of_a_source_alone_is_told_from_any_other(kind: type[Any], purely: bool) -> None:
    model = kind()
    state = torch.get_rng_state()
    assert draws_purely(model, X, Source.of(X, "example")) is purely
    assert torch.equal(torch.get_rng_state(), state), "what a test draws is given back"
    assert float(model.calls) == 0
    assert type(model) is kind
