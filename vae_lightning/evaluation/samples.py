r"""Samples of a model as a classifier sees them: how far from real images, how well their labels show, how balanced.

The judge is a classifier of the same kind of images: its penultimate activations are the features of the distances, its
class probabilities tell the rest. Distances by different classifiers cannot be compared with each other; what they are is
in `evaluation.distances`.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation.distances import BLOCKS, frechet_distances, kernel_distance
from vae_lightning.noise import generator, global_noise
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["Judge", "draw_samples", "sample_report"]


class Judge(Protocol):
    """A classifier in evaluation mode, on the device of the images."""

    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities `(B, C)` of images `(B, 1, 28, 28)`."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations `(B, F)` of images `(B, 1, 28, 28)`."""
        ...


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
    sizes = [min(max_batch, count - start) for start in range(0, count, max_batch)]
    labels = [None] * len(sizes) if y is None else y.split(max_batch)
    return torch.cat([_draw(model, size, label, source) for size, label in zip(sizes, labels, strict=True)])


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
    """What `judge` makes of samples, beside what it makes of real images. Figures whose name ends in `real` have no samples.

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
        samples: `(N, 1, 28, 28)`, binarized as the real ones are: see `draw_samples`.
        sample_labels: what they were drawn for, `(N,)`; None for an unconditional model.
        real: test images `(M, 1, 28, 28)`.
        real_labels: of them, `(M,)`.
        reference: other real images `(R, 1, 28, 28)`, best as many as samples, and from all over the training set: MNIST is in
            the order of its writers, and its last training images are further from the test set than the rest.
        judge: a classifier of images of the same binarization.
        binarization: of all of them.
        settings: what else to keep with each figure, such as where the classifier is from.
        seed: fixes the order in which images are dealt to subsets; they may come sorted by class.
        max_batch: images that the judge sees at once.
    """
    started = time.perf_counter()
    sets = {"samples": samples, "real": real, "reference": reference}
    _require_alike(sets)
    seen = {name: _seen(judge, images, max_batch, seed, name) for name, images in sets.items()}
    drawn, true, other = seen["samples"], seen["real"], seen["reference"]
    figures = {
        **_distances(drawn, true, "", "samples and real images"),
        **_distances(other, true, "_real", "two sets of real images"),
        **_labels(drawn, sample_labels, true, real_labels),
        "confidence_samples": _mean(drawn.probabilities.amax(-1), "mean largest class probability of samples"),
        "confidence_real": _mean(true.probabilities.amax(-1), "mean largest class probability of real images"),
        **(_balance(drawn, true, other) if sample_labels is None else {}),
    }
    told = {**(settings or {}), "seed": seed}
    seconds = time.perf_counter() - started
    return {
        name: dataclasses.replace(
            figure, settings={**told, **figure.settings}, seconds=seconds, binarization=binarization, section="samples"
        )
        for name, figure in figures.items()
    }


class _Seen(NamedTuple):
    """A set of images as the judge sees it, on the CPU in float64."""

    features: Tensor
    """`(N, F)`, in random order."""
    probabilities: Tensor
    """`(N, C)`, in the order of the images."""


def _seen(judge: Judge, images: Tensor, max_batch: int, *key: int | str) -> _Seen:
    parts = images.split(max_batch)
    features = torch.cat([judge.features(part).cpu() for part in parts])
    order = torch.randperm(len(features), generator=generator(*key, "order"))
    return _Seen(features[order].double(), torch.cat([judge.predict(part).cpu() for part in parts]).double())


def _require_alike(sets: Mapping[str, Tensor]) -> None:
    kinds = {name: "binary" if ((images == 0) | (images == 1)).all() else "grey" for name, images in sets.items()}
    told = " and ".join(f"{name} {kind}" for name, kind in kinds.items())
    require(len(set(kinds.values())) == 1, "images", told, "all binary or all grey (a Bernoulli likelihood's samples: binary)")


def _figure(value: float, error: float, count: int, estimator: str, **settings: Any) -> Estimate:
    return Estimate(value, error, count, 0, "", estimator, settings)


def _mean(values: Tensor, estimator: str) -> Estimate:
    return _figure(values.mean().item(), _error(values), len(values), estimator)


def _error(values: Tensor) -> float:
    """Standard error of the mean of `(N,)`."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _distances(a: _Seen, b: _Seen, ending: str, between: str) -> dict[str, Estimate]:
    frechet, (kernel, kernel_error, subset) = frechet_distances(a.features, b.features), kernel_distance(a.features, b.features)
    count, size = len(a.features), {"num_features": a.features.shape[-1], "other_images": len(b.features)}
    levels = {"line": {str(part): round(value, 6) for part, value in frechet.line.items()}, "jackknife_blocks": BLOCKS}
    return {
        f"frechet_distance{ending}": _figure(
            frechet.distance, frechet.error, count, f"Frechet distance of a classifier's features between {between}", **size
        ),
        f"frechet_distance_infinity{ending}": _figure(
            frechet.infinity,
            frechet.infinity_error,
            count,
            f"Frechet distance between {between}, extrapolated to infinitely many of both",
            **size,
            **levels,
        ),
        f"kernel_distance{ending}": _figure(
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
    own = _mean(_hits(drawn, sample_labels), "share of samples that the classifier takes for what they were drawn for")
    error = math.hypot(own.standard_error, real.standard_error)
    gap = _figure(own.value - real.value, error, own.num_images, "accuracy_samples - accuracy_real")
    return {"accuracy_samples": own, "accuracy_real": real, "accuracy_gap": gap}


def _hits(seen: _Seen, labels: Tensor) -> Tensor:
    require(len(labels) == len(seen.probabilities), "labels", len(labels), f"one for each of {len(seen.probabilities)} images")
    return (seen.probabilities.argmax(-1) == labels.cpu()).double()


def _balance(drawn: _Seen, true: _Seen, other: _Seen) -> dict[str, Estimate]:
    own = drawn.probabilities.mean(0)
    most = math.log(len(own))
    # to first order, the entropy of the mean moves with the mean of this
    surprise = -torch.special.xlogy(drawn.probabilities, own.clamp(min=1e-300)).sum(-1)
    shares = [round(share, 4) for share in own.tolist()]
    entropy = _mean(surprise, f"entropy of the mean class probabilities of samples; at most log C = {most:.4f}")
    return {
        "class_entropy": dataclasses.replace(entropy, settings={"shares": shares, "log_num_classes": most}),
        "class_balance_tv": _total_variation(drawn, true, "mean class probabilities of samples and of real images"),
        "class_balance_tv_real": _total_variation(other, true, "mean class probabilities of two sets of real images"),
    }


def _total_variation(a: _Seen, b: _Seen, between: str) -> Estimate:
    difference = a.probabilities.mean(0) - b.probabilities.mean(0)
    error = math.hypot(*(_error(seen.probabilities @ difference.sign() / 2) for seen in (a, b)))
    value = difference.abs().sum().item() / 2
    return _figure(value, error, len(a.probabilities), f"total variation between {between}", other_images=len(b.probabilities))
