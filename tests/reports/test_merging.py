"""A report goes on to hold what was measured before: of the same asked for again the newest, of the rest everything."""

import dataclasses
import json
import math
from typing import Any

import pytest

from vae_lightning.reports.document import plain
from vae_lightning.reports.merging import is_report, merged, with_others
from vae_lightning.types import Estimate

BASE = Estimate(90.0, 0.1, 10_000, 1000, "dynamic", "importance sampling", seed=0)


def report(weights: str = "a", measured: str = "", **estimates: Estimate) -> dict[str, Any]:
    test = {name: plain(dataclasses.replace(e, measured=measured)) for name, e in estimates.items()}
    return {"checkpoint": "best.ckpt", "weights": {"sha256": weights}, "format": 2, "splits": {"test": test}}


def nll(**changes: Any) -> Estimate:
    return dataclasses.replace(BASE, **changes)


def rows(content: dict[str, Any], name: str = "nll") -> list[tuple[float, int]]:
    return [(e["value"], e["num_samples"]) for e in with_others(content, "test")[name]]


def test_same_asked_for_again_is_replaced_and_the_rest_stays() -> None:
    both = merged(report(nll=nll(value=90.0), kl=nll(value=25.0)), report(nll=nll(value=89.0), rate=nll(value=3.0)))
    assert {name: e["value"] for name, e in both["splits"]["test"].items()} == {"nll": 89.0, "kl": 25.0, "rate": 3.0}
    assert both["other_settings"] == {}


@pytest.mark.parametrize("expensive_first", [True, False])
def test_quick_estimate_does_not_take_the_place_of_an_expensive_one(expensive_first: bool) -> None:
    expensive, quick = report(nll=nll(value=88.0, num_samples=5000)), report(nll=nll(value=95.0, num_samples=10))
    both = merged(expensive, quick) if expensive_first else merged(quick, expensive)
    assert rows(both) == [(88.0, 5000), (95.0, 10)]
    # and a third one of either settings replaces that one alone
    again = merged(both, report(nll=nll(value=94.0, num_samples=10)))
    assert rows(again) == [(88.0, 5000), (94.0, 10)]
    again = merged(again, report(nll=nll(value=88.1, num_samples=5000)))
    assert rows(again) == [(88.1, 5000), (94.0, 10)]


def test_all_images_with_few_samples_stand_before_few_images_with_many() -> None:
    """Published estimates are of all test images."""
    both = merged(report(nll=nll(num_images=1000, num_samples=5000)), report(nll=nll(num_samples=100)))
    assert [samples for _, samples in rows(both)] == [100, 5000]


@pytest.mark.parametrize(
    "change",
    [
        {"num_images": 100},
        {"num_samples": 7},
        {"binarization": "static"},
        {"seed": 1},
        {"settings": {"num_distributions": 100}},
    ],
)
def test_whatever_was_asked_differently_makes_another_estimate(change: dict[str, Any]) -> None:
    both = merged(report(nll=nll(value=1.0)), report(nll=nll(value=2.0, **change)))
    assert len(rows(both)) == 2


@pytest.mark.parametrize("change", [{"value": 1.0}, {"seconds": 9.0}, {"measured": "today"}, {"settings": {"iterations": 3}}])
def test_whatever_came_out_differently_does_not(change: dict[str, Any]) -> None:
    assert len(rows(merged(report(nll=nll()), report(nll=nll(**change))))) == 1


def test_of_equal_size_the_newest_stands_under_the_name() -> None:
    both = merged(report(nll=nll(value=1.0, seed=1)), report(nll=nll(value=2.0, seed=2)))
    assert [value for value, _ in rows(both)] == [2.0, 1.0]


def test_estimate_that_is_not_finite_does_not_stand_before_one_that_is() -> None:
    both = merged(report(nll=nll()), report(nll=nll(value=math.nan, num_samples=9999)))
    assert [samples for _, samples in rows(both)] == [1000, 9999]


def test_figures_and_reasons_are_of_both() -> None:
    before = {
        **report(),
        "figures": {"samples": {"file": "old"}, "walk": {"file": "walk"}},
        "not_drawn": {"mistakes": "no classifier", "grid": "no plane"},
        "not_measured": {"ais": "failed", "samples": "no judge"},
        "parts": ["gaps"],
    }
    now = {
        **report(),
        "figures": {"samples": {"file": "new"}, "grid": {"file": "grid"}},
        "not_drawn": {"walk": "failed"},
        "not_measured": {"gaps": "failed now"},
        "parts": ["ais"],
    }
    both = merged(before, now)
    assert {name: figure["file"] for name, figure in both["figures"].items()} == {"samples": "new", "walk": "walk", "grid": "grid"}
    assert both["not_drawn"] == {"mistakes": "no classifier"}, "what has a picture is drawn"
    assert both["not_measured"] == {"samples": "no judge", "gaps": "failed now"}
    assert both["parts"] == ["gaps", "ais"]


def test_nothing_before_changes_nothing() -> None:
    now = report(nll=nll(), kl=nll())
    assert merged({}, now)["splits"] == now["splits"]


A = {"file": "figures/a.png", "caption": "", "settings": {}}


def test_report_is_told_from_what_is_none() -> None:
    whole = merged(report(nll=nll(num_samples=1)), {**report(nll=nll()), "figures": {"a": A}})
    assert is_report(json.loads(json.dumps(whole)))
    assert is_report(report())
    broken: list[Any] = [None, [], {}, 3, "report", {"test": {}}, {**whole, "weights": None}, {**whole, "splits": []}]
    broken += [
        {**whole, "splits": {"test": {"nll": 3}}},
        {**whole, "splits": {"test": {"nll": {"value": 1.0}}}},
        {**whole, "figures": {"a": "a.png"}},
    ]
    broken += [{**whole, "figures": []}, {**whole, "other_settings": {"test": {"nll": 5}}}, {**whole, "other_settings": []}]
    # what a merge reads though there is no estimate of that split or name
    broken += [{**whole, "splits": {}, "other_settings": other} for other in (None, 3, [], {"test": None}, {"test": {"kl": [3]}})]
    broken += [{**whole, "not_measured": {"a": 3}}, {**whole, "not_drawn": []}, {**whole, "parts": [3]}, {**whole, "parts": 3}]
    elsewhere = (
        "/etc/passwd",
        "../secret.png",
        "figures/../../secret.png",
        "figures/a.txt",
        "figures/b/a.png",
        "figures/a.png\n",
        3,
    )
    broken += [{**whole, "figures": {"a": {**A, "file": file}}} for file in elsewhere]
    broken += [{**whole, "figures": {"a": {**A, "caption": None}}}, {**whole, "figures": {"a": {"file": "figures/a.png"}}}]
    for content in broken:
        assert not is_report(content), content
