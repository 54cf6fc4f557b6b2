"""The functions that other programs want compute what the model computes, without random numbers, for any number of images."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from vae_lightning import VAE, Classifier
from vae_lightning.errors import ConfigurationError
from vae_lightning.export.functions import functions_of, traced
from vae_lightning.models import M1, M2

NET = {"name": "mlp", "hidden": [8]}
X = torch.linspace(0, 1, 3 * 784).reshape(3, 1, 28, 28).round()
Y = torch.tensor([0, 2, 1])


def names(model: Any) -> list[str]:
    return [function.name for function in functions_of(model.eval(), X, Y)]


def test_models_have_the_functions_that_they_can_compute() -> None:
    assert names(VAE(latent_dim=2, net=NET)) == ["encoder", "decoder"]
    assert names(M1(latent_dim=2, net=NET, classes=3)) == ["encoder", "decoder", "classifier"]
    assert names(M2(latent_dim=2, net=NET, num_classes=3)) == ["encoder", "decoder", "classifier"]
    assert names(Classifier(net={"name": "classifier_mlp", "hidden": [8]}, num_classes=3)) == ["classifier"]
    assert names(nn.Identity()) == []


@pytest.mark.parametrize("num_classes", [0, 3])
def test_graphs_compute_the_model_for_any_number_of_images(num_classes: int) -> None:
    model = VAE(latent_dim=2, net=NET, num_classes=num_classes).eval()
    encoder, decoder = (traced(function).module() for function in functions_of(model, X, Y))
    for count in (1, 3):
        x, y = X[:count], Y[:count]
        labels = (y,) if num_classes else ()
        with torch.no_grad():
            loc, scale = encoder(x, *labels)
            posterior = model.posterior(x, y)
            assert torch.allclose(loc, posterior.mean)
            assert torch.allclose(scale, posterior.stddev)
            assert torch.allclose(decoder(loc, *labels), model.reconstruct(x, y))


def test_flow_is_a_function_of_noise_with_the_density_of_its_samples() -> None:
    model = VAE(latent_dim=2, net=NET, posterior={"name": "iaf", "hidden": [8], "context": 3}).eval()
    function = functions_of(model, X, Y)[0]
    assert list(function.inputs) == ["x", "noise"]
    noise = torch.randn(2, 2)
    with torch.no_grad():
        z, log_prob = traced(function).module()(X[:2], noise)
        # another copy of the point, whose density the flow has to compute by its inverse
        assert torch.allclose(log_prob, model.posterior(X[:2]).log_prob(z.clone()), atol=1e-4)
    assert not torch.equal(z[0], z[1])


class LaplaceVAE(VAE):
    def posterior(self, x: Tensor, y: Tensor | None = None, dropout: Any = None) -> Distribution:
        gaussian = super().posterior(x, y, dropout)
        return Independent(Laplace(gaussian.mean, gaussian.stddev, validate_args=False), 1, validate_args=False)


def test_posterior_of_ones_own_is_a_function_of_noise() -> None:
    function = functions_of(LaplaceVAE(latent_dim=2, net=NET).eval(), X, Y)[0]
    assert function.outputs == ("z", "log_prob")
    z, _ = function.module(X, torch.zeros(3, 2))
    assert torch.allclose(z, LaplaceVAE.posterior(function.module.model, X).mean, atol=1e-6)


class Counting(nn.Module):
    """A decoder that asks how many latents there are."""

    def __init__(self, latent_dim: int, outputs: int, image_shape: Any, **_: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        if float(z.sum()) > 0:
            return torch.zeros(z.shape[0], 1, 28, 28) * self.scale
        return torch.ones(z.shape[0], 1, 28, 28) * self.scale


def test_function_that_looks_at_values_is_refused_by_name() -> None:
    model = VAE(latent_dim=2, net=NET, decoder=Counting(2, 1, (1, 28, 28))).eval()
    with pytest.raises(ConfigurationError, match=r"^decoder: cannot be traced as a graph") as refusal:
        traced(functions_of(model, X, Y)[1])
    assert "\n" not in str(refusal.value)
