"""A likelihood that is one passes every check that applies to it, and what fails is in the report by name and size."""

import math

import pytest
import torch
from planted import Halves, linear_images, material_of
from torch import Tensor
from torch.distributions import Distribution
from toys import LinearGaussian

from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.verification.part import FAILED, NOT_APPLICABLE, PASSED, verification, verify
from vae_lightning.evaluation.verification.verdict import CHECKS


def linear(latent_dim: int = 2, **settings: object) -> Material:
    model = LinearGaussian(pixels=12, latent_dim=latent_dim, shift=0.2, stretch=1.2)
    return material_of(model, linear_images(model), count=24)


@pytest.mark.parametrize(
    ("material", "left_out"),
    [
        (linear, {"causality/steps", "mass/labels", "order/reported"}),
        (lambda: linear(3), {"causality/steps", "mass/labels", "order/reported", "order/exact", "order/ais_exact"}),
        (
            lambda: material_of(Halves(num_classes=2), Halves(num_classes=2).images, num_classes=2),
            {"causality/steps", "independence/labels", "order/reported"},
        ),
    ],
    ids=["exact", "three latents", "conditional"],
)
def test_likelihood_that_is_one_passes_all_that_applies(material: object, left_out: set[str]) -> None:
    assert callable(material)
    verdicts = verify(material())
    assert {v.name: v.line for v in verdicts if v.applies and not v.passed} == {}
    assert {v.name for v in verdicts if not v.applies} == left_out
    assert {v.name for v in verdicts} == set(CHECKS)
