"""A callback that notes when a run trained, validated and tested, for `sweeps.py`."""

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as L


class Clock(L.Callback):
    """Notes the beginning and end of each stage, seconds since the epoch, in `clock.json` in the run folder."""

    def __init__(self, run_dir: str) -> None:
        self.path = Path(run_dir, "clock.json")
        self.stages: list[list[Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.stages.append([stage, time.time(), None])

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.stages[-1][2] = time.time()
        self.path.write_text(json.dumps(self.stages))
