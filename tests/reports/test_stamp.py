"""The stamp says whether the last verification of these weights passed, and does not believe what it reads."""

from typing import Any

import pytest

from vae_lightning.reports.stamp import stamp_of


def report(*measured: dict[str, Any]) -> dict[str, Any]:
    rows = [{"value": 1.0, "num_images": 20, "settings": {}, "measured": "2026-01-01", **row} for row in measured]
    return {"format": 2, "splits": {"test": {"verified": rows[0]}}, "other_settings": {"test": {"verified": rows[1:]}}}


def outcome(passed: list[str], failed: dict[str, str] | None = None) -> dict[str, Any]:
    return {"passed": passed, "failed": failed or {}, "not applicable": {"mass/labels": "no labels"}}


def test_stamp_is_in_words_with_what_failed() -> None:
    good = stamp_of(report({"settings": outcome(["order/kl", "order/elbo"])}))
    assert good is not None
    assert (good.verified, good.line) == (True, "verified: 2 checks of 20 images passed; 1 others do not apply")
    bad = stamp_of(report({"settings": outcome(["order/kl"], {"mass/noise": "3 nats"})}))
    assert bad is not None
    assert (bad.verified, bad.line) == (False, "not verified: mass/noise failed (1 of 2 checks, of 20 images)")
    assert bad.plain["failed"] == {"mass/noise": "3 nats"}
    assert (bad.plain["verified"], bad.plain["line"]) == (False, bad.line)


def test_nothing_that_applies_is_no_verification() -> None:
    empty = stamp_of(report({"settings": outcome([])}))
    assert empty is not None
    assert (empty.verified, empty.line) == (False, "not verified: no check applies")


def test_stamp_is_of_the_last_verification_whichever_has_more_images() -> None:
    earlier = {"settings": outcome(["order/kl"]), "num_images": 100}
    later = {"settings": outcome([], {"order/kl": "1 nat"}), "measured": "2026-02-01"}
    stamp = stamp_of(report(earlier, later))
    assert stamp is not None
    assert (stamp.verified, stamp.images, stamp.measured) == (False, 20, "2026-02-01")


def test_report_without_a_verification_has_no_stamp() -> None:
    assert stamp_of({"format": 2, "splits": {"test": {}}}) is None
    assert stamp_of({"format": 2, "splits": {}}) is None


@pytest.mark.parametrize(
    "settings", [{}, {"passed": 3, "failed": [1]}, {"passed": {"a": 1}, "failed": "no", "not applicable": None}]
)
def test_settings_of_another_kind_verify_nothing(settings: dict[str, Any]) -> None:
    stamp = stamp_of(report({"settings": settings}))
    assert stamp is not None
    assert not stamp.verified
