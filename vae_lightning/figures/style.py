"""What all figures have in common: one look, one colour a digit, images in tiles, the same bytes for the same figure.

The colours are those of Paul Tol's "muted" scheme, safe for the colour-blind, and a grey for the tenth ("Colour schemes",
Tol, 2021, https://sronpersonalpages.nl/~pault/).
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["DIGIT_COLORS", "colored_by_digit", "digit_bar", "figure", "png", "show_tiles", "style", "tile_center", "tiles"]

DIGIT_COLORS = ("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#777777")
"""The colour of each digit, in every figure."""

STYLE: dict[str, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[DIGIT_COLORS[i] for i in (0, 6, 2, 4, 8, 1)]),
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}
GAP = 2
"""White pixels between two tiles."""


@contextmanager
def style() -> Iterator[None]:
    """The look of this project's figures, whatever matplotlib's settings are outside."""
    settings: dict[Any, Any] = {**mpl.rcParamsDefault, **STYLE}
    del settings["backend"]  # the user's: asking for it would start it
    with mpl.rc_context(settings):
        yield


def figure(width: float, height: float, *, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of so many inches and its axes, known to no window and to no global state."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, **subplots)


def png(made: Figure, dpi: int = 120) -> bytes:
    """The figure as a PNG, without date or version in it: the same figure is the same bytes."""
    file = io.BytesIO()
    made.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def tiles(images: Tensor, columns: int) -> Tensor:
    """Images `(N, 1, H, W)` or `(N, H, W)` as one picture `(H', W')`, in the order one reads; what is between them is NaN."""
    images = images.detach().float().cpu().reshape(-1, *images.shape[-2:])
    count, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), torch.nan)
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + GAP), (number % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet


def tile_center(number: int, size: int = 28) -> float:
    """Where along an axis of `tiles` the middle of the `number`th row or column of tiles lies."""
    return number * (size + GAP) + (size - 1) / 2


def show_tiles(
    axes: Axes, images: Tensor, columns: int, *, row_names: list[str] | None = None, column_names: list[str] | None = None
) -> None:
    """Draw `tiles` on `axes` with names at the left and above, black on white, 0 being white and 1 black."""
    axes.imshow(tiles(images, columns).numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.spines[:].set_visible(False)
    size = images.shape[-1]
    axes.set_yticks([tile_center(i, size) for i in range(len(row_names or []))], row_names or [])
    axes.set_xticks([tile_center(i, size) for i in range(len(column_names or []))], column_names or [])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)


def colored_by_digit(axes: Axes, points: Tensor, labels: Tensor, classes: int = 10) -> None:
    """Points `(N, 2)` in the colour of their label `(N,)`, and each label's number at the median of its points."""
    points, labels = points.detach().float().cpu(), labels.cpu()
    colors = [DIGIT_COLORS[label % len(DIGIT_COLORS)] for label in labels.tolist()]
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=4, c=colors, alpha=0.6, linewidths=0, rasterized=True)
    medians = {label: points[labels == label].median(0).values for label in range(classes) if (labels == label).any()}
    # where the classes lie on each other, as in a conditional model, their numbers would too
    if len(medians) > 1 and torch.stack([*medians.values()]).std(0).norm() > 0.3 * points.std(0).norm():
        for label, (x, y) in ((label, median.tolist()) for label, median in medians.items()):
            box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": DIGIT_COLORS[label % len(DIGIT_COLORS)]}
            axes.text(x, y, str(label), ha="center", va="center", fontsize=9, fontweight="bold", bbox=box)


def digit_bar(made: Figure, axes: Axes, classes: int = 10) -> None:
    """A colour bar of the digits, one step each."""
    colors = ListedColormap([DIGIT_COLORS[i % len(DIGIT_COLORS)] for i in range(classes)])
    norm = BoundaryNorm([i - 0.5 for i in range(classes + 1)], classes)
    bar = made.colorbar(ScalarMappable(norm, colors), ax=axes, ticks=list(range(classes)), label="digit")
    bar.ax.tick_params(length=0)
