"""What cannot be right is said, and what is right is left alone."""

import pytest

from vae_lightning.evaluation.sanity import warnings_of
from vae_lightning.types import Estimate


def report(elbo: float = -95.0, nll: float = 90.0, binarization: str = "dynamic", error: float = 0.2) -> dict[str, Estimate]:
    values = {"elbo": elbo, "nll": nll, "kl": 25.0}
    return {name: Estimate(value, error, 10_000, 1, binarization, "") for name, value in values.items()}


def test_good_estimates_raise_no_warning() -> None:
    assert warnings_of({"test": report(), "train": report(-93.0, 88.0)}, nll_floor=76.0) == []


def test_simulated_images_are_not_another_binarization() -> None:
    simulated = Estimate(0.1, 0.01, 100, 16, "simulated", "")
    assert warnings_of({"test": {**report(), "bdmc/gap": simulated}}) == []


@pytest.mark.parametrize("name", ["nll", "nll/ais", "nll/k_10", "nll_marginal"])
def test_likelihood_below_the_floor_is_a_claim_to_be_verified(name: str) -> None:
    low = {**report(), name: Estimate(75.9, 0.1, 100, 10, "dynamic", "")}
    (warning,) = warnings_of({"test": low}, nll_floor=76.0)
    assert f"test/{name} is 75.90 nats, below 76: a claim to be verified" in warning
    assert "evaluation.parts=[verification]" in warning
    (warning,) = warnings_of({"test": {**low, "verified": Estimate(1.0, 0.1, 20, 0, "dynamic", "")}}, nll_floor=76.0)
    assert "see the stamp of this report" in warning


def test_low_likelihood_of_thresholded_images_compares_with_nothing_published() -> None:
    low = report(-70.0, 65.0, "threshold")
    (warning,) = warnings_of({"test": low}, nll_floor=76.0)
    assert "test/nll is 65.00 nats, below 76: thresholded images cost less" in warning


def test_densities_and_other_data_have_no_floor() -> None:
    assert warnings_of({"test": report(600.0, -650.0)}) == []


def test_what_is_left_of_an_image_may_cost_less_than_the_floor() -> None:
    assert (
        warnings_of({"test": {**report(), "nll_unseen/given_3_quadrants": Estimate(20.0, 1, 9, 1, "dynamic", "")}}, nll_floor=76.0)
        == []
    )


@pytest.mark.parametrize(("gap", "is_wrong"), [(5.0, False), (0.0, False), (-0.29, False), (-0.31, True), (-1.0, True)])
def test_bound_above_the_likelihood_by_more_than_chance(gap: float, is_wrong: bool) -> None:
    """By the error of the difference of each image: between images the bound differs by far more."""
    both = {**report(-90.0 - gap, 90.0, error=2.0), "variational_gap": Estimate(gap, 0.1, 10_000, 100, "dynamic", "")}
    warnings = warnings_of({"test": both})
    assert len(warnings) == is_wrong
    if warnings:
        assert f"test/elbo, a lower bound of log p(x), is {-gap:.2f} nats above -test/nll" in warnings[0]


def test_mixed_binarizations_are_not_comparable() -> None:
    (warning,) = warnings_of({"test": report(), "train": report(binarization="static")})
    assert "several binarizations" in warning
    assert "dynamic, static" in warning


def test_judge_of_another_binarization() -> None:
    def judged_by(binarization: str) -> dict[str, Estimate]:
        distance = Estimate(10.0, 1.0, 100, 0, "dynamic", "", {"judged_by": binarization}, section="samples")
        return {**report(), "frechet_distance": distance, "kernel_distance": distance}

    assert warnings_of({"test": judged_by("dynamic")}) == []
    (warning,) = warnings_of({"test": judged_by("none")})
    assert "trained on none" in warning
    assert "images of binarization dynamic" in warning


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_estimates_that_are_not_finite(value: float) -> None:
    broken = {**report(), "acceptance/ais": Estimate(value, 0.1, 100, 16, "dynamic", "")}
    assert warnings_of({"test": broken}) == ["test: not finite: acceptance/ais"]


def test_densities_of_black_and_white_are_called_no_bound() -> None:
    (warning,) = warnings_of({"test": report(1223.0, -1225.0)}, binary=False)
    assert warning.startswith("elbo and nll are of a distribution of grey levels, taken at black and white: no bound")
    assert warnings_of({"test": report(650.0, -660.0, "none")}, binary=False) == []
    accuracy = {"accuracy": Estimate(0.99, 0.001, 100, 0, "dynamic", "")}
    assert warnings_of({"test": accuracy}, binary=False) == [], "a classifier has no likelihood"


def test_grey_levels_are_called_no_outcomes_of_black_and_white() -> None:
    (warning,) = warnings_of({"test": report(90.0, -100.0, "none")}, grey=True)
    assert warning.startswith("grey levels are no outcomes of a distribution of binary images")
    assert warnings_of({"test": report(650.0, -660.0, "none")}, binary=False, grey=True) == []
    accuracy = {"accuracy": Estimate(0.99, 0.001, 100, 0, "none", "")}
    assert warnings_of({"test": accuracy}, grey=True) == [], "a classifier has no likelihood"
