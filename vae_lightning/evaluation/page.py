"""The report as a page to look at: `report.html`, which needs no other file, and `report.md`."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vae_lightning.glossary import GLOSSARY

__all__ = ["Page", "Picture", "to_html", "to_markdown"]

KINDS = {".png": "image/png", ".gif": "image/gif"}


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it."""

    name: str
    """Its name in the catalogue."""
    path: Path
    """The PNG or GIF."""
    caption: str
    """What one sees."""

    @property
    def data(self) -> str:
        """The file as a URL that holds it."""
        return f"data:{KINDS[self.path.suffix]};base64,{base64.b64encode(self.path.read_bytes()).decode()}"

    @property
    def moves(self) -> bool:
        """Whether it is an animation."""
        return self.path.suffix == ".gif"


@dataclass(frozen=True)
class Page:
    """All that a page tells of a run."""

    title: str
    """The run's folder."""
    checkpoint: str
    """What the weights are of: file, epoch, step."""
    model: str
    """The model's class and number of parameters."""
    binarization: str
    """How the images were binarized."""
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """The estimates of `report.json`, by split and name."""
    command: str | None = None
    """The command that trained it; None if the training did not end."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Of `metrics.json`."""
    pictures: Sequence[Picture] = ()
    """The figures that were drawn."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Why the others were not, by name."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The metric table, formatted."""
        return [
            {"split": split, "name": name, "meaning": GLOSSARY.get(name, ""), **_formatted(name, figure)}
            for split, estimates in self.figures.items()
            for name, figure in estimates.items()
        ]


def _formatted(name: str, figure: Mapping[str, Any]) -> dict[str, str]:
    digits = 4 if name == "accuracy" else 2
    error = figure["standard_error"]
    return {
        "value": f"{figure['value']:.{digits}f}",
        "error": "" if math.isnan(error) else f"{error:.{digits}f}",
        "images": f"{figure['num_images']:,}",
        "samples": str(figure["num_samples"] or ""),
        "estimator": figure["estimator"],
    }


def to_html(page: Page) -> str:
    """The page as one self-contained HTML file."""
    return _environment(autoescape=True).get_template("report.html.j2").render(page=page)


def to_markdown(page: Page, folder: Path) -> str:
    """The page as Markdown that shows the figures below `folder`, where it will lie."""
    return _environment(autoescape=False).get_template("report.md.j2").render(page=page, folder=folder)


def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("vae_lightning.evaluation", "templates")
    return Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
