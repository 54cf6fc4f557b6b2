"""What a run folder holds is written whole, in a form that other programs read."""

import json
import math
from pathlib import Path

import pytest

from vae_lightning import runs


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    content = {"metrics": {"val/elbo": math.nan, "val/kl": 3.0}, "steps": [math.inf, (-math.inf, 1)]}
    runs.write_json(tmp_path / "metrics.json", content)
    read = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert read == {"metrics": {"val/elbo": None, "val/kl": 3.0}, "steps": [None, [None, 1]]}
