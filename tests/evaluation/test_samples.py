"""Judges of which one knows what they will say of samples."""

import math

import pytest
import torch
from torch import Tensor
from toys import LinearGaussian, Painter

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.distances import frechet_distance
from vae_lightning.evaluation.samples import draw_samples, sample_report
from vae_lightning.noise import generator


class Reader:
    """Says 1 for images whose first row is black and 0 for others, as sure as told; the features are means of rows."""

    def __init__(self, sure: float = 0.9) -> None:
        self.sure = sure

    def predict(self, x: Tensor) -> Tensor:
        odd = torch.where(x[:, 0, 0].mean(-1) > 0.5, self.sure, 1 - self.sure)
        return torch.stack([1 - odd, odd], dim=-1)

    def features(self, x: Tensor) -> Tensor:
        return x[:, 0].mean(-1)


class Clueless(Reader):
    """All of seven classes are equally likely to it."""

    def predict(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 7), 1 / 7)


def drawn(count: int, *key: int | str) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 2
    return draw_samples(Painter(num_classes=2), count, labels, generator("test samples", *key)), labels


def test_samples_are_binary_draws_of_the_prior_and_the_likelihood() -> None:
    x = draw_samples(Painter(), 2000, None, generator(0))
    assert x.shape == (2000, 1, 28, 28)
    assert ((x == 0) | (x == 1)).all()
    # the share of black pixels of a half is sigmoid(z), z standard normal
    halves = x.unflatten(-1, (2, 14)).mean((1, 2, 4))
    expected = torch.sigmoid(torch.randn(10**6, generator=generator("test samples", 0), dtype=torch.float64))
    assert halves.mean().item() == pytest.approx(0.5, abs=0.02)
    pixel_variance = (expected * (1 - expected)).mean().item() / 392
    assert halves.var().item() == pytest.approx(expected.var().item() + pixel_variance, rel=0.1)


def test_source_alone_decides_the_samples_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (draw_samples(Painter(), 5, None, generator(key), max_batch=2) for key in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:2], first[2:4])
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_reach_the_samples_batch_by_batch() -> None:
    labels = torch.tensor([1, 0, 0, 1, 1, 0, 1])
    x = draw_samples(Painter(num_classes=2), 7, labels, generator(0), max_batch=3)
    assert torch.equal(x[:, 0, 0].mean(-1), labels.float())


def test_samples_of_other_likelihoods_stay_within_the_range_of_images() -> None:
    x = draw_samples(LinearGaussian(), 100, None, generator(0))
    assert x.shape == (100, 5)
    assert 0 == x.min() < x.max() == 1


@pytest.mark.parametrize(("count", "labels", "named"), [(0, None, "count=0"), (3, 2, "y=2 labels")])
def test_impossible_wishes_are_refused(count: int, labels: int | None, named: str) -> None:
    y = None if labels is None else torch.zeros(labels, dtype=torch.int64)
    with pytest.raises(ConfigurationError, match=named):
        draw_samples(Painter(num_classes=2), count, y, generator(0))


# ---- the report


def test_conditional_samples_are_judged_by_the_label_they_were_drawn_for() -> None:
    (x, y), (real, real_labels), (reference, _) = drawn(400, 0), drawn(300, 1), drawn(400, 2)
    wrong = torch.cat([y[:300], 1 - y[300:]])
    half = torch.cat([real_labels[:150], 1 - real_labels[150:]])
    report = sample_report(x, wrong, real, half, reference, Reader(0.8), binarization="dynamic")
    values = {name: estimate.value for name, estimate in report.items()}
    assert (values["accuracy_samples"], values["accuracy_real"], values["accuracy_gap"]) == (0.75, 0.5, 0.25)
    assert report["accuracy_samples"].standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 399))
    assert report["accuracy_gap"].standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 399 + 0.25 / 299))
    assert values["confidence_samples"] == pytest.approx(values["confidence_real"]) == pytest.approx(0.8)
    assert not any(name.startswith("class_") for name in report)


