"""The command `vae-sweep`: the table of a sweep at any time, also while the sweep runs; and the table at the end of one.

It is `python -m vae_lightning.commands.table` too. It reads what the jobs have left, and asks for nothing of Hydra.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from vae_lightning.commands.sweeping import sweep_folder
from vae_lightning.commands.words import asked_for, settings_of
from vae_lightning.errors import ConfigurationError
from vae_lightning.sweeps.record import Record

__all__ = ["main", "show_table"]

HELP = """The table of a sweep: a row a setting, means over seeds with their errors, differences, what failed and what is missing.

  vae-sweep sweep=<folder>        or python -m vae_lightning.commands.table sweep=<folder>
  vae-sweep sweep=latest          the sweep below outputs/ that was begun or extended last
  vae-sweep sweep=... to='beta=1 latent_dim=2'
                                  differences from this row, and not from the best one on validation

It writes sweep.html, sweep.md, sweep.csv, sweep.json and figures/ into the sweep's folder, also while the sweep runs."""
KEYS = {"sweep": "<folder>|latest", "to": "<row>"}


def main(words: Sequence[str] | None = None) -> None:
    """Show and write the table that the words of a command line ask for; a command that is wrong ends with status 2."""
    with asked_for(words, HELP) as given:
        if given is None:
            return
        settings = settings_of(given, KEYS)
        if not settings.get("sweep"):
            raise ConfigurationError("sweep: give the sweep's folder, sweep=<folder> or sweep=latest")
        folder = sweep_folder(settings["sweep"])
        show_table(folder, Record.read(folder), settings.get("to"))


def show_table(folder: Path, record: Record, to: str | None = None) -> None:
    """Print the table of the sweep in `folder` as it stands, and write its files.

    Args:
        to: the row that differences are taken from; None: the best one on validation.

    Raises:
        ConfigurationError: `to` names no row of the table.
        StorageError: the files cannot be written; the table has been printed.
    """
    # they import Lightning and matplotlib, which --help should not wait for
    from vae_lightning.machine import torchvision_compat  # noqa: F401
    from vae_lightning.sweeps.files import write_table
    from vae_lightning.sweeps.screen import print_sweep
    from vae_lightning.sweeps.table import table_of

    table = table_of(folder, record, to)
    page: Path | None = None
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: print_sweep(table, page))
        page = write_table(table)


if __name__ == "__main__":
    main()
