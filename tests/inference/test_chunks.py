"""Chunks are all rows once, in their order, whatever the size."""

import pytest
import torch

from vae_lightning.inference.chunks import chunks, over_chunks, rows_at_once


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_together_are_the_whole(size: int) -> None:
    x, y = torch.arange(14).view(7, 2), torch.arange(7)
    parts = list(chunks(size, x, None, y))
    assert all(len(images) == len(labels) <= size and nothing is None for images, nothing, labels in parts)
    assert torch.equal(torch.cat([images for images, _, _ in parts]), x)
    assert torch.equal(over_chunks(lambda images, labels: images + labels.unsqueeze(1), x, y, size=size), x + y.unsqueeze(1))
    split = x.split(size)
    assert all(torch.equal(one, other) for one, (other, _, _) in zip(split, parts, strict=True)), "as torch cuts them"


def test_nothing_is_one_empty_chunk() -> None:
    assert over_chunks(lambda x: x + 1, torch.empty(0, 3), size=5).shape == (0, 3)


def test_tensors_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        list(chunks(1, torch.zeros(2), torch.zeros(3)))


def test_at_least_one_row_is_held() -> None:
    assert [rows_at_once(most, 10) for most in (1, 9, 10, 25)] == [1, 1, 1, 2]
