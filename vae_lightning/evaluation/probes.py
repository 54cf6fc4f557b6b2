r"""Probes of latents: how well simple classifiers, trained on latents of training images, find the class of test images.

A linear probe ("Understanding intermediate layers using linear classifier probes", Alain and Bengio, 2016,
https://arxiv.org/abs/1610.01644) does well if planes separate the classes; nearest neighbours ("Nearest neighbor pattern
classification", Cover and Hart, 1967, https://doi.org/10.1109/TIT.1967.1053964) do well if images that are alike have latents that
are close. Neither is an aim of a VAE's training: a model with a better likelihood may well have worse probes.
"""

import math
import time
from typing import Any

from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.evaluation import needs
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.types import Estimate

__all__ = ["knn_accuracy", "linear_probe_accuracy", "probe_report"]

SECTION = "latent quality"


def probe_report(
    train_means: Tensor,
    train_labels: Tensor,
    test_means: Tensor,
    test_labels: Tensor,
    binarization: str,
    neighbours: int = 5,
) -> dict[str, Estimate]:
    """`linear_probe_accuracy` and `knn_accuracy` over the test images, as shares, with binomial standard errors.

    The means must come from the image alone. The posterior q(z | x, y) of a conditional model depends on the label, which a probe
    may read back from the means, and the accuracy then says nothing about the image.

    Args:
        train_means: posterior means of training images, `(N, D)`.
        train_labels: classes of the training images, `(N,)`.
        test_means: posterior means of other images, `(M, D)`.
        test_labels: classes of the other images, `(M,)`.
        neighbours: k, the number of neighbours that vote.
    """
    sets = (train_means, train_labels, test_means, test_labels)
    return {
        "linear_probe_accuracy": linear_probe_accuracy(*sets, binarization),
        "knn_accuracy": knn_accuracy(*sets, binarization, neighbours),
    }


def linear_probe_accuracy(
    train_means: Tensor, train_labels: Tensor, test_means: Tensor, test_labels: Tensor, binarization: str, max_iter: int = 1000
) -> Estimate:
    """The accuracy of multinomial logistic regression with an L2 penalty of strength 1.

    All means are standardised by the mean and standard deviation of the training images' means.
    """
    # importing sklearn takes a second, which only probes need to wait for
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=max_iter))
    started = time.perf_counter()
    hits = _hits(probe, train_means, train_labels, test_means, test_labels)
    settings = {"train_images": len(train_means), "C": 1.0, "iterations": int(probe[-1].n_iter_.max()), "max_iter": max_iter}
    estimator = "share of images told right by logistic regression on standardised posterior means"
    return _share(hits, binarization, estimator, settings, time.perf_counter() - started)


def knn_accuracy(
    train_means: Tensor, train_labels: Tensor, test_means: Tensor, test_labels: Tensor, binarization: str, neighbours: int = 5
) -> Estimate:
    """The accuracy of the majority of the k nearest training means in Euclidean distance.

    The means are not standardised, as a dimension that the model does not use would then count as much as any other.
    """
    from sklearn.neighbors import KNeighborsClassifier

    require(1 <= neighbours <= len(train_means), "neighbours", neighbours, f"from 1 to {len(train_means)}, the training images")
    started = time.perf_counter()
    hits = _hits(KNeighborsClassifier(neighbours), train_means, train_labels, test_means, test_labels)
    settings = {"train_images": len(train_means), "k": neighbours}
    estimator = f"share of images told right by the {neighbours} nearest posterior means of training images"
    return _share(hits, binarization, estimator, settings, time.perf_counter() - started)


def _hits(probe: Any, train_means: Tensor, train_labels: Tensor, test_means: Tensor, test_labels: Tensor) -> list[bool]:
    require(len(train_means) == len(train_labels), "train_labels", len(train_labels), f"one for each of {len(train_means)} means")
    require(len(test_means) == len(test_labels), "test_labels", len(test_labels), f"one for each of {len(test_means)} means")
    require(len(test_means) >= 1, "test_means", len(test_means), "at least 1")
    classes = len(train_labels.unique())
    require(classes >= 2, "train_labels", f"{classes} classes", "at least 2 classes, to have something to tell apart")
    probe.fit(_array(train_means), _array(train_labels))
    hits: list[bool] = (probe.predict(_array(test_means)) == _array(test_labels)).tolist()
    return hits


def _array(values: Tensor) -> Any:
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()


def _share(hits: list[bool], binarization: str, estimator: str, settings: dict[str, Any], seconds: float) -> Estimate:
    count = len(hits)
    share = sum(hits) / count
    error = math.sqrt(share * (1 - share) / count)
    return Estimate(share, error, count, 0, binarization, estimator, settings, seconds, section=SECTION)


@part(
    "probes",
    needs=(needs.labels, needs.unconditional),
    metrics=(
        Metric(
            "linear_probe_accuracy",
            "Accuracy of logistic regression on posterior means, learned on training images",
            "share",
            "high",
            "Alain and Bengio, 2016, https://arxiv.org/abs/1610.01644",
        ),
        Metric(
            "knn_accuracy",
            "Accuracy of the nearest neighbours among posterior means of training images",
            "share",
            "high",
            "Cover and Hart, 1967, https://doi.org/10.1109/TIT.1967.1053964",
        ),
    ),
    section=SECTION,
    place=60,
)
def probes(material: Material) -> dict[str, Estimate]:
    """What simple classifiers learn of the label from the latent."""
    train, train_labels = material.images("train", material.counts.probes)
    test, test_labels = material.images("test", None)
    return probe_report(material.represent(train), train_labels, material.represent(test), test_labels, material.binarization)
