r"""Distances between two sets of features: Frechet distance and kernel distance, with their standard errors.

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

import functools
import math
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lightning.arguments import require

__all__ = ["BLOCKS", "FEWEST", "Frechet", "frechet_distance", "frechet_distances", "kernel_distance"]

BLOCKS = 12
"""Into so many parts the images are dealt; each is left out in turn for the standard errors of the Frechet distances."""
FEWEST = 2 * BLOCKS
"""Images that a distance between sets of them needs at least."""
LEVELS = (1, 2, 3, 4)
"""The line is through the mean Frechet distances of all images, of their halves, thirds and quarters."""
SUBSET = 1000
"""Images of a subset of the kernel distance, or a tenth of all where that is less."""


class Frechet(NamedTuple):
    """Frechet distances of two sets, in squared units of the features, with standard errors over the images of both.

    >>> Frechet(distance=17.6, error=0.55, infinity=16.8, infinity_error=0.63, line={}).infinity
    16.8
    """

    distance: float
    """The distance of all images, which for N images is too large by about c / N."""
    error: float
    """Standard error of `distance`."""
    infinity: float
    """The distance extrapolated to infinitely many images; negative where noise is larger than the distance."""
    infinity_error: float
    """Standard error of `infinity`."""
    line: dict[int, float]
    """The points of the extrapolation: mean distance of parts, by the number of images in a part of the smaller set."""


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Frechet distance between features `(N, F)` and `(M, F)`, all of them, in float64.

    >>> a = torch.tensor([[0.0], [2.0]])
    >>> round(frechet_distance(a, a + 3), 4)
    9.0
    """
    return _frechet(_moments(a.double()), _moments(b.double()))


def frechet_distances(a: Tensor, b: Tensor) -> Frechet:
    """Frechet distances of features `(N, F)` and `(M, F)` in random order, of all images and extrapolated to infinitely many.

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
    """The moments of `size` features, float64."""

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
