"""The table of a sweep as a page for people: `sweep.html`, one file that needs no network, and `sweep.md`."""

import base64
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from PIL import Image

from vae_lightning.errors import one_line
from vae_lightning.glossary import described
from vae_lightning.machine.reading import content_within
from vae_lightning.machine.shell import called, shell_quoted
from vae_lightning.reports.page import environment, pixels_wide
from vae_lightning.sweeps.naming import shown
from vae_lightning.sweeps.record import log_of
from vae_lightning.sweeps.results import Result
from vae_lightning.sweeps.statistics import Spread
from vae_lightning.sweeps.status import State
from vae_lightning.sweeps.table import Row, Table

__all__ = ["Drawing", "errors_in_words", "number", "thumbnail", "to_html", "to_markdown"]

log = logging.getLogger(__name__)

PICTURE = 64 << 20
"""The most bytes of a figure of a run."""
PIXELS = 40_000_000
"""The most pixels of a figure of a run."""
SIDE = 360
"""The most pixels of a side of a figure of a run, as the page shows it."""
WALL = {"samples": ("samples",), "traversals": ("traversals", "latent_grid_20x20")}
"""What the wall shows of each setting: the first of these figures that an evaluation has drawn."""
CELLS = 60
"""Settings on the wall, at most."""
PACKAGE = "vae_lightning.sweeps"


@dataclass(frozen=True)
class Drawing:
    """A plot of the table.

    >>> Drawing("seeds", "A point a seed.", b"").data
    'data:image/png;base64,'
    """

    name: str
    """The name of the plot, and of its file."""
    caption: str
    """What the plot shows."""
    content: bytes
    """The PNG."""

    @property
    def data(self) -> str:
        """The content as a `data:` URL."""
        return f"data:image/png;base64,{base64.b64encode(self.content).decode()}"

    @property
    def width(self) -> int:
        """The width in pixels."""
        return pixels_wide(self.content)


def to_html(table: Table, drawings: Sequence[Drawing]) -> str:
    """The page of a table as one self-contained HTML file."""
    rendered = environment(autoescape=True, package=PACKAGE)
    script = rendered.get_template("sweep.js.j2").render().strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # the script is this project's; of all others, also of one that a name had smuggled in, a browser runs none
    return rendered.get_template("sweep.html.j2").render(
        page=_Page(table), drawings=drawings, script=Markup(script), digest=digest, main=set(table.main)
    )


def to_markdown(table: Table, drawings: Sequence[Drawing]) -> str:
    """The page of a table as Markdown, for a file in the sweep's folder."""
    rendered = environment(autoescape=False, package=PACKAGE)
    return rendered.get_template("sweep.md.j2").render(page=_Page(table), drawings=drawings)


