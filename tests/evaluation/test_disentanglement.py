"""Metrics of disentanglement on representations whose answers are known: the factors themselves, their mixture, noise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor

from vae_lightning.data import Shapes2DDataModule
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation import disentanglement
from vae_lightning.evaluation.disentanglement import (
    Codes,
    DisentanglementSettings,
    GroundTruth,
    beta_vae_score,
    dci,
    disentanglement_report,
    factor_vae_score,
    mutual_information_gap,
    separated_attribute_predictability,
)
from vae_lightning.noise import generator

SETTINGS = DisentanglementSettings(num_train=800, num_test=500, batch_size=16, num_variance=500, num_resamples=10)
FEW = DisentanglementSettings(num_train=100, num_test=50, batch_size=4, num_variance=100, num_resamples=5, num_trees=2)
LOW, HIGH = 0.08, 0.92


class Squares:
    """Images whose first pixels are the factors' values."""

    def __init__(self, *sizes: int) -> None:
        self.factor_sizes = sizes
        self.factor_names = tuple("abcdef"[: len(sizes)])

    def images_of(self, factors: Tensor) -> Tensor:
        images = torch.zeros(len(factors), 784)
        images[:, : factors.shape[-1]] = factors / 10
        return images.view(-1, 1, 28, 28)


class Enumerated(Codes):
    """All combinations equally often, in place of a draw."""

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        every = torch.cartesian_prod(*[torch.arange(size) for size in self.sizes])
        return every.repeat(count // len(every), 1)


def factors_of(images: Tensor) -> Tensor:
    return 10 * images.flatten(1)[:, :2]


def mixed(images: Tensor) -> Tensor:
    """Both factors, turned by 45 degrees: each latent tells as much about one as about the other."""
    return factors_of(images) @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def constant(images: Tensor) -> Tensor:
    return torch.ones(len(images), 2)


def noise() -> Callable[[Tensor], Tensor]:
    source = generator(0, "noise")
    return lambda images: torch.randn(len(images), 2, generator=source)


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


def test_noise_is_at_chance() -> None:
    codes, source = Codes(noise(), Squares(5, 5)), generator(1)
    assert mutual_information_gap(codes, SETTINGS, source).value < LOW
    assert separated_attribute_predictability(codes, SETTINGS, source).value < LOW
    scores = dci(codes, SETTINGS, source)
    assert scores[0].value < LOW
    assert scores[1].value < LOW
    assert scores[2].value == pytest.approx(0.2, abs=LOW)
    assert factor_vae_score(codes, SETTINGS, source).value == pytest.approx(0.5, abs=LOW)
    assert beta_vae_score(codes, SETTINGS, source).value == pytest.approx(0.5, abs=LOW)


def test_mutual_information_gap_by_hand() -> None:
    # of the four values of the first factor, the first latent tells all (log 4) and the second tells halves (log 2);
    # the third latent alone tells the second factor: the gaps are 1/2 and 1
    def represent(images: Tensor) -> Tensor:
        a, b = factors_of(images).T
        return torch.stack([a, (a + 0.01).div(2).floor(), b], -1)

    settings = DisentanglementSettings(num_train=800, num_resamples=5)
    score = mutual_information_gap(Enumerated(represent, Squares(4, 2)), settings, generator(0))
    assert score.value == pytest.approx(0.75, abs=1e-12)


def test_information_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    bins, factors = rng.integers(20, size=(3, 500)), rng.integers(4, size=(500, 2))
    bins[0] = 5 * factors[:, 1] + bins[0] // 4
    ours = disentanglement._normalised_information(bins, factors, (4, 4), np.ones(500))
    for j, factor in enumerate(factors.T):
        entropy = mutual_info_score(factor, factor)
        np.testing.assert_allclose(ours[:, j], [mutual_info_score(latent, factor) / entropy for latent in bins])


def test_bins_are_of_equal_width_and_hold_both_ends() -> None:
    assert disentanglement._histogram_bins(np.array([0.0, 0.24, 0.26, 0.9, 1.0]), 4).tolist() == [0, 0, 1, 3, 3]


@pytest.mark.parametrize(
    ("importance", "disentangled", "complete"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 1, 1),
        ([[0.5, 0.5], [0.5, 0.5]], 0, 0),
        ([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]], 1, 1 - math.log(2) / math.log(3) / 2),
        ([[1.0, 1.0], [0.0, 0.0]], 0, 1),
        ([[0.0, 0.0], [0.0, 0.0]], 0, 0),
    ],
)
def test_concentration_by_hand(importance: list[list[float]], disentangled: float, complete: float) -> None:
    matrix = np.array(importance)
    assert disentanglement._concentration(matrix) == pytest.approx(disentangled)
    assert disentanglement._concentration(matrix.T) == pytest.approx(complete)


