r"""Totals of distributions over images, which are one where `log_prob` is normalised: sums over values, or quadrature.

Where pixels are independent given the latent, $p(x) = \prod_i p_i(x_i)$, it is enough to sum over one pixel at a time: with
$I_i = \int p(x_1, \ldots, t, \ldots, x_n)\, dt$, in which $t$ takes the place of $x_i$, the total is
$\prod_i I_i / p(x)^{n - 1}$, whatever the image $x$. This asks nothing but `log_prob` of whole images.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vae_lightning.distributions.factors import factors

__all__ = [
    "is_binary",
    "is_mass",
    "log_total_of_independent_pixels",
    "log_total_of_patterns",
    "log_totals_of_pixels",
    "pixels_are_independent",
    "places",
]

LEVELS = 256
"""Grey levels of a pixel."""
AT_ONCE = 1 << 24
"""Numbers of images that are held at once, about."""


def is_binary(images: Distribution) -> bool:
    """Whether `images` is a probability of pixels that are 0 or 1.

    >>> from torch.distributions import Bernoulli, Binomial, Independent
    >>> logits = torch.zeros(1, 2, 2)
    >>> is_binary(Independent(Bernoulli(logits=logits), 3)), is_binary(Independent(Binomial(255, logits=logits), 3))
    (True, False)
    """
    return _support(images) is constraints.boolean


def is_mass(images: Distribution, x: Tensor) -> bool:
    """Whether `log_prob` of `images` is of probabilities of pixel values, and not of a density.

    Args:
        images: batch shape `()` or `(1,)`.
        x: an image, `event`, or a batch of one.

    >>> from torch.distributions import Bernoulli, Independent, Normal
    >>> pixels = torch.zeros(1, 2, 2)
    >>> is_mass(Independent(Bernoulli(logits=pixels), 3), pixels), is_mass(Independent(Normal(pixels, 1.0), 3), pixels)
    (True, False)
    """
    return bool(getattr(_support(images), "is_discrete", False)) or _has_levels(images, x)


def places(images: Distribution, x: Tensor, binary: bool) -> tuple[Tensor, Tensor]:
    """Values `(V,)` of a pixel, and the logarithm `(V,)` of the weight of each: levels that have a mass, or points of a quadrature.

    Args:
        images: a distribution over images, batch shape `()` or `(1,)`.
        x: an image, `event`, whose dtype the values have.
        binary: whether its pixels are 0 or 1 only.
    """
    options: Any = {"dtype": x.dtype, "device": x.device}
    if binary:
        return torch.tensor([0.0, 1.0], **options), torch.zeros(2, **options)
    if _has_levels(images, x):
        return torch.arange(LEVELS, **options) / (LEVELS - 1), torch.zeros(LEVELS, **options)
    if _is_bounded(images):
        u = torch.linspace(-30, 30, 2001, **options)  # t = sigmoid(u): densities may be infinite at the ends
        return u.sigmoid(), (u.sigmoid() * (-u).sigmoid() * (u[1] - u[0])).log()
    u = torch.linspace(-12, 12, 4001, **options)  # t = 1/2 + sinh(u) / 10: narrow within [0, 1], and far out
    return 0.5 + u.sinh() / 10, (u.cosh() / 10 * (u[1] - u[0])).log()


def log_total_of_independent_pixels(images: Distribution, x: Tensor, binary: bool) -> Tensor:
    """Logarithm of the total of `images` over all images, by sums over one pixel of `x`, `event`, at a time."""
    values, log_weights = places(images, x, binary)
    own = images.log_prob(x)
    each = []
    for pixel in range(x.numel()):
        varied = x.flatten().repeat(len(values), 1)
        varied[:, pixel] = values
        each.append((images.log_prob(varied.view(-1, *x.shape)) + log_weights).logsumexp(0) - own)
    return own + torch.stack(each).sum()


def log_totals_of_pixels(images: Distribution, values: Tensor, log_weights: Tensor) -> Tensor | None:
    """Logarithm of the total of each pixel's own distribution, of the shape of `images`; None where there is no such distribution.

    Args:
        values: of a pixel, `(V,)`.
        log_weights: of the values, `(V,)`; see `places`.

    >>> from torch.distributions import Bernoulli, Independent
    >>> pixels = Independent(Bernoulli(logits=torch.ones(1, 1, 2)), 3)
    >>> log_totals_of_pixels(pixels, torch.tensor([0.0, 1.0]), torch.zeros(2)).abs().max() < 1e-6
    tensor(True)
    """
    pixels = factors(images)
    if pixels is None:
        return None
    shape = tuple(pixels.batch_shape)
    total = torch.full(shape, -torch.inf, dtype=values.dtype, device=values.device)
    size = max(1, AT_ONCE // max(1, total.numel()))
    for some, weights in zip(values.split(size), log_weights.split(size), strict=True):
        wide = (-1, *[1] * len(shape))
        log_prob = pixels.log_prob(some.view(wide).expand(-1, *shape)) + weights.view(wide)
        total = torch.logaddexp(total, log_prob.logsumexp(0))
    return total


def log_total_of_patterns(images: Distribution, x: Tensor, chosen: Sequence[int], values: Tensor, log_weights: Tensor) -> Tensor:
    """Logarithm of the sum of p(x) over all patterns of the pixels `chosen` of `x`, `event`, the others being as they are.

    Args:
        images: batch shape `()` or `(1,)`.
        chosen: places in the flattened image, P of them.
        values: of a pixel, `(V,)`, so that there are V^P patterns.
        log_weights: of the values, `(V,)`; see `places`.
    """
    numbers = torch.tensor(list(itertools.product(range(len(values)), repeat=len(chosen))), device=x.device)
    at_once = max(1, AT_ONCE // x.numel())
    sums = []
    for some in numbers.split(at_once):
        patterns = x.flatten().repeat(len(some), 1)
        patterns[:, list(chosen)] = values[some]
        sums.append((images.log_prob(patterns.view(-1, *x.shape)) + log_weights[some].sum(-1)).logsumexp(0))
    return torch.stack(sums).logsumexp(0)


def pixels_are_independent(images: Distribution, x: Tensor, other: Tensor, tolerance: float, pairs: int = 64) -> bool:
    """Whether log p(x) is a sum over pixels, as far as pairs of pixels tell that take their values from the image `other`.

    The pairs are all neighbours, along rows and in the order of pixels, and `pairs` others.
    """
    source, count = torch.Generator().manual_seed(0), x.numel()
    numbers = torch.arange(count)
    first, second = (
        torch.cat([near, torch.randint(count, (pairs,), generator=source)])
        for near in (numbers.repeat(2), torch.cat([numbers + 1, numbers + x.shape[-1]]) % count)
    )
    changed = x.flatten().repeat(4 * len(first), 1).view(4, len(first), -1)
    rows = torch.arange(len(first))
    for row, pixels in ((1, first), (2, second), (3, first), (3, second)):
        changed[row, rows, pixels] = other.flatten()[pixels]
    log_prob = images.log_prob(changed.flatten(0, 1).view(-1, *x.shape)).view(4, -1)
    mixed = (log_prob[0] - log_prob[1] - log_prob[2] + log_prob[3])[first != second]
    return bool((mixed.abs() <= tolerance).all())


def _has_levels(images: Distribution, x: Tensor) -> bool:
    """Whether each of the 256 grey levels has a mass: log_prob does not change beside a level, and does from level to level."""
    levels = torch.arange(LEVELS - 1, dtype=x.dtype, device=x.device).view(-1, *[1] * x.dim()).expand(-1, *x.shape)
    at, beside, after = (images.log_prob((levels + shift) / (LEVELS - 1)) for shift in (0.0, 0.2, 1.0))
    return torch.equal(at, beside) and not torch.equal(at, after)


def _is_bounded(images: Distribution) -> bool:
    """Whether pixels are in [0, 1] only."""
    support = _support(images)
    return getattr(support, "lower_bound", None) == 0 and getattr(support, "upper_bound", None) == 1


def _support(images: Distribution) -> Any:
    """Which values a pixel may have; None where `images` does not say."""
    try:
        support: Any = images.support
    except NotImplementedError:
        return None
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support