class _Page:
    """What the templates show of a table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.title = table.folder.name
        self.command = " ".join([called("train.py"), "-m", *map(_quoted, table.record.words)])
        this = _quoted(f"sweep={table.folder}")
        self.go_on, self.evaluates = f"{called('train.py')} -m {this}", f"{called('evaluate.py')} {this}"
        self.written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.counts = ", ".join(f"{count} {state.value}" for state, count in table.counted().items())
        self.errors = errors_in_words(table)
        self.axes = [(axis, table.names[axis]) for axis in table.axes]
        self.metrics = [(key, described(key.partition("/")[2])) for key in table.metrics]
        self.different = [key for key in table.metrics if any(key in row.differences for row in table.rows)]
        self.estimators = {key: _estimated(row) for key, row in table.estimators.items()}

    @property
    def size(self) -> str:
        """How many jobs and settings there are."""
        jobs, settings = len(self.table.results), len(self.table.rows)
        return f"{jobs} job{'s' * (jobs != 1)} of {settings} setting{'s' * (settings != 1)}"

    @property
    def another(self) -> str:
        """The settings of a row that differences could be taken from as well."""
        rows = [row for row in self.table.rows if row.finished and row is not self.table.chosen]
        return (rows or self.table.rows)[0].label

    def setting(self, row: Row, axis: str) -> str:
        """The value of a setting as text."""
        return shown(row.settings[axis]) if axis in row.settings else ""

    def sortable(self, row: Row, axis: str) -> str:
        """What a row is sorted by in the column of an axis."""
        return shown(row.settings.get(axis, ""))

    def cell(self, key: str, spread: Spread | None) -> dict[str, str] | None:
        """The texts of a mean and its errors, in the digits of the metric."""
        if spread is None:
            return None
        scale = self.table.scale(key)
        return {
            "mean": number(spread.mean, scale),
            "half": "" if spread.half_width is None else number(spread.half_width, scale),
            "seeds": f"{spread.num_seeds} seed{'s' * (spread.num_seeds != 1)}",
            "images": "" if spread.over_images is None else number(spread.over_images, scale),
            "count": "" if spread.num_images is None else f"{spread.num_images:,}",
            "exact": repr(spread.mean),
        }

    @property
    def unfinished(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """The jobs without a result, by how they stand."""
        for state in (State.FAILED, State.CHANGED, State.INTERRUPTED, State.RUNNING, State.MISSING, State.PRUNED):
            jobs = [self.job(result) for result in self.table.of_state(state)]
            if jobs:
                yield state.value, jobs

    @property
    def jobs(self) -> list[dict[str, str]]:
        """All jobs."""
        return [self.job(result) for result in self.table.results]

    def job(self, result: Result) -> dict[str, str]:
        """What the page says of a job."""
        logs = [path for path in (log_of(result.run), result.run / "train.log") if path.is_file()]
        keys = (key for key in self.table.main[:3] if key in result.metrics)
        values = (f"{key} {number(result.metrics[key], self.table.scale(key))}" for key in keys)
        return {
            "label": self.table.job(result),
            "state": result.status.state.value,
            "reason": result.status.reason or "",
            "values": ", ".join(values),
            "folder": self.link(result.run) if result.run.is_dir() else "",
            "report": self.link(result.page) if result.page else "",
            "log": self.link(logs[0]) if logs else "",
        }

    def link(self, path: Path) -> str:
        """The relative address of a file of the sweep."""
        return f"./{quote(os.fsencode(path.relative_to(self.table.folder)), safe='/=,+-._~')}"

    @property
    def wall(self) -> list[dict[str, Any]]:
        """For each setting of which a run was evaluated with figures: its label, place, and the figures of its first such run."""
        cells: list[dict[str, Any]] = []
        for row in self.table.rows:
            pictures = next((found for result in row.finished if (found := self._pictures(result))), None)
            if pictures is not None and len(cells) < CELLS:
                cells.append({"label": row.label, "place": self._place(row), **pictures})
        return cells

    @property
    def columns(self) -> int:
        """How many columns the wall has: of two keys that vary, one for each value of the second; 0: as many as there is room."""
        return len(self._values(self.table.axes[1])) if len(self.table.axes) == 2 else 0

    def _values(self, axis: str) -> list[str]:
        return list(dict.fromkeys(shown(row.settings.get(axis)) for row in self.table.rows))

    def _place(self, row: Row) -> str:
        if not self.columns:
            return ""
        line, column = (self._values(axis).index(shown(row.settings.get(axis))) + 1 for axis in self.table.axes)
        return f"grid-row: {line}; grid-column: {column}"

    def _pictures(self, result: Result) -> dict[str, Any] | None:
        paths = {kind: next(filter(None, map(result.picture, names)), None) for kind, names in WALL.items()}
        shown_of = [
            {"kind": kind, "data": data, "link": self.link(path)}
            for kind, path in paths.items()
            if path is not None and (data := thumbnail(path, self.table.folder))
        ]
        where = self.link(result.page) if result.page else ""
        return {"pictures": shown_of, "of": self.table.job(result), "report": where} if shown_of else None


def _quoted(word: str) -> str:
    """A word for a shell; what no command line can hold, as only a stranger's record does, is replaced."""
    try:
        return shell_quoted(word, "utf-8")
    except UnicodeEncodeError:
        return shell_quoted(word.encode(errors="replace").decode(), "utf-8")


def _estimated(row: Any) -> str:
    samples = f", K = {row['num_samples']}" if row["num_samples"] else ""
    return f"{row['estimator']}, {row['num_images']:,} images{samples}, binarization {row['binarization']}"


def errors_in_words(table: Table) -> str:
    """What the errors in the table are, and of how many seeds, in a sentence."""
    counts = {cell.num_seeds for row in table.rows for cell in row.cells.values()}
    if counts and max(counts) == 1:
        return "one seed a setting: other seeds would give other values, and how different ones cannot be said"
    single = "; where there is one seed only, no such interval can be given" if 1 in counts else ""
    return f"mean over {table.seeds} ± half of the 95 % interval over seeds (Student's t){single}"


def number(value: float, scale: float | None = None) -> str:
    """A value as text: two decimals, four where what it belongs to (`scale`) is a share or small otherwise.

    >>> number(-98.1234), number(0.01234), number(0.01234, scale=98.0)
    ('-98.12', '0.0123', '0.01')
    """
    return f"{value:.{4 if abs(value if scale is None else scale) <= 1 else 2}f}"


def thumbnail(path: Path, folder: Path, side: int = SIDE) -> str | None:
    """A figure of a run as a small picture in a `data:` URL; None if it is none, or lies elsewhere than in `folder`."""
    try:
        content = content_within(path, PICTURE, folder)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.width * picture.height > PIXELS:
                raise ValueError("has more pixels than a figure")
            small = picture.convert("RGB")
        small.thumbnail((side, side))
        file = io.BytesIO()
        small.save(file, "PNG", optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        log.warning("%s: cannot be shown (%s)", path, one_line(error, 200))
        return None
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
