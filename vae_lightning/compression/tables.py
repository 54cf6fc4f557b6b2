r"""Functions as tables of whole numbers, computed in decimal arithmetic, which gives the same digits on every machine.

The `exp` and `ln` of Python's `decimal` are rounded correctly, so each number of a table is what its definition says, whatever the
processor and its libraries. Between knots, $2^{-8}$ apart, a function is a straight line, of which each step is a product or a sum
in double precision that IEEE 754 fixes to the bit; the largest error of a line is $2^{-19} \max |f''|$.
"""

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["KNOTS", "REACH", "exp2", "interpolated", "log2", "normal_cdf", "of_function", "sigmoid", "softplus"]

Numbers = NDArray[np.float64]
KNOTS = 256
"""Knots from one whole number to the next."""
REACH = 16
"""Functions of any real number are tabled from -16 to 16."""
PLACES = 2**40
"""Values are whole multiples of the inverse."""
EXACT = Context(prec=40)


def of_function(function: Callable[[Decimal], Decimal], first: int, last: int, places: int = PLACES) -> Numbers:
    """`function` at the knots from `first` to `last`, `(256 (last - first) + 1,)`, rounded to multiples of `1 / places`.

    >>> of_function(lambda x: x * x, 0, 1)[128]
    np.float64(0.25)
    """
    with localcontext(EXACT):
        values = [function(Decimal(knot) / KNOTS) * places for knot in range(first * KNOTS, last * KNOTS + 1)]
        return np.array([int(value.to_integral_value()) for value in values], np.float64) / places


@lru_cache
def sigmoid() -> Numbers:
    """1 / (1 + exp(-x)) from -16 to 16."""
    return of_function(lambda x: 1 / (1 + (-x).exp()), -REACH, REACH)


@lru_cache
def softplus() -> Numbers:
    """log(1 + exp(x)) from -16 to 16."""
    return of_function(lambda x: (1 + x.exp()).ln(), -REACH, REACH)


@lru_cache
def exp2() -> Numbers:
    """2 to the power of x from 0 to 1."""
    return of_function(lambda x: (x * Decimal(2).ln()).exp(), 0, 1)


@lru_cache
def log2() -> Numbers:
    """The logarithm to the base 2 of x from 1 to 2."""
    return of_function(lambda x: x.ln() / Decimal(2).ln(), 1, 2)


@lru_cache
def normal_cdf() -> Numbers:
    """The distribution function of N(0, 1) from -8 to 8."""
    upper = of_function(_normal_cdf, 0, 8)
    return np.concatenate([1 - upper[:0:-1], upper])


def _normal_cdf(x: Decimal) -> Decimal:
    """1/2 + phi(x) (x + x^3 / 3 + x^5 / (3 5) + ...), for x from 0 on."""
    term = total = x
    factor = 1
    while term > Decimal("1e-30"):
        factor += 2
        term = term * x * x / factor
        total += term
    pi = Decimal("3.141592653589793238462643383279502884197")
    return Decimal("0.5") + total * (-x * x / 2).exp() / (2 * pi).sqrt()


def interpolated(table: Numbers, x: Numbers, first: int) -> Numbers:
    """The function whose `table` begins at `first`, at `x` of any shape; beyond its ends as at its ends.

    >>> float(interpolated(sigmoid(), np.array(0.0), -16))
    0.5
    """
    place = np.clip((x - first) * KNOTS, 0, len(table) - 1)
    knot = np.minimum(place.astype(np.int64), len(table) - 2)
    rise = table[knot + 1] - table[knot]
    values: Numbers = np.asarray(table[knot] + rise * (place - knot))
    return values