def test_balance_of_samples_of_one_class_only() -> None:
    (x, y), (real, real_labels), (reference, _) = drawn(400, 0), drawn(400, 1), drawn(200, 2)
    report = sample_report(x[y == 1], None, real, real_labels, reference, Reader(1.0), binarization="dynamic")
    assert report["class_entropy"].value == pytest.approx(0, abs=1e-12)
    assert report["class_balance_tv"].value == pytest.approx(0.5)
    assert report["class_balance_tv_real"].value == pytest.approx(0, abs=1e-12)
    assert "accuracy_samples" not in report
    assert report["accuracy_real"].value == 1


def test_entropy_of_a_judge_without_a_clue_is_log_of_the_number_of_classes() -> None:
    x, y = drawn(50, 0)
    estimate = sample_report(x, None, x, y, x, Clueless(), binarization="dynamic")["class_entropy"]
    assert estimate.value == pytest.approx(math.log(7))
    assert estimate.standard_error == pytest.approx(0, abs=1e-8)
    assert estimate.settings["log_num_classes"] == math.log(7)
    assert estimate.settings["shares"] == [0.1429] * 7


def test_error_of_the_entropy_is_that_of_the_share_times_the_slope() -> None:
    """With a share s of two classes, dH / ds = log((1 - s) / s)."""
    (odd, _), (real, y) = drawn(200, 0), drawn(24, 1)
    odd[:, :, 0] = (torch.arange(200) < 40).float().view(-1, 1, 1)
    estimate = sample_report(odd, None, real, y, real, Reader(1.0), binarization="dynamic")["class_entropy"]
    assert estimate.value == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))
    assert estimate.standard_error == pytest.approx(math.log(4) * math.sqrt(0.2 * 0.8 / 199))


def test_distances_of_samples_are_further_than_those_of_real_images_and_all_is_said() -> None:
    (real, real_labels), (reference, _) = drawn(500, 1), drawn(600, 2)
    samples = (torch.rand(400, 1, 28, 28, generator=generator(0)) < 0.9).float()
    report = sample_report(
        samples, None, real, real_labels, reference, Reader(), binarization="dynamic", settings={"classifier": "a"}, max_batch=37
    )
    for name in ("frechet_distance", "frechet_distance_infinity", "kernel_distance"):
        own, other = report[name], report[f"{name}_real"]
        assert own.value > other.value + 3 * math.hypot(own.standard_error, other.standard_error), name
        assert (own.num_images, other.num_images) == (400, 600)
        assert own.settings["other_images"] == other.settings["other_images"] == 500
    assert report["frechet_distance"].value == pytest.approx(frechet_distance(*map(Reader().features, (samples, real))), rel=1e-6)
    for estimate in report.values():
        assert (estimate.section, estimate.binarization, estimate.settings["classifier"]) == ("samples", "dynamic", "a")
        assert estimate.seconds > 0


def test_order_of_the_images_does_not_matter_to_what_is_known_of_subsets() -> None:
    """Sorted by class, as Larochelle's test images are, parts of the set would differ by more than chance."""
    (real, y), (reference, _) = drawn(600, 1), drawn(600, 2)
    sorted_by_class = real[y.argsort(stable=True)]
    report = sample_report(sorted_by_class, None, reference, y, reference, Reader(), binarization="dynamic")
    estimate = report["frechet_distance_infinity"]
    assert abs(estimate.value) < 4 * estimate.standard_error
    assert abs(report["kernel_distance"].value) < 4 * report["kernel_distance"].standard_error


def test_means_in_place_of_samples_are_refused() -> None:
    real, y = drawn(30, 0)
    with pytest.raises(ConfigurationError, match="images=samples grey and real binary and reference binary: must be all binary"):
        sample_report(real * 0.9, None, real, y, real, Reader(), binarization="dynamic")


def test_labels_that_do_not_fit_are_refused() -> None:
    real, y = drawn(30, 0)
    with pytest.raises(ConfigurationError, match="labels=29: must be one for each of 30 images"):
        sample_report(real, None, real, y[:29], real, Reader(), binarization="dynamic")
