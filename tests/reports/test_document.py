"""The form of `report.json`, there and back."""

import json
import math

from vae_lightning.reports.document import as_current, from_plain, plain, splits_of, to_json
from vae_lightning.types import Estimate


def test_estimate_comes_back_from_its_plain_form() -> None:
    whole = Estimate(-90.5, 0.1, 10, 1, "none", "bound", {"chains": 16}, 2.5, "bounds", 3, "2026-01-01")
    assert from_plain(json.loads(json.dumps(plain(whole)))) == whole
    lost = from_plain(plain(Estimate(math.inf, math.nan, 10, 1, "none", "")))
    assert math.isnan(lost.value)
    assert math.isnan(lost.standard_error)


def test_json_form() -> None:
    elbo = Estimate(-90.5, math.nan, 10_000, 1, "threshold", "lower bound", {"chains": 16}, 2.5, "bounds")
    form = to_json("best.ckpt", {"test": {"elbo": elbo}}, warnings=["odd"])
    assert splits_of(form) == form["splits"]
    assert json.loads(json.dumps(form)) == {
        "format": 2,
        "checkpoint": "best.ckpt",
        "warnings": ["odd"],
        "splits": {
            "test": {
                "elbo": {
                    "value": -90.5,
                    "standard_error": None,
                    "num_images": 10_000,
                    "num_samples": 1,
                    "binarization": "threshold",
                    "estimator": "lower bound",
                    "settings": {"chains": 16},
                    "seconds": 2.5,
                    "section": "bounds",
                    "seed": None,
                    "measured": "",
                }
            }
        },
    }


def test_format_1_is_read_and_becomes_the_current_one() -> None:
    old = {"checkpoint": "best.ckpt", "warnings": [], "test": {"elbo": 1}, "train": {"elbo": 2}}
    assert splits_of(old) == {"test": {"elbo": 1}, "train": {"elbo": 2}}
    new = as_current(old)
    assert new == {"format": 2, "checkpoint": "best.ckpt", "warnings": [], "splits": splits_of(old)}
    assert as_current(new) == new
