"""What a part of a model must be and give; `tests/plugin/test_broken.py` has what is said of a command's."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal
from vae_lightning.models.fitting import built, require_distribution, require_per_image

from vae_lightning import VAE
from vae_lightning.distributions.priors import PRIORS, Prior
from vae_lightning.errors import ConfigurationError


def test_part_of_the_right_kind_is_given_as_it_is() -> None:
    prior = built("prior", {"name": "standard"}, PRIORS, Prior, latent_dim=2, num_classes=0)
    assert isinstance(prior, Prior)
    with pytest.raises(
        ConfigurationError, match=r"prior\.name=torch\.nn\.Identity: builds an Identity, which is no .*priors\.Prior"
    ):
        built("prior", {"name": "torch.nn.Identity"}, PRIORS, Prior, latent_dim=2)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_distribution_of_one_of_the_shapes_is_given_as_it_is(batch: tuple[int, ...]) -> None:
    right = Independent(Normal(torch.zeros(*batch, 2), 1.0), 1)
    assert require_distribution(right, nn.Identity(), "prior", [(), (3,)], (2,)) is right
    for wrong in (Normal(torch.zeros(*batch, 2), 1.0), Independent(Normal(torch.zeros(4, 2), 1.0), 1), torch.zeros(2), None):
        with pytest.raises(
            ConfigurationError, match=r"prior: Identity gave an? .*batch shape \(\) or \(3,\) and event shape \(2,\)"
        ):
            require_distribution(wrong, nn.Identity(), "prior", [(), (3,)], (2,))


def test_one_number_an_image() -> None:
    right = torch.zeros(3)
    assert require_per_image(right, nn.Identity(), "objective", 3) is right
    for wrong in (torch.zeros(()), torch.zeros(3, 1), 3.0, None):
        with pytest.raises(ConfigurationError, match=r"objective: Identity gave an? "):
            require_per_image(wrong, nn.Identity(), "objective", 3)


def test_part_that_goes_wrong_later_is_told_where_it_is_used() -> None:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [4]})
    model.posterior_of.forward = lambda loc, log_variance: Normal(loc, log_variance.exp())  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match=r"posterior: DiagonalPosterior gave a Normal of batch shape \(3, 2\)"):
        model.posterior(torch.zeros(3, 1, 28, 28))
