r"""Samples of a model as a classifier sees them: how far from real images, how well their labels show, how balanced.

The judge is a classifier of the same kind of images: its penultimate activations are the features of the distances, its
class probabilities tell the rest. Distances by different classifiers cannot be compared with each other; what they are is
in `evaluation.distances`.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.batches import are_binary
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation import needs
from vae_lightning.evaluation.distances import BLOCKS, frechet_distances, kernel_distance
from vae_lightning.evaluation.material import Judge, Material
from vae_lightning.evaluation.metrics import estimate, standard_error
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.inference.chunks import over_chunks
from vae_lightning.noise import generator, global_noise
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["Judge", "draw_samples", "sample_report"]

SECTION = "samples"


@torch.no_grad()
def draw_samples(
    model: LatentVariableModel, count: int, y: Tensor | None, source: torch.Generator, max_batch: int = 1000
) -> Tensor:
    """`count` draws `(N, *event)` of p(x | z, y) with z from the prior, fixed by `source` and `max_batch`.

    They are draws and not means: binary for a Bernoulli likelihood, as the images are that the model was trained on. Means
    are smooth and grey, which no binarized image is, and a classifier of such images says little about them.

    Args:
        y: labels `(N,)` of a conditional model: those of the real images, so that the classes come as often; None for others.
        source: generator on the model's device.
    """
    require(count >= 1, "count", count, "at least 1")
    require(y is None or len(y) == count, "y", f"{None if y is None else len(y)} labels", f"one label for each of {count} samples")
    numbers = torch.arange(count)
    return over_chunks(lambda chunk, labels: _draw(model, len(chunk), labels, source), numbers, y, size=max_batch)


def _draw(model: LatentVariableModel, count: int, y: Tensor | None, source: torch.Generator) -> Tensor:
    prior = model.prior(y)
    epsilon = torch.randn(count, prior.event_shape[-1], generator=source, device=source.device, dtype=prior.mean.dtype)
    likelihood = model.likelihood(from_noise(prior, epsilon), y)
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    with global_noise(seed, source.device):
        return likelihood.sample().clamp(0, 1)


@torch.no_grad()
def sample_report(
    samples: Tensor,
    sample_labels: Tensor | None,
    real: Tensor,
    real_labels: Tensor,
    reference: Tensor,
    judge: Judge,
    *,
    binarization: str,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_batch: int = 1000,
) -> dict[str, Estimate]:
    """What `judge` makes of samples, beside what it makes of real images. Estimates whose name ends in `real` have no samples.

    - `frechet_distance`, `frechet_distance_infinity`, `kernel_distance`: of the samples from `real`; and with `_real`, of
      `reference` from `real`: what a perfect sampler of as many images would get.
    - `accuracy_real`, and of a conditional model `accuracy_samples`: its samples show the label they were drawn for, and
      `accuracy_gap`, the one less the other.
    - `confidence_samples`, `confidence_real`: mean of the largest class probability.
    - of others `class_entropy`: of the mean class probabilities of the samples, nats, at most log C; and `class_balance_tv`:
      total variation between these and those of `real`, 0 to 1; `class_balance_tv_real`: of `reference` from `real`, as
      finite sets are never alike.

    A model with a Bernoulli likelihood that was trained on grey images draws binary ones all the same. Its samples are to be
    held against real images binarized dynamically, whose pixels are drawn in the same way.

    Args:
        samples: `(N, C, H, W)`, binarized as the real ones are: see `draw_samples`.
        sample_labels: what they were drawn for, `(N,)`; None for an unconditional model.
        real: test images `(M, C, H, W)`.
        real_labels: of them, `(M,)`.
        reference: other real images `(R, C, H, W)`, best as many as samples, and from all over the training set: MNIST is in
            the order of its writers, and its last training images are further from the test set than the rest.
        judge: a classifier of images of the same binarization.
        binarization: of all of them.
        settings: what else to keep with each estimate, such as where the classifier is from.
        seed: fixes the order in which images are dealt to subsets; they may come sorted by class.
        max_batch: images that the judge sees at once.
    """
    started = time.perf_counter()
    sets = {"samples": samples, "real": real, "reference": reference}
    _require_alike(sets)
    seen = {name: _seen(judge, images, max_batch, seed, name) for name, images in sets.items()}
    drawn, true, other = seen["samples"], seen["real"], seen["reference"]
    estimates = {
        **_distances(drawn, true, "", "samples and real images"),
        **_distances(other, true, "_real", "two sets of real images"),
        **_labels(drawn, sample_labels, true, real_labels),
        "confidence_samples": _mean(drawn.probabilities.amax(-1), "mean largest class probability of samples"),
        "confidence_real": _mean(true.probabilities.amax(-1), "mean largest class probability of real images"),
        **(_balance(drawn, true, other) if sample_labels is None else {}),
    }
    shared = {**(settings or {}), "seed": seed}
    seconds = time.perf_counter() - started
    return {
        name: dataclasses.replace(
            entry, settings={**shared, **entry.settings}, seconds=seconds, binarization=binarization, section=SECTION
        )
        for name, entry in estimates.items()
    }


class _Seen(NamedTuple):
    """A set of images as the judge sees it, on the CPU in float64."""

    features: Tensor
    """`(N, F)`, in random order."""
    probabilities: Tensor
    """`(N, C)`, in the order of the images."""


def _seen(judge: Judge, images: Tensor, max_batch: int, *key: int | str) -> _Seen:
    features = over_chunks(lambda chunk: judge.features(chunk).cpu(), images, size=max_batch)
    probabilities = over_chunks(lambda chunk: judge.predict(chunk).cpu(), images, size=max_batch)
    order = torch.randperm(len(features), generator=generator(*key, "order"))
    return _Seen(features[order].double(), probabilities.double())


def _require_alike(sets: Mapping[str, Tensor]) -> None:
    kinds = {name: "binary" if are_binary(images) else "grey" for name, images in sets.items()}
    described = " and ".join(f"{name} {kind}" for name, kind in kinds.items())
    require(len(set(kinds.values())) == 1, "images", described, "all binary or all grey (a Bernoulli likelihood's samples: binary)")


def _distance(value: float, error: float, count: int, estimator: str, **settings: Any) -> Estimate:
    return Estimate(value, error, count, 0, "", estimator, settings)


def _mean(values: Tensor, estimator: str) -> Estimate:
    return estimate(values, num_samples=0, binarization="", estimator=estimator)


def _distances(a: _Seen, b: _Seen, ending: str, between: str) -> dict[str, Estimate]:
    frechet, (kernel, kernel_error, subset) = frechet_distances(a.features, b.features), kernel_distance(a.features, b.features)
    count, size = len(a.features), {"num_features": a.features.shape[-1], "other_images": len(b.features)}
    levels = {"line": {str(part): round(value, 6) for part, value in frechet.line.items()}, "jackknife_blocks": BLOCKS}
    return {
        f"frechet_distance{ending}": _distance(
            frechet.distance, frechet.error, count, f"Frechet distance of a classifier's features between {between}", **size
        ),
        f"frechet_distance_infinity{ending}": _distance(
            frechet.infinity,
            frechet.infinity_error,
            count,
            f"Frechet distance between {between}, extrapolated to infinitely many of both",
            **size,
            **levels,
        ),
        f"kernel_distance{ending}": _distance(
            kernel,
            kernel_error,
            count,
            f"unbiased squared MMD between {between}, cubic kernel, mean over disjoint subsets",
            **size,
            subset_images=subset,
        ),
    }


def _labels(drawn: _Seen, sample_labels: Tensor | None, true: _Seen, real_labels: Tensor) -> dict[str, Estimate]:
    real = _mean(_hits(true, real_labels), "share of real images whose class the classifier tells right")
    if sample_labels is None:
        return {"accuracy_real": real}
    shown = _mean(_hits(drawn, sample_labels), "share of samples that the classifier takes for what they were drawn for")
    error = math.hypot(shown.standard_error, real.standard_error)
    gap = _distance(shown.value - real.value, error, shown.num_images, "accuracy_samples - accuracy_real")
    return {"accuracy_samples": shown, "accuracy_real": real, "accuracy_gap": gap}


def _hits(seen: _Seen, labels: Tensor) -> Tensor:
    require(len(labels) == len(seen.probabilities), "labels", len(labels), f"one for each of {len(seen.probabilities)} images")
    return (seen.probabilities.argmax(-1) == labels.cpu()).double()


def _balance(drawn: _Seen, true: _Seen, other: _Seen) -> dict[str, Estimate]:
    classes = drawn.probabilities.mean(0)
    most = math.log(len(classes))
    # to first order, the entropy of the mean moves with the mean of this
    surprise = -torch.special.xlogy(drawn.probabilities, classes.clamp(min=1e-300)).sum(-1)
    shares = [round(share, 4) for share in classes.tolist()]
    entropy = _mean(surprise, f"entropy of the mean class probabilities of samples; at most log C = {most:.4f}")
    return {
        "class_entropy": dataclasses.replace(entropy, settings={"shares": shares, "log_num_classes": most}),
        "class_balance_tv": _total_variation(drawn, true, "mean class probabilities of samples and of real images"),
        "class_balance_tv_real": _total_variation(other, true, "mean class probabilities of two sets of real images"),
    }


def _total_variation(a: _Seen, b: _Seen, between: str) -> Estimate:
    difference = a.probabilities.mean(0) - b.probabilities.mean(0)
    error = math.hypot(*(standard_error(seen.probabilities @ difference.sign() / 2) for seen in (a, b)))
    value = difference.abs().sum().item() / 2
    return _distance(value, error, len(a.probabilities), f"total variation between {between}", other_images=len(b.probabilities))


# ---- the part of an evaluation

_HEUSEL, _CHONG = (
    "Heusel et al., 2017, https://arxiv.org/abs/1706.08500",
    "Chong and Forsyth, 2020, https://arxiv.org/abs/1911.07023",
)
_BINKOWSKI = "Binkowski et al., 2018, https://arxiv.org/abs/1801.01401"
_SEEN = "the classifier sees"
_FEATURES = "between samples and test images in the features of the classifier"
METRICS = (
    Metric(
        "frechet_distance",
        f"Frechet distance {_FEATURES}, at the stated number",
        "distance",
        "low",
        _HEUSEL,
        forms=("frechet_distance", "frechet_distance_real"),
    ),
    Metric(
        "frechet_distance_infinity",
        f"Frechet distance {_FEATURES}, extrapolated to infinitely many images",
        "distance",
        "low",
        _CHONG,
        forms=("frechet_distance_infinity", "frechet_distance_infinity_real"),
    ),
    Metric(
        "kernel_distance",
        f"Unbiased squared maximum mean discrepancy {_FEATURES}, polynomial kernel",
        "distance",
        "low",
        _BINKOWSKI,
        forms=("kernel_distance", "kernel_distance_real"),
    ),
    Metric("accuracy_samples", f"Share of conditional samples in which {_SEEN} the label they were drawn for", "share", "high"),
    Metric("accuracy_real", "Share of real test images that the judging classifier gets right", "share"),
    Metric("accuracy_gap", "accuracy_samples less accuracy_real", "share", "high"),
    Metric("confidence_samples", "Mean of the classifier's largest class probability on samples", "share"),
    Metric("confidence_real", "Mean of the classifier's largest class probability on test images", "share"),
    Metric("class_entropy", f"Entropy of the classes that {_SEEN} in samples; the log of their number is balance", "nats", "high"),
    Metric(
        "class_balance_tv",
        "Total variation between the classes of samples and of test images, 0 to 1",
        "share",
        "low",
        forms=("class_balance_tv", "class_balance_tv_real"),
    ),
)


@part("samples", needs=(needs.labels, needs.judge), metrics=METRICS, section=SECTION, place=50)
def samples(material: Material) -> dict[str, Estimate]:
    """What a classifier makes of samples, beside what it makes of real images."""
    assert material.judge is not None, "needs.judge has seen to it"
    real, real_labels = material.images("test", material.counts.samples)
    reference, _ = material.images("train", len(real))
    source = generator(material.settings.seed, "samples", device=real.device)
    y = real_labels if material.num_classes else None
    return sample_report(
        draw_samples(material.model, len(real), y, source),
        y,
        real,
        real_labels,
        reference,
        material.judge,
        binarization=material.binarization,
        settings={"classifier": material.judge_name, "judged_by": material.judge_binarization},
        seed=material.settings.seed,
    )
