"""Completed images keep what was seen, and say of the rest what a model with a known answer says."""

import pytest
import torch
from torch import Tensor
from toys import Painter

from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.completion import completion, isocontours, posterior_gap
from vae_lightning.inference.observed import observed_mask


def test_completion_keeps_the_seen_part_and_continues_it_as_the_model_must(shown) -> None:  # type: ignore[no-untyped-def]
    # the left half black, the right half white: of the seen top, the bottom must be the same
    x = torch.zeros(1, 1, 28, 28)
    x[..., :14] = 1
    mask = observed_mask("top")
    rows = shown(completion(Painter(), x, torch.zeros(1, dtype=torch.int64), mask, samples=2).axes[0])[:, 0]
    seen, *completed, original = rows
    assert torch.equal(original, x[0, 0])
    assert torch.equal(seen[:14], x[0, 0, :14])
    assert seen[14:].unique().numel() == 1, "the unseen part is grey"
    for image in completed:
        assert torch.equal(image[:14], x[0, 0, :14])
        assert image[14:, :14].min() > 0.95
        assert image[14:, 14:].max() < 0.05


def test_isocontours_of_a_given_part_state_the_gap_to_the_exact_posterior(x: Tensor, y: Tensor) -> None:
    model, mask = Painter(), observed_mask("left")
    made = isocontours(model, x[:2], y[:2], mask)
    gap = posterior_gap(model, x[:2], y[:2], mask)
    assert (gap > -1e-3).all()
    # the right half is unseen, so z_1 is as the prior has it, and z_0 nearly Gaussian: q can follow
    assert (gap < 0.1).all()
    titles = [axes.get_title() for axes in made.axes if axes.get_title().startswith("KL")]
    assert made.get_label() == f"KL(q || p), row by row: {float(gap[0]):.2f}, {float(gap[1]):.2f} nats."
    assert titles == [f"KL(q || p) = {float(value):.2f} nats" for value in gap]


def test_isocontours_need_two_dimensions(x: Tensor, y: Tensor) -> None:
    with pytest.raises(ConfigurationError, match="two dimensions"):
        isocontours(Painter(3), x[:1], y[:1], observed_mask("top"))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_title_and_names_are_within_the_picture_of_few_images(x: Tensor, y: Tensor, count: int, overhang) -> None:  # type: ignore[no-untyped-def]
    assert overhang(lambda: completion(Painter(), x[:count], y[:count], observed_mask("top"))) < 0.02


def test_width_over_ten_classes_is_as_it_was(x: Tensor, y: Tensor) -> None:
    assert completion(Painter(), x[:10], y[:10], observed_mask("top")).get_size_inches()[0] == pytest.approx(6.9)
