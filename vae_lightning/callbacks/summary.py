"""A table of the model's parts and numbers of parameters, printed as training starts."""

from typing import Any

from pytorch_lightning.callbacks import ModelSummary
from pytorch_lightning.utilities.model_summary.model_summary import get_human_readable_count
from rich.console import Console
from rich.table import Table

__all__ = ["Summary"]


class Summary(ModelSummary):
    """Lightning's `ModelSummary` as one short table, without counts of FLOPs.

    Lightning's count would be wrong: these models compute outside of the calls that it watches.

    >>> data = [("Name", ["encoder"]), ("Type", ["MLPEncoder"]), ("Params", ["650 K"]), ("FLOPs", ["0"])]
    >>> Summary.summarize(data, total_parameters=650_000, trainable_parameters=649_000)  # doctest: +ELLIPSIS
    ┏━...
    650 K parameters, 1.0 K of them fixed
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]], total_parameters: int, trainable_parameters: int, *_: Any, **__: Any
    ) -> None:
        """Print the table, and the number of parameters."""
        columns = dict(summary_data)
        shown = [name for name in ("Name", "Type", "Params", "In sizes", "Out sizes") if name in columns]
        table = Table()
        for name in shown:
            table.add_column(name, justify="left" if name in ("Name", "Type") else "right")
        for row in zip(*(columns[name] for name in shown), strict=True):
            table.add_row(*map(str, row))
        console = Console(markup=False, highlight=False)
        console.print(table)
        fixed = total_parameters - trainable_parameters
        kept = f", {get_human_readable_count(fixed).strip()} of them fixed" if fixed else ""
        console.print(f"{get_human_readable_count(total_parameters).strip()} parameters{kept}")
