r"""Samples of a model as a classifier sees them: how far from real images, how well their labels show, how balanced.

The judge is a classifier of the same kind of images: its penultimate activations are the features of the distances, its
class probabilities tell the rest. Distances by different classifiers cannot be compared with each other.

**Frechet distance** between Gaussians with the moments of two sets of features, in squared units of the features,
$|\mu_a - \mu_b|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})$
("GANs trained by a two time-scale update rule converge to a local Nash equilibrium", Heusel et al., 2017,
https://arxiv.org/abs/1706.08500), where $\mathrm{tr}\,(\Sigma_a \Sigma_b)^{1/2}$ is the sum of the singular values of
$\Sigma_a^{1/2} \Sigma_b^{1/2}$. Of N images it is too large by about $c / N$, and c depends on the model, so the value
for infinitely many is the intercept of a line through the values at several N ("Effectively unbiased FID and Inception
Score and where to find them", Chong and Forsyth, 2020, https://arxiv.org/abs/1911.07023). There the real images are as
many as there are; here both sets shrink together, so that the error which the finite real set brings goes too, and two
sets of one kind are at a distance of 0 but for noise.

**Kernel distance**: the unbiased estimate of the squared maximum mean discrepancy for $k(x, y) = (x \cdot y / F + 1)^3$
("Demystifying MMD GANs", Binkowski et al., 2018, https://arxiv.org/abs/1801.01401), which may come out negative.
"""

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.noise import generator, global_noise
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["Frechet", "Judge", "draw_samples", "frechet_distance", "frechet_distances", "kernel_distance", "sample_report"]

BLOCKS = 12
"""Into so many parts the images are dealt; each is left out in turn for the standard errors of the Frechet distances."""
FEWEST = 2 * BLOCKS
"""Images that a distance between sets of them needs at least."""
LEVELS = (1, 2, 3, 4)
"""The line is through the mean Frechet distances of all images, of their halves, thirds and quarters."""
SUBSET = 1000
"""Images of a subset of the kernel distance, or a tenth of all where that is less."""


class Judge(Protocol):
    """A classifier in evaluation mode, on the device of the images."""

    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities `(B, C)` of images `(B, 1, 28, 28)`."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations `(B, F)` of images `(B, 1, 28, 28)`."""
        ...


class Frechet(NamedTuple):
    """Frechet distances of two sets, in squared units of the features, with standard errors over the images of both."""

    distance: float
    """Of all images: too large by about c / N."""
    error: float
    """Its standard error."""
    infinity: float
    """Extrapolated to infinitely many images; negative where noise is larger than the distance."""
    infinity_error: float
    """Its standard error."""
    line: dict[int, float]
    """What the line goes through: mean distance of parts, by the number of images of a part of the smaller set."""


# ---- drawing


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


# ---- distances


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between features `(N, F)` and `(M, F)`, all of them, in float64."""
    return _frechet(_moments(a.double()), _moments(b.double()))


def frechet_distances(a: Tensor, b: Tensor) -> Frechet:
    """The same with standard errors, and extrapolated to infinitely many images; `a` and `b` in random order.

    With k parts of each set the bias is k times that of the whole, so the line is over k, and its value at k = 0 is that
    of infinitely many images. The standard errors are jackknifed: a twelfth of both sets is left out in turn. Residuals of
    the line would not do, as the same images are in all of its points.
    """
    _require_enough(a, b)
    pairs = [(_moments(x), _moments(y)) for x, y in zip(_blocks(a), _blocks(b), strict=True)]

    @functools.cache
    def distance(members: frozenset[int]) -> float:
        return _frechet(*(_pooled([pairs[i][side] for i in sorted(members)]) for side in (0, 1)))

    def of_all_and_infinity(without: frozenset[int]) -> tuple[float, float]:
        points = [_point(distance, level, without) for level in LEVELS]
        return points[0][1], statistics.linear_regression(*zip(*points, strict=True)).intercept

    value, infinity = of_all_and_infinity(frozenset())
    replicates = torch.tensor([of_all_and_infinity(frozenset([i])) for i in range(BLOCKS)], dtype=torch.float64)
    error, infinity_error = (replicates.var(0) * (BLOCKS - 1) ** 2 / BLOCKS).sqrt().tolist()
    smaller = min(len(a), len(b))
    line = {smaller // level: _point(distance, level, frozenset())[1] for level in LEVELS}
    return Frechet(value, error, infinity, infinity_error, line)


def kernel_distance(a: Tensor, b: Tensor) -> tuple[float, float, int]:
    """Mean over disjoint subsets of features `(N, F)` and `(M, F)` in random order, its standard error, and a subset's size."""
    _require_enough(a, b)
    smaller = min(len(a), len(b))
    size = min(SUBSET, smaller // 10)
    pairs = zip(a.double().split(size), b.double().split(size), strict=False)
    values = torch.stack([_squared_mmd(x, y) for x, y in list(pairs)[: smaller // size]])
    return values.mean().item(), values.std().item() / math.sqrt(len(values)), size


class _Moments(NamedTuple):
    """Of `size` features, float64."""

    size: int
    mean: Tensor
    scatter: Tensor
    """Sum of the outer products of what is left after the mean, `(F, F)`."""


def _moments(features: Tensor) -> _Moments:
    mean = features.mean(0)
    rest = features - mean
    return _Moments(len(features), mean, rest.mT @ rest)


def _pooled(parts: list[_Moments]) -> _Moments:
    size = sum(part.size for part in parts)
    mean = torch.stack([part.mean * (part.size / size) for part in parts]).sum(0)
    between = torch.stack([(part.mean - mean) * math.sqrt(part.size) for part in parts])
    return _Moments(size, mean, torch.stack([part.scatter for part in parts]).sum(0) + between.mT @ between)


def _frechet(a: _Moments, b: _Moments) -> float:
    a_root, b_root = (_root(part.scatter / (part.size - 1)) for part in (a, b))
    spread = a_root.square().sum() + b_root.square().sum() - 2 * torch.linalg.svdvals(a_root @ b_root).sum()
    return float((a.mean - b.mean).square().sum() + spread)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root, also of a covariance that has none of some directions, as features have that are always 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    return root


def _blocks(features: Tensor) -> tuple[Tensor, ...]:
    return features.double().tensor_split(BLOCKS)


def _point(distance: Callable[[frozenset[int]], float], level: int, without: frozenset[int]) -> tuple[float, float]:
    """Mean over the `level` parts, without some blocks, of how often a part goes into all, and of the distance."""
    side = BLOCKS // level
    parts = [frozenset(range(start, start + side)) - without for start in range(0, BLOCKS, side)]
    return statistics.fmean(BLOCKS / len(part) for part in parts), statistics.fmean(distance(part) for part in parts)


def _squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.mT / a.shape[-1] + 1) ** 3

    def among(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))

    return among(x) + among(y) - 2 * kernel(x, y).mean()


def _require_enough(*sets: Tensor) -> None:
    for features in sets:
        require(len(features) >= FEWEST, "images", len(features), f"at least {FEWEST} for distances between sets of them")


# ---- the report


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
