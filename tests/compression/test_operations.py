"""Products of numbers on a grid are exact, or refused."""

import pytest
import torch

from vae_lightning.compression.operations import exact_product
from vae_lightning.errors import ConfigurationError


def test_a_sum_beyond_whole_numbers_is_refused() -> None:
    big = torch.full((1, 2), 2.0**11, dtype=torch.float64)
    with pytest.raises(ConfigurationError, match="too large"):
        exact_product(big, big.mT)
    assert exact_product(big, big.mT / 8).item() == 2.0**20
    with pytest.raises(ConfigurationError, match="not finite"):
        exact_product(big * float("nan"), big.mT)


def test_what_a_product_costs_in_precision_is_a_few_units() -> None:
    a, b = torch.randn(4, 500, dtype=torch.float64), torch.randn(500, 6, dtype=torch.float64)
    assert (exact_product(a, b) - a @ b).abs().max() < 500**0.5 * 5 * 2.0**-16
