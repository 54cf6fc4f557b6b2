"""A part that an import path leads to is one of its kind, or refused in one line, whatever the argument."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import M1, M2, VAE, Classifier
from vae_lightning.models.parts import require_distribution, require_per_image

SMALL: dict[str, Any] = {"latent_dim": 2, "net": {"name": "mlp", "hidden": [8]}, "image_shape": (1, 4, 4)}


@pytest.mark.parametrize("argument", ["likelihood", "prior", "posterior", "objective"])
def test_what_is_no_part_of_a_vae_is_refused_with_what_it_lacks(argument: str) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^{argument}\.name=foreign_nets\.text: builds an object of str, which has no parameters"
    ):
        VAE(**SMALL, **{argument: "foreign_nets.text"})
    lacks = rf"^{argument}\.name=torch\.nn\.Identity: builds an object of Identity, which has no \w+(, \w+)*; inherit from vae_lightning\.\w+\.\w+\."
    with pytest.raises(ConfigurationError, match=lacks):
        VAE(**SMALL, **{argument: "torch.nn.Identity"})


@pytest.mark.parametrize("argument", ["likelihood", "prior", "posterior", "objective", "encoder", "decoder"])
def test_module_that_does_not_begin_as_one_is_refused(argument: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{argument}.*: NotBegun\.__init__ does not call super\(\)\.__init__\(\)$"):
        VAE(**SMALL, **{argument: {"name": "foreign_nets.NotBegun"}})


@pytest.mark.parametrize(("kind", "classes"), [(M1, "classes"), (M2, "num_classes")])
def test_what_is_no_classifier_is_refused(kind: Any, classes: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^classifier\.name=foreign_nets\.text: builds an object of str, which has no parameters"
    ):
        kind(**SMALL, **{classes: 3}, classifier="foreign_nets.text")
    with pytest.raises(ConfigurationError, match=r"^net\.name=foreign_nets\.text: builds an object of str"):
        Classifier(net="foreign_nets.text")


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
    model = VAE(**SMALL)
    model.posterior_of.forward = lambda loc, log_variance: Normal(loc, log_variance.exp())  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match=r"posterior: DiagonalPosterior gave a Normal of batch shape \(3, 2\)"):
        model.posterior(torch.zeros(3, 1, 4, 4))


def test_number_that_an_objective_does_not_have_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^objective\.numbers=wieght: must be the name of an attribute"):
        VAE(**SMALL, objective="foreign_objectives.Misspelt")
