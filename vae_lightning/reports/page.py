"""The report as a page for people: `report.html`, which needs no other file, and `report.md`."""

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from vae_lightning.evaluation.registry import PARTS, SECTIONS
from vae_lightning.glossary import described, metric_of
from vae_lightning.reports.reading import COVERS, headline, remarks, standings
from vae_lightning.reports.rows import formatted, in_words, standing_row, terms
from vae_lightning.reports.stamp import Stamp
from vae_lightning.treatment import Treatment

__all__ = ["Page", "Picture", "environment", "pixels_wide", "to_html", "to_markdown"]

KINDS = {".png": "image/png", ".gif": "image/gif"}


def pixels_wide(content: bytes) -> int:
    """The width of a PNG or GIF, as its first bytes say; 0 of anything else."""
    start = content[:24]
    if start.startswith(b"GIF8") and len(start) == 24:
        return int(struct.unpack("<H", start[6:8])[0])
    return int(struct.unpack(">I", start[16:20])[0]) if start.startswith(b"\x89PNG") and len(start) == 24 else 0


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    >>> Picture("samples", Path("figures/samples.png"), "Draws from the prior.", {"extent": 4.0}).drawn_with
    'extent: 4'
    """

    name: str
    """The figure's name in the catalogue, or import path."""
    path: Path
    """The file, PNG or GIF."""
    caption: str
    """What the figure shows."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the evaluation that the figure was drawn with, by name."""

    @property
    def drawn_with(self) -> str:
        """The settings in words."""
        return in_words(self.settings)

    @property
    def data(self) -> str:
        """The content of the file as a `data:` URL."""
        return f"data:{KINDS[self.path.suffix]};base64,{base64.b64encode(self.path.read_bytes()).decode()}"

    @property
    def width(self) -> int:
        """The width in pixels; 0 if the file does not say."""
        return pixels_wide(self.path.read_bytes())

    @property
    def moves(self) -> bool:
        """Whether the picture is an animation."""
        return self.path.suffix == ".gif"


