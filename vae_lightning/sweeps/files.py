"""The table of a sweep as files: `sweep.csv`, `sweep.json`, `sweep.md`, `sweep.html` and `figures/`, each whole or not there.

`sweep.csv` has a row a setting, and of each metric the columns `test/elbo` (the mean over seeds), `test/elbo n_seeds`,
`test/elbo se_seeds`, `test/elbo ci95_seeds` (half of the 95 % interval), `test/elbo se_images`, `test/elbo n_images`, and with
`difference ` before them those of the paired difference. An empty cell is a number that there is not.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vae_lightning.errors import StorageError
from vae_lightning.figures.style import png, style
from vae_lightning.glossary import described
from vae_lightning.machine.files import write_bytes, write_json
from vae_lightning.sweeps.naming import shown
from vae_lightning.sweeps.page import Drawing, to_html, to_markdown
from vae_lightning.sweeps.plots import drawn
from vae_lightning.sweeps.results import Result
from vae_lightning.sweeps.statistics import Spread
from vae_lightning.sweeps.table import Row, Table, is_better_high
from vae_lightning.version import __version__

__all__ = ["CSV", "FIGURES", "FORMAT", "HTML", "JSON", "MARKDOWN", "to_csv", "to_json", "write_table"]

FORMAT = 1
"""The format of `sweep.json`."""
CSV, JSON, MARKDOWN, HTML, FIGURES = "sweep.csv", "sweep.json", "sweep.md", "sweep.html", "figures"
COLUMNS = {
    "": "mean",
    " n_seeds": "num_seeds",
    " se_seeds": "standard_error",
    " ci95_seeds": "half_width",
    " se_images": "over_images",
    " n_images": "num_images",
}
"""The columns of a metric in `sweep.csv`, by what is put after its key, and the attribute of `Spread` in each."""


def write_table(table: Table) -> Path:
    """Write all files of the table into the sweep's folder, and give the path of the page.

    Raises:
        StorageError: the folder cannot be written to, or its figures lie elsewhere by a link.
    """
    folder, figures = table.folder, table.folder / FIGURES
    if figures.is_symlink():
        raise StorageError(f"{figures}: is a link, which is not written through; remove it")
    write_bytes(folder / CSV, _encoded(to_csv(table)))
    write_json(folder / JSON, to_json(table))
    drawings = []
    with style():
        for name, caption, figure in drawn(table):
            content = png(figure)
            write_bytes(figures / f"{name}.png", content)
            drawings.append(Drawing(name, caption, content))
    _remove_others(figures, [drawing.name for drawing in drawings])
    write_bytes(folder / MARKDOWN, _encoded(to_markdown(table, drawings)))
    write_bytes(folder / HTML, _encoded(to_html(table, drawings)))
    return folder / HTML


def _encoded(text: str) -> bytes:
    """A text as UTF-8, in which names of files may hold bytes that are no text."""
    return text.encode(errors="replace")


def _remove_others(figures: Path, names: Sequence[str]) -> None:
    """Remove plots of an earlier table that this one has not."""
    for path in figures.glob("*.png") if figures.is_dir() else ():
        plotted = path.stem in ("seeds", "differences", "rate_distortion", "parallel_coordinates") or path.stem.startswith(
            "heat_maps"
        )
        if plotted and path.stem not in names:
            path.unlink(missing_ok=True)


def to_csv(table: Table) -> str:
    """The table as `sweep.csv`: numbers as they are, to the last digit."""
    keys = [*table.metrics, *(f"difference {key}" for key in table.metrics if any(key in row.differences for row in table.rows))]
    header = [*table.axes, "seeds", "jobs", *(f"{key}{after}" for key in keys for after in COLUMNS)]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(header)
    for row in table.rows:
        spreads = {**row.cells, **{f"difference {key}": value for key, value in row.differences.items()}}
        settings = [shown(row.settings[axis]) if axis in row.settings else "" for axis in table.axes]
        numbers = [_plain(getattr(spreads.get(key), name, None)) for key in keys for name in COLUMNS.values()]
        writer.writerow([*settings, len(row.finished), len(row.results), *numbers])
    return file.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def to_json(table: Table) -> dict[str, Any]:
    """The content of `sweep.json`, which other programs read."""
    return {
        "format": FORMAT,
        "vae_lightning": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "sweep": table.folder.name,
        "words": list(table.record.words),
        "axes": table.axes,
        "jobs": {state.value: count for state, count in table.counted().items()},
        "metrics": {key: _metric(key, table.estimators) for key in table.metrics},
        "differences_from": None if table.chosen is None else table.chosen.label,
        "rows": [_row(row) for row in table.rows],
        "notes": list(table.notes),
    }


def _metric(key: str, estimators: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    estimate = estimators.get(key)
    how = ("estimator", "num_images", "num_samples", "binarization", "settings", "seed")
    about = {} if estimate is None else {name: estimate.get(name) for name in how}
    return {"definition": described(key.partition("/")[2]), "higher_is_better": is_better_high(key), **about}


def _row(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "settings": dict(row.settings),
        "metrics": {key: _spread(cell) for key, cell in row.cells.items()},
        "differences": {key: _spread(cell) for key, cell in row.differences.items()},
        "no_differences": row.no_differences or None,
        "jobs": [_job(result) for result in row.results],
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "mean": spread.mean,
        "num_seeds": spread.num_seeds,
        "standard_error_over_seeds": spread.standard_error,
        "half_width_95_over_seeds": spread.half_width,
        "standard_error_over_images": spread.over_images,
        "num_images": spread.num_images,
        "values": list(spread.values),
    }


def _job(result: Result) -> dict[str, Any]:
    status = result.status
    return {
        "folder": status.job.folder,
        "seed": result.seed,
        "state": status.state.value,
        "reason": status.reason,
        "seconds": status.seconds,
        "metrics": result.metrics,
    }
