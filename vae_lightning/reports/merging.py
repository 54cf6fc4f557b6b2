"""Merge what was measured before and what is measured now of the same weights, so that no estimate is lost.

An estimate is identified by split, name, number of images, K, binarization, seed, and the settings of its estimator. A new estimate
replaces one with the same identity. If several estimates have one name, the estimate from the most images stands under the name,
and among these the one with the largest K; the others stand under `other_settings`, the newest first.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vae_lightning.reports.document import as_current, splits_of

__all__ = ["identity_of", "is_report", "merged", "with_others"]

OUTCOMES = {"worst error of an image, nats", "shares", "iterations", "passed", "failed", "not applicable", "tolerance", "verdict"}
"""Settings that are results of an estimation, and so do not identify an estimate."""

LARGEST = 1e300
Plain = Mapping[str, Any]
"""An estimate in the form that it has in `report.json`."""


def is_report(content: Any) -> bool:
    """Whether `content`, read from JSON, has the form of a report, as far as a merge relies on it."""
    if not isinstance(content, dict) or not isinstance(content.get("weights"), dict):
        return False
    try:
        estimates = [e for split in splits_of(content) for rows in with_others(content, split).values() for e in rows]
        # also of names that have no estimate under them, as a merge with another report may give them one
        estimates += [e for split in content.get("other_settings", {}).values() for rows in split.values() for e in rows]
        figures = [*content.get("figures", {}).values()]
        described = all(isinstance(figure["caption"], str) and isinstance(figure["settings"], dict) for figure in figures)
        # a report from somebody else must not make a page that holds another file of this machine
        there = all(re.fullmatch(r"figures/[\w.]+\.(png|gif)", figure["file"]) for figure in figures)
        parts = [*content.get("parts", [])]
        reasons = [reason for key in ("not_measured", "not_drawn") for reason in content.get(key, {}).values()]
    except (AttributeError, KeyError, TypeError):  # a value has another type than in a report
        return False
    return described and there and all(map(_is_estimate, estimates)) and all(isinstance(text, str) for text in [*reasons, *parts])


def merged(before: Plain, now: Plain) -> dict[str, Any]:
    """The report `now`, and with it the estimates, figures and reasons of `before`, an earlier report of the same weights.

    Args:
        before: the content of a `report.json` of any known format; empty if there is none.
        now: the content of the `report.json` that this evaluation alone would write.

    >>> nll = {"value": 90.0, "num_images": 100, "num_samples": 1000, "settings": {}}
    >>> quick = {**nll, "value": 95.0, "num_samples": 10}
    >>> both = merged({"test": {"nll": nll}}, {"format": 2, "splits": {"test": {"nll": quick}}})
    >>> both["splits"]["test"]["nll"]["value"], both["other_settings"]["test"]["nll"][0]["value"]
    (90.0, 95.0)
    """
    report, others = as_current(now), {}
    for split in dict.fromkeys([*splits_of(now), *splits_of(before)]):
        earlier, latest = with_others(before, split), with_others(now, split)
        rows = {name: _ranked(latest.get(name, []), earlier.get(name, [])) for name in {**earlier, **latest}}
        if rows:
            report["splits"][split] = {name: first for name, (first, *_) in rows.items()}
            others[split] = {name: rest for name, (_, *rest) in rows.items() if rest}
    report["other_settings"] = {split: rows for split, rows in others.items() if rows}
    report["figures"] = {**before.get("figures", {}), **now.get("figures", {})}
    report["parts"] = list(dict.fromkeys([*before.get("parts", []), *now.get("parts", [])]))
    left_out = {name: reason for name, reason in before.get("not_measured", {}).items() if name not in now.get("parts", [])}
    report["not_measured"] = {**left_out, **now.get("not_measured", {})}
    not_drawn = {**before.get("not_drawn", {}), **now.get("not_drawn", {})}
    report["not_drawn"] = {name: reason for name, reason in not_drawn.items() if name not in report["figures"]}
    return report


def with_others(report: Plain, split: str) -> dict[str, list[Plain]]:
    """All estimates of a split by name: first the estimate that stands under the name, then those with other settings.

    Args:
        report: the content of a `report.json` of any known format.
    """
    others = report.get("other_settings", {}).get(split, {})
    return {name: [estimate, *others.get(name, [])] for name, estimate in splits_of(report).get(split, {}).items()}


def _ranked(latest: Sequence[Plain], earlier: Sequence[Plain]) -> list[Plain]:
    """All estimates of one name, without duplicates: first the one with the most images and samples, then the newest first."""
    kept: dict[str, Plain] = {}
    for estimate in [*latest, *earlier]:
        kept.setdefault(identity_of(estimate), estimate)
    rows = [*kept.values()]
    best = max(rows, key=_size)  # max takes the first of equals, which is the newest
    return [best, *(row for row in rows if row is not best)]


def _size(estimate: Plain) -> tuple[bool, int, int]:
    return estimate["value"] is not None and math.isfinite(estimate["value"]), estimate["num_images"], estimate["num_samples"]


def identity_of(estimate: Plain) -> str:
    """What tells an estimate from others of its split and name: images, samples, binarization, seed, and further settings."""
    asked = {key: estimate.get(key) for key in ("num_images", "num_samples", "binarization", "seed")}
    settings = {key: value for key, value in estimate["settings"].items() if key not in OUTCOMES}
    return json.dumps({**asked, "settings": settings}, sort_keys=True, default=str)


def _is_estimate(content: Any) -> bool:
    """Whether `content` has all that a page shows of an estimate, in the kinds that it is shown as."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("settings"), dict)
        and all(isinstance(content.get(key), str) for key in ("binarization", "estimator", "section"))
        and all(_is_number(content.get(key), int) for key in ("num_images", "num_samples"))
        and all(key in content and _is_number(content[key], int | float | None) for key in ("value", "standard_error", "seconds"))
        and _is_number(content.get("seed"), int | None)
        and isinstance(content.get("measured", ""), str)
    )


def _is_number(value: Any, kinds: Any) -> bool:
    """Whether `value` is of these kinds, and no number that is beyond any estimate, such as a float cannot hold."""
    return isinstance(value, kinds) and (value is None or not abs(value) >= LARGEST)
