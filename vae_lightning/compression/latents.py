r"""Latents as whole numbers: K buckets of equal mass under N(0, 1), and the mass of each under another Gaussian.

A bucket of the prior costs $\log_2 K$ bits. Under a posterior $N(\mu, \sigma^2)$ the buckets from the first to the k-th have
$F(k) = k + \lfloor (2^r - K)\, \Phi((e_k - \mu) / \sigma) \rfloor$ of $2^r$ places, where $e_k$ is the end of the k-th: at least
one each, and all that there are together. What is pushed with the posterior's mass and popped with the prior's costs
$\log_2 q / p$ in the mean, the KL in bits, however many buckets there are; the more, the smaller the loss by their width, and the
more bits are needed to begin with.

"Practical lossless compression with latent variables using bits back coding", Townsend, Bird and Barber, 2019,
https://arxiv.org/abs/1901.04866.
"""

from functools import lru_cache

import numpy as np

from vae_lightning.compression import tables
from vae_lightning.compression.coder import Words
from vae_lightning.compression.tables import Numbers

__all__ = ["PRECISION", "GaussianMasses", "centres", "edges"]

PRECISION = 28
"""Bits of the masses under a posterior."""


def _quantiles(shares: Numbers) -> Numbers:
    """Where the distribution function of N(0, 1), straight between the knots of its table, is as large as `shares`."""
    table = tables.normal_cdf()
    knot = np.searchsorted(table, shares, side="right") - 1
    return (knot + (shares - table[knot]) / (table[knot + 1] - table[knot])) / tables.KNOTS - 8


@lru_cache
def edges(bits: int) -> Numbers:
    """Ends of `2 ** bits` buckets, the first at minus infinity, `(2 ** bits + 1,)`.

    >>> edges(1)
    array([-inf,   0.,  inf])
    """
    inner = _quantiles(np.arange(1, 2**bits) / 2**bits)
    return np.concatenate([[-np.inf], inner, [np.inf]])


@lru_cache
def centres(bits: int) -> Numbers:
    """The median of each bucket, which stands for the bucket's latents, `(2 ** bits,)`.

    >>> centres(1).round(2)
    array([-0.67,  0.67])
    """
    return _quantiles((np.arange(2**bits) + 0.5) / 2**bits)


class GaussianMasses:
    """The places of each of `2 ** bits` buckets under N(loc, scale^2), a Gaussian a chain.

    >>> masses = GaussianMasses(np.array([0.5]), np.array([0.1]), bits=8)
    >>> bucket, start, size = masses.at(np.array([2 ** 27], np.uint64))  # the middle of all places
    >>> centres(8)[bucket].round(1), bool(start <= 2 ** 27 < start + size)
    (array([0.5]), True)

    Args:
        loc, scale: `(B,)`.
    """

    def __init__(self, loc: Numbers, scale: Numbers, bits: int) -> None:
        self.loc, self.precision, self.bits = loc, 1 / scale, bits

    def before(self, bucket: Words) -> Words:
        """F: how many places the buckets before `bucket` `(B,)`, from 0 to `2 ** bits`, have together."""
        t = (edges(self.bits)[bucket] - self.loc) * self.precision
        share = tables.interpolated(tables.normal_cdf(), t, -8)
        before: Words = bucket + np.floor(share * (2**PRECISION - 2**self.bits)).astype(np.uint64)
        return before

    def of(self, bucket: Words) -> tuple[Words, Words]:
        """The first place of `bucket` and how many it has, `(B,)` each."""
        start = self.before(bucket)
        return start, self.before(bucket + np.uint64(1)) - start

    def at(self, place: Words) -> tuple[Words, Words, Words]:
        """The bucket that has `place`, its first place, and how many it has, `(B,)` each: by halving."""
        bucket = np.zeros_like(place)
        for bit in reversed(range(self.bits)):
            further = bucket + np.uint64(2**bit)
            bucket = np.where(self.before(further) <= place, further, bucket)
        return bucket, *self.of(bucket)
