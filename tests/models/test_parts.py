"""A part that an import path leads to is one of its kind, or refused in one line, whatever the argument."""

from typing import Any

import pytest

from vae_lightning.errors import ConfigurationError
from vae_lightning.models import M1, M2, VAE, Classifier

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


@pytest.mark.parametrize(("kind", "classes"), [(M1, "classes"), (M2, "num_classes")])
def test_what_is_no_classifier_is_refused(kind: Any, classes: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^classifier\.name=foreign_nets\.text: builds an object of str, which has no parameters"
    ):
        kind(**SMALL, **{classes: 3}, classifier="foreign_nets.text")
    with pytest.raises(ConfigurationError, match=r"^net\.name=foreign_nets\.text: builds an object of str"):
        Classifier(net="foreign_nets.text")
