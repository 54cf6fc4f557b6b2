"""A run folder: what is written into one, and where.

outputs/<name>/<time>/
    .hydra/config.yaml        what was asked
    checkpoints/best.ckpt     the weights that were best on validation; last.ckpt: where training stands
    tensorboard/              scalars
    metrics.json              what came out, with provenance
    animation/                frames of the training, if they were asked for
    evaluation/               what evaluate.py found: report.json, report.md, report.html, figures/; see `reports.folder`
"""

import json
from pathlib import Path
from typing import Any

from vae_lightning.machine.files import finite, write_bytes

__all__ = ["CONFIG", "HYDRA", "write_json"]

CONFIG = Path(".hydra", "config.yaml")
HYDRA = Path(".hydra", "hydra.yaml")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, whole or not at all; null stands for what is not finite, for which JSON has no number."""
    write_bytes(path, (json.dumps(finite(content), indent=2, allow_nan=False) + "\n").encode())
