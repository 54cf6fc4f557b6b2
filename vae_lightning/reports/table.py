"""Print a report in a terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from vae_lightning.errors import printable
from vae_lightning.evaluation.sanity import SIMULATED
from vae_lightning.machine.screen import console, print_table, short
from vae_lightning.reports.document import splits_of
from vae_lightning.reports.merging import with_others
from vae_lightning.reports.reading import COVERS_SHORT, Standing, remarks, standings
from vae_lightning.reports.stamp import stamp_of
from vae_lightning.treatment import Treatment

__all__ = ["print_report", "shown"]


MANY = 12
"""Estimates of one section above which the terminal shows only how many there are."""


def print_report(
    report: Mapping[str, Any], folder: Path, drawn: Sequence[str] = (), skipped: Mapping[str, str] | None = None
) -> None:
    """Print a report: a table with a row an estimate, warnings, what was drawn, and why something was not measured or drawn.

    If the report holds several evaluations, the table shows the last one, and a line says how much there is of earlier ones.

    Args:
        report: the content of `report.json`.
        folder: the folder of the evaluation.
        drawn: names of the figures of the last evaluation.
        skipped: reasons why figures were not drawn, by name.
    """
    held = {split: with_others(report, split) for split in splits_of(report)}
    everything = [row for estimates in held.values() for rows in estimates.values() for row in rows]
    splits = {
        split: {
            name: row for name, rows in estimates.items() for row in rows if row.get("measured", "") == report.get("evaluated", "")
        }
        for split, estimates in held.items()
    }
    latest = [estimate for estimates in splits.values() for estimate in estimates.values()]
    treatments = [name for name in dict.fromkeys(estimate["binarization"] for estimate in latest) if name != SIMULATED]
    table = Table()
    for column in ("split", "estimate", "value", "±", "images", "K"):
        table.add_column(column, justify="left" if column in ("split", "estimate") else "right")
    for split, estimates in splits.items():
        sizes = Counter(estimate["section"] for estimate in estimates.values())
        for name, estimate in estimates.items():
            if sizes[estimate["section"]] <= MANY:
                table.add_row(printable(split), printable(name), *_cells(name, estimate))
        for section, size in sizes.items():
            if size > MANY:
                table.add_row(printable(split), f"{printable(section)}: {size} estimates, in the report")
        table.add_section()
    terminal = console()

    def say(line: str, style: str | None = None) -> None:
        terminal.print(printable(line), soft_wrap=True, style=style)

    say(f"nats per image (or shares, counts, distances), mean ± standard error over images; binarization: {', '.join(treatments)}")
    print_table(terminal, table)
    say(COVERS_SHORT, "dim")
    measured = splits.get("test", {})
    for standing in standings(measured, Treatment.read(report.get("treatment"))):
        say(_standing(standing))
    for remark in remarks(measured):
        say(f"note: {remark}")
    for warning in report.get("warnings", ()):
        say(f"WARNING: {warning}", "bold red")
    stamp = stamp_of(report)
    if stamp is not None:
        say(stamp.line, "bold green" if stamp.verified else "bold red")
        for name, found in stamp.failed.items():
            say(f"            {name}: {found}", "red")
    say(f"checkpoint: {_short(Path(report['checkpoint']))}")
    left_out = (("not measured", "parts", report.get("not_measured", {})), ("not drawn", "figures", skipped or {}))
    for what, kind, reasons in left_out:
        for reason in dict.fromkeys(reasons.values()):
            names = [name for name, other in reasons.items() if other == reason]
            shown = ", ".join(names) if len(names) < 5 else f"{len(names)} {kind}"
            say(f"{what + ':':<11} {shown}: {reason}", "dim")
    if drawn:
        say(f"figures:    {len(drawn)} in {_short(folder / 'figures')}")
    say(f"report:     {_short(folder / 'report.html')}")
    more, pictures = len(everything) - len(latest), len(set(report.get("figures", {})) - set(drawn))
    if more or pictures:
        say(f"            beside what earlier evaluations found of the same weights (estimates: {more}, figures: {pictures})")


def _standing(standing: Standing) -> str:
    """A number beside the best that it compares with and its neighbours among the others, in a line."""
    value, error = shown(standing.name, standing.estimate)
    told = "; ".join(f"{how}: {y.value:.2f} {y.name} ({y.whose})" for how, y in standing.neighbours.items())
    number = f"test/{standing.name} {value}" + (f" ± {error}" if error else "")
    return f"{number} beside {len(standing.yardsticks)} comparable numbers (all in the report): {told}"


def _cells(name: str, estimate: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (*shown(name, estimate), str(estimate["num_images"]), str(estimate["num_samples"] or ""))


def shown(name: str, estimate: Mapping[str, Any]) -> tuple[str, str]:
    """Value and standard error of an estimate of `report.json` as text: two decimals, four for shares and other small numbers."""
    value, error = estimate["value"], estimate["standard_error"]
    if value is None:
        return "not finite", ""
    digits = 4 if "accuracy" in name or abs(value) < 1 else 2
    return f"{value:.{digits}f}", "" if error is None else f"{error:.{digits}f}"


def _short(path: Path) -> str:
    return short(path)
