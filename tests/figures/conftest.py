"""What the tests of figures look at: images of two halves, and what a figure shows in its tiles."""

from collections.abc import Callable

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning.figures.style import GAP, png, style


@pytest.fixture
def x() -> Tensor:
    """Forty binary images `(40, 1, 28, 28)`, each half of its own darkness."""
    source = torch.Generator().manual_seed(0)
    darkness = torch.rand(40, 1, 1, 2, generator=source).repeat_interleave(14, -1).expand(-1, 1, 28, -1)
    return (torch.rand(40, 1, 28, 28, generator=source) < darkness).float()


@pytest.fixture
def y() -> Tensor:
    return torch.arange(40) % 10


@pytest.fixture
def shown():  # type: ignore[no-untyped-def]
    """The tiles that an axes shows, `(rows, columns, 28, 28)`."""

    def tiles_of(axes: Axes) -> Tensor:
        sheet = torch.from_numpy(axes.images[0].get_array().filled(torch.nan))
        rows, columns = ((side + GAP) // (28 + GAP) for side in sheet.shape)
        padded = torch.full((rows * (28 + GAP), columns * (28 + GAP)), torch.nan)
        padded[: sheet.shape[0], : sheet.shape[1]] = sheet
        return padded.view(rows, 28 + GAP, columns, 28 + GAP).transpose(1, 2)[..., :28, :28]

    return tiles_of


@pytest.fixture
def overhang():  # type: ignore[no-untyped-def]
    """How far, in inches, what a figure holds reaches beyond its edges, as it is written to a file; no more than 0.02 is none."""

    def of(draw: Callable[[], Figure]) -> float:
        with style():
            made = draw()
            png(made)  # which lays it out
            held = made.get_tightbbox(made.canvas.get_renderer())  # type: ignore[attr-defined]
        width, height = made.get_size_inches()
        return float(max(-held.x0, -held.y0, held.x1 - width, held.y1 - height))

    return of
