r"""Means over seeds and images, and what they are uncertain by.

A run with seed $s$ has a value $v_{s,i}$ for each test image $i$ of $N$, and its mean $m_s = \frac1N \sum_i v_{s,i}$. Two questions
are asked of a setting's mean $\bar m = \frac1n \sum_s m_s$ over $n$ seeds, and each has an error of its own:

- Would other **seeds** give the same? The seed is what was replicated, so the standard error is that of the means,
  $\sqrt{\frac{1}{n (n - 1)} \sum_s (m_s - \bar m)^2}$, and the 95 % interval is $\bar m \pm t_{0.975, n-1}$ times it (Student).
  One seed says nothing about others: there is no such error then, which is not an error of 0.
- Would other **images** give the same, of these very models? The images are common to all seeds, so a mean over seeds comes first,
  $\bar v_i = \frac1n \sum_s v_{s,i}$, and the standard error is $\sqrt{\frac{1}{N (N - 1)} \sum_i (\bar v_i - \bar m)^2}$.

The difference of two settings a and b is paired twice, by seed and by image: $d_{s,i} = v^a_{s,i} - v^b_{s,i}$ for the seeds that
both have. How hard an image is then drops out, and so does what a seed fixes for both, such as the order of the training images.
The difference is the mean of all $d_{s,i}$; its two errors are those above, of $d$ in the place of $v$. Where images and seeds are
both taken for random, the variance of the difference is on average no more than the sum of the squares of both standard errors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spread", "paired", "spread", "standard_error", "student"]

LEVEL = 0.95
"""The level of intervals."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, with its errors over seeds and over images.

    >>> Spread(-100.0, 1).half_width is None
    True
    """

    mean: float
    """The mean over seeds, and over images."""
    num_seeds: int
    """How many seeds."""
    standard_error: float | None = None
    """The standard error of the mean over seeds; None of one seed."""
    half_width: float | None = None
    """Half of the 95 % interval over seeds, by Student's t; None of one seed."""
    over_images: float | None = None
    """The standard error over images, of the mean over seeds of each; None where no values of single images are known."""
    num_images: int | None = None
    """How many images; None where that is not known."""
    values: tuple[float, ...] = ()
    """The mean over images of each seed."""


def student(num_seeds: int, level: float = LEVEL) -> float:
    """How many standard errors the interval of a mean over `num_seeds` reaches to either side, by Student's t.

    >>> f"{student(3):.3f} {student(1000):.3f}"
    '4.303 1.962'
    """
    from scipy.special import stdtrit  # scipy.stats would take a second to import

    return float(stdtrit(num_seeds - 1, (1 + level) / 2))


def standard_error(values: NDArray[np.float64]) -> float | None:
    """The standard error of the mean of independent `values`, `(N,)`; None of fewer than two.

    >>> standard_error(np.array([1.0, 3.0])), standard_error(np.array([1.0]))
    (1.0, None)
    """
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


def spread(means: Sequence[float], images: Sequence[NDArray[np.float64]] = ()) -> Spread:
    """The mean over seeds, with its errors.

    Args:
        means: of each seed.
        images: of each seed the values of the same images, `(N,)`, if they are known of all.

    >>> both = spread([1.0, 3.0])
    >>> both.mean, both.standard_error, f"{both.half_width:.2f}", both.over_images
    (2.0, 1.0, '12.71', None)
    """
    values = np.array(means, dtype=np.float64)
    error = standard_error(values)
    half = None if error is None else error * student(len(values))
    of_image = np.mean(np.stack(images), 0) if images else None
    over = None if of_image is None else standard_error(of_image)
    count = None if of_image is None else len(of_image)
    return Spread(float(values.mean()), len(values), error, half, over, count, tuple(values.tolist()))


def paired(one: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> Spread:
    """The difference `one - other` over the same seeds and the same images, with its errors.

    Args:
        one: of each seed the values of the images, `(N,)`.
        other: likewise, of the same seeds and images in the same order.

    >>> a, b = np.array([1.0, 2.0, 6.0]), np.array([0.0, 1.0, 2.0])
    >>> difference = paired([a], [b])
    >>> difference.mean, difference.over_images, difference.half_width
    (2.0, 1.0, None)
    """
    differences = [mine - theirs for mine, theirs in zip(one, other, strict=True)]
    return spread([float(values.mean()) for values in differences], differences)
