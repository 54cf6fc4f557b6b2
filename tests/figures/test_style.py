"""One look, and the same bytes for the same figure."""

import matplotlib as mpl
import torch
from matplotlib.colors import to_rgb

from vae_lightning.abilities import Labels
from vae_lightning.figures.style import CLASS_COLORS, class_colors, colored_by_class, figure, png, show_tiles, style, tiles


def test_tiles_are_in_reading_order_with_gaps_between() -> None:
    sheet = tiles(torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 3, 3), 2)
    assert sheet.shape == (3 * 3 + 2 * 2, 2 * 3 + 2)
    assert sheet[0, 0] == 0
    assert sheet[0, 5] == 1
    assert sheet[5, 0] == 2
    assert sheet[10, 0] == 4
    assert sheet[10, 5].isnan()
    assert sheet[3, 0].isnan()


def test_ten_classes_have_ten_colours_that_are_far_apart() -> None:
    colours = torch.tensor([to_rgb(name) for name in CLASS_COLORS])
    distances = torch.cdist(colours, colours) + 9 * torch.eye(10)
    assert distances.min() > 0.2


def test_many_classes_have_a_colour_each() -> None:
    assert len(set(class_colors(200))) == 200
    assert class_colors(10) == list(CLASS_COLORS)


def test_a_class_has_the_same_colour_in_every_figure() -> None:
    for labels in (torch.tensor([3, 3, 7]), torch.tensor([7, 3])):
        _, axes = figure(2, 2)
        colored_by_class(axes, torch.zeros(len(labels), 2), labels, Labels())
        shown = axes.collections[0].get_facecolors()[:, :3]
        assert [tuple(c) for c in shown] == [to_rgb(CLASS_COLORS[label]) for label in labels.tolist()]


def drawn() -> bytes:
    with style():
        made, axes = figure(2, 2)
        show_tiles(axes, torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(0)), 2, row_names=["a", "b"])
        return png(made)


def test_the_same_figure_is_the_same_bytes_whatever_the_settings_outside() -> None:
    first = drawn()
    with mpl.rc_context({"font.size": 30, "image.cmap": "viridis", "figure.dpi": 30}):
        assert drawn() == first
    assert b"matplotlib" not in first.lower(), "the version would change the bytes"
