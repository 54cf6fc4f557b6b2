"""The content of `report.json`: its keys, its splits, and the form of an estimate in it."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vae_lightning.machine.files import finite
from vae_lightning.machine.formats import FORMAT, format_of
from vae_lightning.types import Estimate

__all__ = ["SPLITS", "as_current", "from_plain", "plain", "splits_of", "to_json"]

SPLITS = ("test", "val", "train")
"""The keys that hold estimates by name in a report of format 1."""


def to_json(checkpoint: str, splits: Mapping[str, Mapping[str, Estimate]], **rest: Any) -> dict[str, Any]:
    """The content of `report.json`, which other programs read: `format`, `checkpoint`, `rest`, and the estimates by split.

    A number that is unknown or not finite becomes null, because JSON has no NaN and no infinity.

    >>> nll = Estimate(90.0, 0.1, 10_000, 1000, "dynamic", "importance sampling")
    >>> report = to_json("checkpoints/best.ckpt", {"test": {"nll": nll}})
    >>> report["format"], report["splits"]["test"]["nll"]["value"]
    (2, 90.0)
    """
    estimates = {split: {name: plain(e) for name, e in report.items()} for split, report in splits.items()}
    return {"format": FORMAT, "checkpoint": checkpoint, **rest, "splits": estimates}


def splits_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The estimates in the content of a `report.json`, by split and name, whichever format it has.

    >>> splits_of({"test": {"nll": {}}}) == splits_of({"format": 2, "splits": {"test": {"nll": {}}}})
    True
    """
    if format_of(report) == 1:
        return {split: report[split] for split in SPLITS if split in report}
    return dict(report.get("splits", {}).items())


def as_current(report: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `report.json` in the format of this version."""
    rest = {key: value for key, value in report.items() if format_of(report) != 1 or key not in SPLITS}
    return {**rest, "format": FORMAT, "splits": splits_of(report)}


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate in the form that it has in `report.json`: plain values by the names of `types.Estimate`."""
    content: dict[str, Any] = finite({**dataclasses.asdict(estimate), "settings": estimate.settings})
    return content


def from_plain(content: Mapping[str, Any]) -> Estimate:
    """The estimate that `plain` gave `content` for; null becomes NaN."""
    known = {field.name for field in dataclasses.fields(Estimate)}
    numbers = {name: math.nan if content[name] is None else content[name] for name in ("value", "standard_error", "seconds")}
    return Estimate(**{**{name: value for name, value in content.items() if name in known}, **numbers})
