"""The content of `report.json`: its form, its splits, and estimates as it has them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vae_lightning.machine.files import finite
from vae_lightning.types import Estimate

__all__ = ["from_plain", "plain", "splits_of", "to_json"]


def to_json(checkpoint: str, splits: Mapping[str, Mapping[str, Estimate]], **rest: Any) -> dict[str, Any]:
    """The form of `report.json`, which other programs read: `checkpoint`, `rest`, and the estimates of each split.

    A number that is not known or not finite is null: JSON has no NaN and no infinity.
    """
    estimates = {split: {name: plain(e) for name, e in report.items()} for split, report in splits.items()}
    return {"checkpoint": checkpoint, **rest, **estimates}


def splits_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures in the content of a `report.json`, by split and name."""
    return {key: content for key, content in report.items() if key in ("train", "val", "test")}


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate as `report.json` has it."""
    content: dict[str, Any] = finite({**dataclasses.asdict(estimate), "settings": estimate.settings})
    return content


def from_plain(content: Mapping[str, Any]) -> Estimate:
    """The inverse of `plain`; of a number that was not finite, NaN."""
    known = {field.name for field in dataclasses.fields(Estimate)}
    numbers = {name: math.nan if content[name] is None else content[name] for name in ("value", "standard_error", "seconds")}
    return Estimate(**{**{name: value for name, value in content.items() if name in known}, **numbers})
