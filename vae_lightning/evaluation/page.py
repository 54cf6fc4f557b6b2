"""The report as a page to look at: `report.html`, which needs no other file, and `report.md`."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vae_lightning.evaluation.table import shown
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
    warnings: Sequence[str] = ()
    """What is wrong with the figures."""
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Why parts of the evaluation were left out, by name."""

    @property
    def sections(self) -> dict[str, list[dict[str, str]]]:
        """The metric table, formatted, by the heading under which it stands."""
        sections: dict[str, list[dict[str, str]]] = {}
        for split, estimates in self.figures.items():
            for name, figure in estimates.items():
                kind = name.partition("/")[0]
                meaning = GLOSSARY.get(kind) or GLOSSARY.get(kind.removesuffix("_real"), "")
                row = {"split": split, "name": name, "meaning": meaning, **_formatted(name, figure)}
                sections.setdefault(figure["section"], []).append(row)
        for rows in sections.values():
            for before, row in reversed(list(pairwise(rows))):
                if row["settings"] and row["settings"] == before["settings"]:
                    row["settings"] = "settings as above"
        return sections


def _formatted(name: str, figure: Mapping[str, Any]) -> dict[str, str]:
    value, error = shown(name, figure)
    seconds = figure["seconds"]
    return {
        "value": value,
        "error": error,
        "images": f"{figure['num_images']:,}",
        "samples": str(figure["num_samples"] or ""),
        "estimator": figure["estimator"],
        "settings": "; ".join(f"{key.replace('_', ' ')}: {_short(value)}" for key, value in figure["settings"].items()),
        "seconds": "" if seconds is None else f"{seconds:.1f}",
    }


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return str(value)


def to_html(page: Page) -> str:
    """The page as one self-contained HTML file."""
    return _environment(autoescape=True).get_template("report.html.j2").render(page=page)


def to_markdown(page: Page, folder: Path) -> str:
    """The page as Markdown that shows the figures below `folder`, where it will lie."""
    return _environment(autoescape=False).get_template("report.md.j2").render(page=page, folder=folder)


def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("vae_lightning.evaluation", "templates")
    return Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
