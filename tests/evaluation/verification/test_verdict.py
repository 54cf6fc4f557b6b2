"""A verdict says what was found, and an error of the model's is a failure while one of the command's is not."""

import math

import pytest

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.verification.verdict import CHECKS, Check, Finding, NotApplicableError, check


def raising(error: Exception) -> Check:
    def examine(subject: object) -> Finding:
        raise error

    return Check("a/check", "it holds", "nats", examine)


@pytest.mark.parametrize("size", [0.21, math.nan, math.inf])
def test_size_beyond_the_tolerance_or_none_at_all_fails(size: float) -> None:
    assert not Finding(size, 0.2, "").passed
    assert Finding(0.2, 0.2, "").passed
    assert not Finding(0.1, math.nan, "").passed


def test_what_makes_no_sense_does_not_apply_and_what_breaks_has_failed() -> None:
    verdict = raising(NotApplicableError("no labels"))(None)  # type: ignore[arg-type]
    assert (verdict.applies, verdict.passed, verdict.line) == (False, False, "no labels")
    for error in (ValueError("one\nimage"), NotImplementedError("one\nimage")):
        verdict = raising(error)(None)  # type: ignore[arg-type]
        said = f"could not be computed: {type(error).__name__}: one image"
        assert (verdict.applies, verdict.passed, verdict.line) == (True, False, said)
    with pytest.raises(ConfigurationError):
        raising(ConfigurationError("max_batch=1: too much"))(None)  # type: ignore[arg-type]


def test_check_of_ones_own_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHECKS, "own/check", None)  # so that it is gone afterwards

    @check("own/check", "my own claim holds")
    def mine(subject: object) -> Finding:
        return Finding(0.0, 1.0, "")

    assert CHECKS["own/check"] is mine
    assert mine(None).passed  # type: ignore[arg-type]