@dataclass(frozen=True)
class Page:
    """All that a page shows of a run.

    >>> nll = {"value": 90.0, "standard_error": 0.1, "num_images": 100, "num_samples": 10, "estimator": "importance sampling"}
    >>> nll |= {"settings": {}, "seconds": 1.5, "section": "likelihood"}
    >>> page = Page("outputs/vae", "best.ckpt", "VAE", "dynamic", {"test": {"nll": [nll]}})
    >>> page.sections["likelihood"][0]["value"]
    '90.00'
    """

    title: str
    """The run's folder."""
    checkpoint: str
    """The checkpoint of the weights in words: file, epoch, step."""
    model: str
    """The model's class and number of parameters."""
    binarization: str
    """How the images were binarized."""
    estimates: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    """The estimates of `report.json`, by split and name: first the one under the name, then those of other settings."""
    command: str | None = None
    """The command that trained the run; None if it is not known."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """The provenance of the training, as in `metrics.json`."""
    pictures: Sequence[Picture] = ()
    """The figures that were drawn."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Reasons why other figures were not drawn, by name of the figure."""
    warnings: Sequence[str] = ()
    """Warnings about the estimates, a line each."""
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Reasons why parts of the evaluation were left out, by name of the part."""
    treatment: Treatment | None = None
    """What the numbers are of, which decides what they compare with; None: unknown."""
    stamp: Stamp | None = None
    """Whether the likelihoods of these weights were verified; None: it was not looked at."""
    explorer: str | None = None
    """The explorer's page of these weights, a file beside the report; None: there is none."""

    @property
    def covers(self) -> str:
        """What the standard errors cover, and what not."""
        return COVERS

    @property
    def went_on(self) -> str | None:
        """Where the training went on from a checkpoint by other settings than before; None if it did not."""
        before = self.provenance.get("continued_from")
        changed = before.get("changed") if isinstance(before, Mapping) else None
        if not isinstance(before, Mapping) or not isinstance(changed, Mapping) or not changed:
            return None
        settings = ", ".join(f"{key}={values.get('was')}" for key, values in changed.items() if isinstance(values, Mapping))
        return f"Until step {before.get('steps')} it was trained with {settings}."

    @property
    def first(self) -> dict[str, Mapping[str, Any]]:
        """The estimate under each name of the test images; of the first split, if no test image was measured."""
        split = "test" if self.estimates.get("test") else next(iter(self.estimates), "test")
        return {name: rows[0] for name, rows in self.estimates.get(split, {}).items() if rows}

    @property
    def headline(self) -> list[dict[str, str]]:
        """The estimates that come first, formatted."""
        return [{"name": name, "meaning": described(name), **formatted(name, e)} for name, e in headline(self.first).items()]

    @property
    def standings(self) -> list[dict[str, Any]]:
        """The numbers that have figures to be held against, each with a row a figure and one of its own."""
        return [standing_row(standing) for standing in standings(self.first, self.treatment)]

    @property
    def compares(self) -> bool:
        """Whether there are numbers of the kinds that yardsticks are of."""
        return bool({"nll", "elbo"} & set(self.first))

    @property
    def remarks(self) -> list[str]:
        """What the estimates say of each other."""
        return remarks(self.first)

    @property
    def has_settings(self) -> bool:
        """Whether an estimate has settings of its own."""
        return any(row["settings"] for rows in self.sections.values() for row in rows)

    @property
    def terms(self) -> list[dict[str, str]]:
        """What the names in the tables mean, each once."""
        return terms(name for rows in self.estimates.values() for name in rows)

    @property
    def sections(self) -> dict[str, list[dict[str, str]]]:
        """The rows of the tables of estimates, formatted, by the heading above each table."""
        sections: dict[str, list[dict[str, str]]] = {}
        for split, estimates in self.estimates.items():
            for name, rows in estimates.items():
                for estimate in rows:
                    about = metric_of(name)
                    row = {"split": split, "name": name, "about": about.name if about else "", **formatted(name, estimate)}
                    sections.setdefault(estimate["section"] or SECTIONS[0], []).append(row)
        headings = list(
            dict.fromkeys([*SECTIONS, *(name for part in PARTS.values() for name in (part.heading, *part.further_sections))])
        )
        sections = dict(sorted(sections.items(), key=lambda entry: _place(entry[0], headings)))
        for rows in sections.values():
            for before, row in reversed(list(pairwise(rows))):
                if row["settings"] and row["settings"] == before["settings"]:
                    row["settings"] = "settings as above"
        return sections


def _place(heading: str, headings: Sequence[str]) -> int:
    """The place of a heading among `headings`; unknown ones come last."""
    return headings.index(heading) if heading in headings else len(headings)


def to_html(page: Page) -> str:
    """The page as one self-contained HTML file."""
    return environment(autoescape=True).get_template("report.html.j2").render(page=page)


def to_markdown(page: Page, folder: Path) -> str:
    """The page as Markdown, for a file in `folder`, which the links to figures are relative to."""
    return environment(autoescape=False).get_template("report.md.j2").render(page=page, folder=folder)


def environment(*, autoescape: bool, package: str = "vae_lightning.reports") -> Environment:
    """What renders the templates of a package: those in its folder `templates`, and those of reports.

    Args:
        autoescape: whether texts are escaped for HTML; a Markdown template escapes each with `as_it_is` or `without_tags`.
    """
    loader = ChoiceLoader([PackageLoader(name, "templates") for name in dict.fromkeys((package, "vae_lightning.reports"))])
    environment = Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["as_it_is"] = _as_it_is
    environment.filters["without_tags"] = _without_tags
    return environment


def _without_tags(text: object) -> str:
    """Markdown whose text holds neither tags nor links."""
    return re.sub(r"([\\\[])", r"\\\1", _without_entities(text))


def _as_it_is(text: object) -> str:
    """`text` escaped for Markdown, in which `<folder>` would be a tag, and `*` or `|` in a name would be markup."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", _without_entities(text))


def _without_entities(text: object) -> str:
    """`text` on one line without what could begin a tag; not by a backslash, which some readers of Markdown show before a `<`."""
    return re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(str(text).split())).replace("<", "&lt;")
