"""The format number in the JSON files of a run: which format this version writes, and which ones it can read.

1. `report.json` has `test`, `val` and `train` beside its other keys; neither file says its format.
2. `report.json` has them below `splits`; both files say `"format": 2`.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["FORMAT", "format_of", "too_new"]

FORMAT = 2
"""The format in which this version writes `report.json` and `metrics.json`."""


def format_of(content: Mapping[str, Any]) -> int:
    """The format of the content of a JSON file; 1 for one that does not say, as files of the first format do not.

    >>> format_of({"metrics": {}}), format_of({"format": 2, "metrics": {}})
    (1, 2)
    """
    number = content.get("format", 1)
    return number if isinstance(number, int) and not isinstance(number, bool) else 1


def too_new(content: object) -> str | None:
    """Why a file of a later version cannot be read, in words; None for what this version knows.

    >>> too_new({"format": 3})
    'is of format 3, and this version of vae_lightning knows 1 to 2: update it'
    """
    if not isinstance(content, Mapping) or format_of(content) <= FORMAT:
        return None
    return f"is of format {format_of(content)}, and this version of vae_lightning knows 1 to {FORMAT}: update it"
