"""Memory that runs out halves the batch, and nothing else does."""

import logging

import pytest
import torch

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.budget import Budget


def test_batch_is_halved_until_it_fits_and_stays_so(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def compute(at_once: int) -> int:
        tried.append(at_once)
        # a hundred petabytes, which no machine has
        return at_once if at_once <= 30 else torch.empty(10**17).numel()

    budget = Budget(100)
    with caplog.at_level(logging.WARNING):
        assert budget.run(compute) == 25
        assert budget.run(compute) == 25
    assert tried == [100, 50, 25, 25]
    assert [record.message for record in caplog.records] == [f"out of memory: going on with max_batch={size}" for size in (50, 25)]


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_one_image_that_does_not_fit_is_one_clear_line(error: Exception) -> None:
    def compute(at_once: int) -> int:
        raise error

    with pytest.raises(ConfigurationError, match="max_batch=1: memory runs out"):
        Budget(5).run(compute)


def test_other_errors_are_not_touched() -> None:
    def compute(at_once: int) -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        Budget(4).run(compute)


def test_no_images_at_once_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^max_batch=0"):
        Budget(0)
