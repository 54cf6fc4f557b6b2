"""Scores of representations whose answers are known by hand, by another library, or by chance."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score
from torch import Tensor
from toys import Squares, factors_of

from vae_lightning.data import Shapes2DDataModule
from vae_lightning.evaluation import factor_scores
from vae_lightning.evaluation.factor_codes import Codes, DisentanglementSettings, GroundTruth
from vae_lightning.evaluation.factor_scores import (
    beta_vae_score,
    dci,
    factor_vae_score,
    mutual_information_gap,
    separated_attribute_predictability,
)
from vae_lightning.noise import generator

SETTINGS = DisentanglementSettings(num_train=800, num_test=500, batch_size=16, num_variance=500, num_resamples=10)
LOW = 0.08


class Enumerated(Codes):
    """All combinations equally often, in place of a draw."""

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        every = torch.cartesian_prod(*[torch.arange(size) for size in self.sizes])
        return every.repeat(count // len(every), 1)


def noise() -> Callable[[Tensor], Tensor]:
    source = generator(0, "noise")
    return lambda images: torch.randn(len(images), 2, generator=source)


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
    ours = factor_scores._normalised_information(bins, factors, (4, 4), np.ones(500))
    for j, factor in enumerate(factors.T):
        entropy = mutual_info_score(factor, factor)
        np.testing.assert_allclose(ours[:, j], [mutual_info_score(latent, factor) / entropy for latent in bins])


def test_bins_are_of_equal_width_and_hold_both_ends() -> None:
    assert factor_scores._histogram_bins(np.array([0.0, 0.24, 0.26, 0.9, 1.0]), 4).tolist() == [0, 0, 1, 3, 3]


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
    assert factor_scores._concentration(matrix) == pytest.approx(disentangled)
    assert factor_scores._concentration(matrix.T) == pytest.approx(complete)


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
    bins = np.stack([factor_scores._histogram_bins(latent, 20) for latent in z.T])
    share = factor_scores._normalised_information(bins, factors, data.factor_sizes, np.ones(2000))
    names = data.factor_names
    # twenty bins tell at most log 20 of log 32
    assert share[0, names.index("x")] > 0.8
    assert share[1, names.index("y")] > 0.8
    assert share[2, names.index("scale")] > 0.5
    assert share[2, names.index("x")] < 0.15
    assert factor_vae_score(codes, settings, generator(0)).value > 0.4
