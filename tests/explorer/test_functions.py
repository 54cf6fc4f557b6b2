"""The functions of a page are those of the model: the ELBO's two terms from given noise, and samples of the prior."""

import pytest
import torch
from torch import nn

from vae_lightning import VAE, Classifier
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.functions import functions_for_page
from vae_lightning.models import M2
from vae_lightning.types import Noise

NET = {"name": "mlp", "hidden": [8]}
X = torch.linspace(0, 1, 3 * 784).reshape(3, 1, 28, 28).round()
Y = torch.tensor([0, 2, 1])


@pytest.mark.parametrize("num_classes", [0, 3])
def test_terms_are_those_of_training(num_classes: int) -> None:
    model = VAE(latent_dim=2, net=NET, num_classes=num_classes).eval()
    noise = torch.randn(3, 2)
    labels = (Y,) if num_classes else ()
    with torch.no_grad():
        log_likelihood, kl = functions_for_page(model, X, Y)["terms"].module(X, noise, *labels)
        expected = model.terms(model(X, Y, Noise(noise.unsqueeze(0))), X, Y, torch.tensor(0.0))
    assert torch.equal(log_likelihood, expected["log_likelihood"])
    assert torch.equal(kl, expected["kl"])


def test_prior_is_a_function_of_noise() -> None:
    model = VAE(latent_dim=2, net=NET, prior={"name": "mog", "components": 5}).eval()
    noise = torch.randn(3, 2)
    with torch.no_grad():
        assert torch.equal(functions_for_page(model, X, Y)["prior"].module(noise), from_noise(model.prior(), noise))


def test_a_model_that_classifies_has_a_classifier() -> None:
    assert set(functions_for_page(M2(latent_dim=2, net=NET, num_classes=3).eval(), X, Y)) == {
        "encoder",
        "decoder",
        "classifier",
        "terms",
        "prior",
    }


@pytest.mark.parametrize("model", [Classifier(net={"name": "classifier_mlp", "hidden": [8]}, num_classes=3), nn.Identity()])
def test_a_model_without_a_latent_is_refused(model: nn.Module) -> None:
    with pytest.raises(ConfigurationError, match="has no latent, so there is nothing to explore"):
        functions_for_page(model, X, Y)
