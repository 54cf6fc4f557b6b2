"""Buckets have equal mass under the prior, and under a posterior the mass that its distribution function says."""

import numpy as np
import pytest
from scipy.special import ndtr

from vae_lightning.compression.latents import PRECISION, GaussianMasses, centres, edges


def test_buckets_have_equal_mass() -> None:
    assert np.abs(np.diff(ndtr(edges(10))) * 2**10 - 1).max() < 3e-3
    assert ((edges(10)[:-1] < centres(10)) & (centres(10) < edges(10)[1:])).all()


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (0.3, 0.05), (-9.0, 0.01), (1.0, 30.0), (0.0, 1e-4)])
def test_places_are_a_partition_with_the_posteriors_masses(loc: float, scale: float) -> None:
    bits, count = 8, 2**8
    bucket = np.arange(count, dtype=np.uint64)
    masses = GaussianMasses(np.full(count, loc), np.full(count, scale), bits)
    start, size = masses.of(bucket)
    assert start[0] == 0
    assert (start[1:] == start[:-1] + size[:-1]).all()
    assert start[-1] + size[-1] == 2**PRECISION
    assert (size >= 1).all()
    expected = np.diff(ndtr((edges(bits) - loc) / scale))
    assert np.abs(size / 2**PRECISION - expected).max() < 1e-5
    for place in (start, start + size - np.uint64(1)):
        assert (masses.at(place)[0] == bucket).all()
