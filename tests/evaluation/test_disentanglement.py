"""Metrics of disentanglement on representations whose answers are known: the factors themselves, their mixture, noise."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import Squares, factors_of

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation import disentanglement
from vae_lightning.evaluation.disentanglement import disentanglement_report
from vae_lightning.evaluation.factor_codes import DisentanglementSettings

SETTINGS = DisentanglementSettings(num_train=800, num_test=500, batch_size=16, num_variance=500, num_resamples=10)
FEW = DisentanglementSettings(num_train=100, num_test=50, batch_size=4, num_variance=100, num_resamples=5, num_trees=2)
LOW, HIGH = 0.08, 0.92


def mixed(images: Tensor) -> Tensor:
    """Both factors, turned by 45 degrees: each latent tells as much about one as about the other."""
    return factors_of(images) @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def constant(images: Tensor) -> Tensor:
    return torch.ones(len(images), 2)


def report(represent: Callable[[Tensor], Tensor], *sizes: int) -> dict[str, float]:
    return {name: e.value for name, e in disentanglement_report(represent, Squares(*sizes), "none", SETTINGS).items()}


def test_the_factors_themselves_are_disentangled() -> None:
    values = report(factors_of, 2, 2)
    assert values.pop("sap") == pytest.approx(0.5, abs=LOW)  # the second latent is right half of the time
    assert all(value > HIGH for value in values.values()), values
    assert values["factor_vae_score"] == values["dci_informativeness"] == 1


def test_so_are_they_in_another_order_and_stretched_beside_a_dead_latent() -> None:
    def represent(images: Tensor) -> Tensor:
        return torch.cat([factors_of(images).flip(-1) * torch.tensor([-3.0, 0.5]), torch.zeros(len(images), 1)], -1)

    values = report(represent, 5, 4)
    assert values.pop("sap") > 0.2
    assert all(value > HIGH for value in values.values()), values


def test_a_mixture_of_the_factors_is_not() -> None:
    values = report(mixed, 5, 5)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness"):
        assert values[name] < LOW, name
    for name in ("factor_vae_score", "beta_vae_score"):
        assert values[name] == pytest.approx(0.5, abs=LOW), name
    assert values["dci_informativeness"] > 0.6, "all is still there"


def test_a_constant_tells_nothing() -> None:
    values = report(constant, 5, 5)
    for name in ("mig", "sap", "dci_disentanglement", "dci_completeness", "factor_vae_score"):
        assert values[name] == 0, name
    assert values["dci_informativeness"] == pytest.approx(0.2, abs=LOW)
    assert values["beta_vae_score"] == pytest.approx(0.5, abs=LOW)


def test_report_is_a_function_of_its_seed() -> None:
    def values(seed: int) -> list[float]:
        return [e.value for e in disentanglement_report(mixed, Squares(5, 5), "none", FEW, seed).values()]

    assert values(0) == values(0)
    assert values(0) != values(1)


def test_report_says_how_and_of_what() -> None:
    made = disentanglement_report(mixed, Squares(3, 3), "threshold", FEW)
    assert list(made) == [name for names in disentanglement.METRICS for name in names]
    for name, estimate in made.items():
        assert estimate.section == "disentanglement"
        assert estimate.binarization == "threshold"
        assert estimate.settings["num_trees"] == 2
        assert 0 <= estimate.value <= 1
        assert estimate.seconds > 0
        without = name in ("dci_disentanglement", "dci_completeness")
        assert math.isnan(estimate.standard_error) == without, name


def test_one_latent_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^latent_dim=1: must be at least 2"):
        disentanglement_report(lambda images: torch.zeros(len(images), 1), Squares(2, 2), "none", SETTINGS)
