"""Tables hold what the functions are, to the last place, and lines between knots rise where the functions do."""

import numpy as np
import pytest
from scipy.special import expit, ndtr

from vae_lightning.compression import tables


def test_tables_hold_the_functions() -> None:
    wide, narrow = np.arange(-16 * 256, 16 * 256 + 1) / 256, np.arange(-8 * 256, 8 * 256 + 1) / 256
    for table, expected in (
        (tables.sigmoid(), expit(wide)),
        (tables.softplus(), np.logaddexp(0, wide)),
        (tables.normal_cdf(), ndtr(narrow)),
        (tables.exp2(), 2.0 ** (np.arange(257) / 256)),
    ):
        assert np.abs(table - expected).max() < 2.0**-40


@pytest.mark.parametrize(("table", "first"), [("sigmoid", -16), ("normal_cdf", -8)])
def test_what_lies_between_knots_rises_and_is_near(table: str, first: int) -> None:
    x = np.sort(np.random.default_rng(0).uniform(-20, 20, 100_000))
    values = tables.interpolated(getattr(tables, table)(), x, first)
    assert (np.diff(values) >= 0).all()
    assert np.abs(values - (expit if table == "sigmoid" else ndtr)(x)).max() < 1e-6
    assert values.min() >= 0
    assert values.max() <= 1
