"""Print the outcome of a training in a terminal."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from vae_lightning.machine.screen import console, print_table, short
from vae_lightning.machine.shell import command, path_setting, shell_quoted, tensorboard
from vae_lightning.runs.layout import EVENTS, LAST

__all__ = ["print_run"]


def print_run(
    folder: Path,
    metrics: Mapping[str, float],
    *,
    interrupted: bool = False,
    trust: Sequence[str] = (),
    limits: Mapping[str, int | float] | None = None,
) -> None:
    """Show the final metrics of a training run, and where everything is.

    Args:
        trust: packages that the next command has to be told to trust.
        limits: the Trainer's limit of batches by split, a number of batches or a share of them; 1.0 leaves none out.
    """
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
    terminal = console()

    def say(line: str) -> None:
        terminal.print(line, soft_wrap=True)

    if names:
        parts = [f"{split}: {_part(limit)}" for split, limit in (limits or {}).items() if split in splits and _is_part(limit)]
        say("nats per image, mean over the split" + (f" ({', '.join(parts)})" if parts else ""))
        print_table(terminal, table)
    path = short(folder)
    trusting = [f"trust=[{','.join(trust)}]"] if trust else []
    if interrupted and not (folder / LAST).is_file():
        say(f"interrupted before the first step: {shell_quoted(path)} holds nothing that was learned")
        return
    if interrupted:
        say(f"interrupted: {shell_quoted(path)} holds what was learned so far; go on with")
        say(f"  {command('train.py', path_setting('resume', path), *trusting)}")
        return
    say(f"run folder: {shell_quoted(path)}")
    say(f"evaluate:   {command('evaluate.py', path_setting('run', path), *trusting)}")
    if any(folder.glob(EVENTS)):
        # the folder of all runs, if it lies below the working directory
        logs = path if os.path.isabs(path) else Path(path).parts[0]  # noqa: PTH117
        say(f"watch:      {tensorboard()} --logdir {shell_quoted(logs)}")


def _is_part(limit: int | float) -> bool:
    return not (isinstance(limit, float) and limit == 1.0)


def _part(limit: int | float) -> str:
    """What a limit of batches leaves, in words.

    >>> _part(1), _part(20), _part(0.25)
    ('1 batch alone', '20 batches alone', '25 % of its batches alone')
    """
    if isinstance(limit, float):
        return f"{100 * limit:g} % of its batches alone"
    return f"{limit} batch{'es' * (limit != 1)} alone"
