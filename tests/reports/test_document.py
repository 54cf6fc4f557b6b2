"""The form of `report.json`, there and back."""

import json
import math

from vae_lightning.reports.document import from_plain, plain, splits_of, to_json
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
    assert splits_of(form) == {"test": form["test"]}
    assert json.loads(json.dumps(form)) == {
        "checkpoint": "best.ckpt",
        "warnings": ["odd"],
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
        },
    }
