"""Print the table of a sweep in a terminal."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import rich.console
import rich.table

from vae_lightning.errors import printable
from vae_lightning.machine.screen import console, print_table, short
from vae_lightning.sweeps.naming import shown
from vae_lightning.sweeps.page import errors_in_words, number
from vae_lightning.sweeps.record import log_of
from vae_lightning.sweeps.statistics import Spread
from vae_lightning.sweeps.status import State
from vae_lightning.sweeps.table import Row, Table

__all__ = ["print_sweep"]

MOST = 20
"""Jobs without a result that the terminal lists, at most."""
ROWS = 50
"""Rows that the terminal lists, at most: the best ones are in the page, as all others."""
LONGEST = 160
"""The most characters of a reason, which the page has in full."""
COLUMNS = 3
"""Metrics beside the first one that the terminal shows."""


def print_sweep(table: Table, page: Path | None = None) -> None:
    """Print a table: a row a setting, what failed and why, what is missing, and where the page is.

    Args:
        page: the page that was written of the table; None: none was.
    """
    terminal = console()

    def say(line: str, style: str | None = None) -> None:
        terminal.print(printable(line), soft_wrap=True, style=style)

    if table.metrics:
        grid, with_images, left_out = _fitting(table, terminal)
        say(errors_in_words(table))
        if table.chosen is not None and any(table.main[0] in row.differences for row in table.rows):
            say(f"difference: from {table.chosen.label} ({table.reason}), of the same seeds and test images, ± likewise")
        if with_images:
            say("images: standard error over test images, of these very models")
        print_table(terminal, grid)
        if left_out:
            say(f"the page has besides, for which this terminal is too narrow: {', '.join(left_out)}", "dim")
        if len(table.rows) > ROWS:
            say(f"and {len(table.rows) - ROWS} more settings, in the page")
    else:
        say("no job has a result yet")
    for note in (*(() if table.searched else _without_differences(table)), *table.notes):
        say(note, "dim")
    listed = table.of_state(State.FAILED, State.CHANGED, State.INTERRUPTED, State.RUNNING, State.MISSING)
    for result in listed[:MOST]:
        reason = f": {_cut(result.status.reason)}" if result.status.reason else ""
        log = log_of(result.run)
        where = f" ({short(log)})" if result.status.state is State.FAILED and log.is_file() else ""
        say(f"{result.status.state.value + ':':<12} {table.job(result)}{reason}{where}")
    if len(listed) > MOST:
        say(f"and {len(listed) - MOST} more without a result, in the page")
    pruned = len(table.of_state(State.PRUNED))
    if pruned:
        say(f"{pruned} job{'s' * (pruned != 1)} stopped by the search as hopeless, which no row counts")
    if page is not None:
        say(f"table: {short(page)}, and beside it sweep.md, sweep.csv, sweep.json")


def _without_differences(table: Table) -> list[str]:
    """Why rows with results have no difference from the chosen one, a line a reason."""
    reasons = Counter(row.no_differences for row in table.rows if row.finished and row.no_differences)
    return [f"{count} setting{'s' * (count != 1)} without a difference: {reason}" for reason, count in reasons.items()]


def _cut(reason: str) -> str:
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]} ..."


def _fitting(table: Table, terminal: rich.console.Console) -> tuple[rich.table.Table, bool, list[str]]:
    """The table with as many columns as the terminal has room for, whether these hold the errors over images, and what is left out.

    The nll is the last metric beside the first one to be left out. On the narrowest of terminals, which shows a cell a line, a row
    begins with all of its settings.
    """
    first, *rest = table.main
    kept = any(row.cells[first].over_images is not None for row in table.rows if first in row.cells)
    wanted = sorted(rest, key=lambda key: not key.endswith("/nll"))[:COLUMNS]
    for count, images in (*((count, kept) for count in range(len(wanted), -1, -1)), (0, False)):
        others = [key for key in rest if key in wanted[:count]]
        grid = _grid(table, others, images=images)
        if grid.__rich_measure__(terminal, terminal.options.update(max_width=1000)).maximum <= terminal.width:
            return grid, images, [key for key in rest if key in wanted[count:]]
    return _grid(table, rest[:COLUMNS], images=kept, labels=True), kept, []


def _grid(table: Table, others: Sequence[str], *, images: bool, labels: bool = False) -> rich.table.Table:
    """The table with a column for each setting, or one for all, and for the metrics `others` beside the first one."""
    grid = rich.table.Table()
    first = table.main[0]
    for name in ["setting"] if labels or not table.axes else [table.names[axis] for axis in table.axes]:
        grid.add_column(printable(name))
    differs = any(first in row.differences for row in table.rows)
    for column in ("seeds", first, *(("difference",) if differs else ()), *others):
        grid.add_column(column, justify="right")
        if images and column in (first, "difference"):
            grid.add_column("images", justify="right")
    for row in table.rows[:ROWS]:
        axes = [shown(row.settings[axis]) if axis in row.settings else "" for axis in table.axes]
        settings = [row.label] if labels or not table.axes else axes
        spreads = [row.cells.get(first), *((row.differences.get(first),) if differs else ())]
        cells = [cell for spread in spreads for cell in _cells(spread, table.scale(first))[: 1 + images]]
        means = [number(row.cells[key].mean, table.scale(key)) if key in row.cells else "" for key in others]
        style = "bold" if table.chosen is not None and row is table.chosen else None
        grid.add_row(*map(printable, settings), _seeds(row), *cells, *means, style=style)
    return grid


def _seeds(row: Row) -> str:
    done, all_jobs = len(row.finished), len(row.results)
    return str(done) if done == all_jobs else f"{done} of {all_jobs}"


def _cells(spread: Spread | None, scale: float) -> tuple[str, str]:
    """A mean with half of its interval over seeds, and its error over images; of one seed there is no interval."""
    if spread is None:
        return "", ""
    half, images = ("" if value is None else f"± {number(value, scale)}" for value in (spread.half_width, spread.over_images))
    return f"{number(spread.mean, scale)} {half}".rstrip(), images
