"""What all figures have in common: one look, one colour a class, images in tiles, the same bytes for the same figure.

The colours of up to ten classes are those of Paul Tol's "muted" scheme, safe for the colour-blind, and a grey for the tenth
("Colour schemes", Tol, 2021, https://sronpersonalpages.nl/~pault/).
"""

import io
from collections.abc import Iterator
from colorsys import hsv_to_rgb
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.abilities import Labels

__all__ = [
    "CLASS_COLORS",
    "class_bar",
    "class_colors",
    "colored_by_class",
    "figure",
    "named",
    "png",
    "show_tiles",
    "style",
    "tile_center",
    "tiles",
]

CLASS_COLORS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777")
"""The colour of each of up to ten classes, in every figure."""

STYLE: dict[str, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[CLASS_COLORS[i] for i in (0, 6, 2, 4, 8, 1)]),
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}
GAP = 2
"""White pixels between two tiles."""
MOST_TICKS = 25
"""Classes that a colour bar or an axis names; of more, every second, third, ..."""


@contextmanager
def style() -> Iterator[None]:
    """The look of this project's figures, whatever matplotlib's settings are outside."""
    settings: dict[Any, Any] = {**mpl.rcParamsDefault, **STYLE}
    del settings["backend"]  # the user's: asking for it would start it
    with mpl.rc_context(settings):
        yield


def figure(width: float, height: float, *, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of so many inches and its axes, known to no window and to no global state."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **subplots)


def class_colors(classes: int) -> list[str]:
    """A colour for each class: `CLASS_COLORS`, or of more classes than that as many steps around the circle of hues.

    >>> class_colors(3), len(set(class_colors(100)))
    (['#332288', '#88CCEE', '#44AA99'], 100)
    """
    if classes <= len(CLASS_COLORS):
        return list(CLASS_COLORS[:classes])
    # neighbours in number are far apart in hue, by the golden ratio, and differ in brightness too
    return [to_hex(hsv_to_rgb(i * 0.618034 % 1, 0.75, (0.9, 0.65, 0.45)[i % 3])) for i in range(classes)]


def png(fig: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG, without date or version in it: the same figure is the same bytes."""
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def tiles(images: Tensor, columns: int) -> Tensor:
    """Images as one picture in the order one reads: `(H', W')` with NaN between tiles, or `(H', W', 3)` in colour.

    Args:
        images: `(N, 1, H, W)` or `(N, H, W)` in grey, `(N, 3, H, W)` in colour.
    """
    images = images.detach().float().cpu()
    colored = images.dim() > 3 and images.shape[-3] == 3
    images = images.flatten(0, -4).movedim(1, -1).clamp(0, 1) if colored else images.reshape(-1, *images.shape[-2:])
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, *images.shape[3:])
    # matplotlib leaves NaN out of a grey picture only
    sheet = torch.full(shape, 1.0 if colored else torch.nan)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def tile_center(number: float, size: int) -> float:
    """The place along an axis of the middle of the `number`th row or column of tiles of `size` pixels."""
    return number * (size + GAP) + (size - 1) / 2


def show_tiles(
    axes: Axes, images: Tensor, columns: int, *, row_names: list[str] | None = None, column_names: list[str] | None = None
) -> None:
    """Draw `tiles` on `axes` with names at the left and above; grey images black on white, 0 being white and 1 black."""
    axes.imshow(tiles(images, columns).numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    height, width = images.shape[-2:]
    axes.set_yticks([tile_center(i, height) for i in range(len(row_names or []))], row_names or [])
    axes.set_xticks([tile_center(i, width) for i in range(len(column_names or []))], column_names or [])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)


def named(names: list[str], axis: Axis) -> None:
    """Turn the names along a horizontal `axis` upright where they are words, which would overlap."""
    if any(len(name) > 3 for name in names):
        axis.set_tick_params(labelrotation=90)


def colored_by_class(axes: Axes, points: Tensor, y: Tensor, labels: Labels) -> None:
    """Points `(N, 2)` in the colour of their label `(N,)`, and each class's name at the median of its points."""
    points, y = points.detach().float().cpu(), y.cpu()
    classes = labels.classes_in(y)
    palette = class_colors(max(1, classes))
    colors = [palette[label] for label in y.tolist()]
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=4, c=colors, alpha=0.6, linewidths=0, rasterized=True)
    medians = {label: points[y == label].median(0).values for label in range(classes) if (y == label).any()}
    # where the classes lie on each other, as in a conditional model, their names would too
    if len(medians) > 1 and torch.stack([*medians.values()]).std(0).norm() > 0.3 * points.std(0).norm():
        for label, (x, height) in ((label, median.tolist()) for label, median in medians.items()):
            name = labels.name(label)
            around = "circle,pad=0.15" if len(name) <= 2 else "round,pad=0.15"
            box = {"boxstyle": around, "facecolor": "white", "edgecolor": palette[label]}
            axes.text(x, height, name, ha="center", va="center", fontsize=9, fontweight="bold", bbox=box)


def class_bar(fig: Figure, axes: Axes, labels: Labels, classes: int) -> None:
    """A colour bar of the classes, one step each; nothing for images without labels."""
    if not classes:
        return
    norm = BoundaryNorm([i - 0.5 for i in range(classes + 1)], classes)
    shown = range(0, classes, -(-classes // MOST_TICKS))
    bar = fig.colorbar(ScalarMappable(norm, ListedColormap(class_colors(classes))), ax=axes, ticks=list(shown), label=labels.noun)
    if labels.names:
        bar.set_ticklabels(labels.listed(list(shown)))
    bar.ax.tick_params(length=0)
