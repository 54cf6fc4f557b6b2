"""Probes of latents that tell the class fully, by distance only, and not at all."""

import math

import pytest
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.probes import knn_accuracy, linear_probe_accuracy, probe_report
from vae_lightning.noise import generator


def clusters(count: int, distance: float, *key: int | str) -> tuple[Tensor, Tensor]:
    """Five unit Gaussians, at so many deviations from the origin along an axis each, in 6 dimensions; equally many of each."""
    labels = torch.arange(count) % 5
    means = torch.randn(count, 6, generator=generator("test probes", *key))
    means[torch.arange(count), labels] += distance
    return means, labels


def test_clusters_far_apart_are_told_apart_by_both() -> None:
    report = probe_report(*clusters(500, 12.0, "train"), *clusters(300, 12.0, "test"), "dynamic")
    assert list(report) == ["linear_probe_accuracy", "knn_accuracy"]
    for estimate in report.values():
        assert (estimate.value, estimate.standard_error, estimate.num_images) == (1, 0, 300)
        assert (estimate.section, estimate.binarization) == ("latent quality", "dynamic")
        assert estimate.settings["train_images"] == 500
        assert estimate.seconds > 0
    assert report["knn_accuracy"].settings["k"] == 5


def test_noise_is_told_apart_as_often_as_by_chance() -> None:
    for estimate in probe_report(*clusters(500, 0.0, "train"), *clusters(1000, 0.0, "test"), "dynamic").values():
        assert estimate.value == pytest.approx(0.2, abs=4 * estimate.standard_error)
        assert estimate.standard_error == pytest.approx(math.sqrt(estimate.value * (1 - estimate.value) / 1000))


def test_rings_have_no_plane_between_them_but_neighbours() -> None:
    angle = torch.rand(800, generator=generator(0)) * 2 * math.pi
    labels = torch.arange(800) % 2
    rings = (1 + labels).unsqueeze(-1) * torch.stack([angle.cos(), angle.sin()], dim=-1)
    report = probe_report(rings[:400], labels[:400], rings[400:], labels[400:], "dynamic")
    assert report["knn_accuracy"].value == 1
    assert report["linear_probe_accuracy"].value < 0.7


def test_linear_probe_does_not_mind_the_scale_of_a_dimension() -> None:
    (train, y), (test, t) = clusters(400, 3.0, "train"), clusters(400, 3.0, "test")
    scale = torch.tensor([1e-3, 1.0, 1e3, 1.0, 1e4, 1e5])
    plain, scaled = (linear_probe_accuracy(train * s, y, test * s, t, "") for s in (torch.ones(6), scale))
    assert plain.value == pytest.approx(scaled.value, abs=0.005)
    assert knn_accuracy(train * scale, y, test * scale, t, "").value < 0.5


def test_dimension_that_never_moves_is_no_obstacle() -> None:
    (train, y), (test, t) = clusters(200, 12.0, "train"), clusters(200, 12.0, "test")
    train[:, 5] = test[:, 5] = 0.3
    assert linear_probe_accuracy(train, y, test, t, "").value == 1


def test_means_that_carry_a_gradient_are_taken_as_they_are() -> None:
    train, y = clusters(100, 12.0, "train")
    assert knn_accuracy(train.requires_grad_(), y, *clusters(100, 12.0, "test"), "", neighbours=1).value == 1


@pytest.mark.parametrize("neighbours", [0, 51])
def test_impossible_neighbours_are_refused(neighbours: int) -> None:
    with pytest.raises(ConfigurationError, match=f"neighbours={neighbours}: must be from 1 to 50"):
        knn_accuracy(*clusters(50, 1.0, "train"), *clusters(50, 1.0, "test"), "", neighbours)


def test_one_class_is_nothing_to_tell_apart() -> None:
    train, _ = clusters(50, 1.0, "train")
    with pytest.raises(ConfigurationError, match="train_labels=1 classes: must be at least 2 classes"):
        probe_report(train, torch.zeros(50, dtype=torch.int64), *clusters(50, 1.0, "test"), "")


def test_labels_that_do_not_fit_are_refused() -> None:
    (train, y), (test, t) = clusters(50, 1.0, "train"), clusters(40, 1.0, "test")
    with pytest.raises(ConfigurationError, match="test_labels=39: must be one for each of 40 means"):
        probe_report(train, y, test, t[:39], "")