def test_factor_vae_score_leaves_dead_latents_out() -> None:
    # a latent of hardly any variance would win votes: relative to its own, chance makes that of a batch small or large
    def represent(images: Tensor) -> Tensor:
        a, b = factors_of(images).T
        return torch.stack([a + b, a - b, 0.001 * (a - b)], -1)

    pruned = DisentanglementSettings(num_train=300, num_test=300, batch_size=8)
    codes = Codes(represent, Squares(5, 5), expected=1000)
    assert factor_vae_score(codes, pruned, generator(0)) == factor_vae_score(
        Codes(lambda images: represent(images)[:, :2], Squares(5, 5)), pruned, generator(0)
    )


def test_standard_errors_are_the_spread_over_seeds() -> None:
    def represent(images: Tensor) -> Tensor:
        a, b = factors_of(images).T
        return torch.stack([a + 0.5 * b, b - 0.3 * a], -1)

    settings = DisentanglementSettings(num_train=300, num_resamples=30)
    codes = Codes(represent, Squares(4, 4), expected=1000)
    scores = [mutual_information_gap(codes, settings, generator(seed)) for seed in range(60)]
    spread = float(np.std([score.value for score in scores], ddof=1))
    assert np.mean([score.standard_error for score in scores]) == pytest.approx(spread, rel=0.3)


def test_a_table_of_all_combinations_holds_what_is_encoded_one_by_one() -> None:
    data, factors = Squares(3, 4, 2), torch.tensor([[[2, 3, 1], [0, 0, 0]], [[1, 2, 1], [2, 0, 1]]])
    calls: list[int] = []

    def represent(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images.flatten(1)[:, :3]

    direct, table = Codes(represent, data), Codes(represent, data, expected=24)
    assert calls == [24]
    assert torch.equal(table(factors), factors / 10)
    assert calls == [24]
    assert torch.equal(direct(factors), table(factors))
    assert calls == [24, 4]


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
    with pytest.raises(ConfigurationError, match=r"model\.latent_dim=1: must be at least 2"):
        disentanglement_report(lambda images: torch.zeros(len(images), 1), Squares(2, 2), "none", SETTINGS)


@pytest.mark.parametrize("name", ["num_train", "batch_size", "num_trees", "svm_penalty", "leaf_share"])
def test_impossible_settings_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"disentanglement\.{name}=0: must be"):
        DisentanglementSettings(**{name: 0})


def test_places_of_rendered_shapes_are_found_by_their_centres() -> None:
    data: GroundTruth = Shapes2DDataModule(binarization="none")

    place = torch.arange(28.0) - 14
    moments = torch.stack([place.repeat(28), place.repeat_interleave(28), torch.ones(784)], -1)

    def represent(images: Tensor) -> Tensor:
        x, y, mass = (images.flatten(1) @ moments).T
        return torch.stack([x / mass, y / mass, mass.sqrt()], -1)

    settings = DisentanglementSettings(num_train=200, num_test=100, batch_size=16, num_variance=500)
    codes = Codes(represent, data)
    z, factors = codes.draw_pairs(2000, generator(0))
    bins = np.stack([disentanglement._histogram_bins(latent, 20) for latent in z.T])
    share = disentanglement._normalised_information(bins, factors, data.factor_sizes, np.ones(2000))
    names = data.factor_names
    # twenty bins tell at most log 20 of log 32
    assert share[0, names.index("x")] > 0.8
    assert share[1, names.index("y")] > 0.8
    assert share[2, names.index("scale")] > 0.5
    assert share[2, names.index("x")] < 0.15
    assert factor_vae_score(codes, settings, generator(0)).value > 0.4
