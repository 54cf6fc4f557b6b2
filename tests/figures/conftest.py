"""What the tests of figures look at: images of two halves, and what a figure shows in its tiles."""

import pytest
import torch
from matplotlib.axes import Axes
from torch import Tensor

from vae_lightning.figures.style import GAP


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
