"""What a run and a report look like in a terminal."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["print_report", "print_run"]


def print_run(folder: Path, metrics: Mapping[str, float], *, interrupted: bool = False) -> None:
    """The final figures of a training run, and where everything is."""
    splits = [s for s in ("train", "val", "test") if any(key.startswith(f"{s}/") for key in metrics)]
    names = list(dict.fromkeys(key.partition("/")[2] for key in metrics))
    table = Table()
    table.add_column("")
    for split in splits:
        table.add_column(split, justify="right")
    for name in names:
        values = [metrics.get(f"{split}/{name}") for split in splits]
        digits = 4 if all(v is None or abs(v) < 1 for v in values) else 2
        table.add_row(name, *("" if v is None else f"{v:.{digits}f}" for v in values))
    console = Console()
    console.print("nats per image, mean over the split", highlight=False, soft_wrap=True)
    console.print(table)
    shown = shlex.quote(str(_short(folder)))
    if interrupted:
        console.print(f"interrupted: {shown} holds what was learned so far; go on with", highlight=False, soft_wrap=True)
        console.print(
            f"  python train.py <the same arguments> ckpt_path={shown}/checkpoints/last.ckpt", highlight=False, soft_wrap=True
        )
        return
    console.print(f"run folder: {shown}", highlight=False, soft_wrap=True)
    console.print(f"evaluate:   python evaluate.py run={shown}", highlight=False, soft_wrap=True)
    console.print("watch:      tensorboard --logdir outputs", highlight=False, soft_wrap=True)


def print_report(
    report: Mapping[str, Any], folder: Path, drawn: Sequence[str] = (), skipped: Mapping[str, str] | None = None
) -> None:
    """A report as a table: one row a metric; what was drawn, and why something was not."""
    splits = {split: figures for split, figures in report.items() if split != "checkpoint"}
    treatments = dict.fromkeys(figure["binarization"] for figures in splits.values() for figure in figures.values())
    table = Table()
    for column in ("split", "figure", "value", "±", "images", "K"):
        table.add_column(column, justify="left" if column in ("split", "figure") else "right")
    for split, figures in splits.items():
        for name, figure in figures.items():
            digits = 4 if name == "accuracy" else 2
            error = figure["standard_error"]
            table.add_row(
                split,
                name,
                f"{figure['value']:.{digits}f}",
                "" if math.isnan(error) else f"{error:.{digits}f}",
                str(figure["num_images"]),
                str(figure["num_samples"] or ""),
            )
        table.add_section()
    console = Console()
    console.print(
        f"nats per image, mean ± standard error over images; binarization: {', '.join(treatments)}", highlight=False, soft_wrap=True
    )
    console.print(table)
    console.print(f"checkpoint: {_short(Path(report['checkpoint']))}", highlight=False, soft_wrap=True)
    for reason in dict.fromkeys((skipped or {}).values()):
        names = [name for name, own in (skipped or {}).items() if own == reason]
        shown = ", ".join(names) if len(names) < 5 else f"{len(names)} figures"
        console.print(f"not drawn:  {shown}: {reason}", highlight=False, soft_wrap=True, style="dim")
    if drawn:
        console.print(f"figures:    {len(drawn)} in {_short(folder / 'figures')}", highlight=False, soft_wrap=True)
    console.print(f"report:     {_short(folder / 'report.html')}", highlight=False, soft_wrap=True)


def _short(path: Path) -> Path:
    """Relative to here, where it is below here."""
    resolved = path.resolve()
    return resolved.relative_to(Path.cwd()) if resolved.is_relative_to(Path.cwd()) else resolved
