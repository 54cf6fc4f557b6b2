"""The layout of a run folder: the path of each file in it, relative to the folder.

outputs/<name>/<time>/
    .hydra/config.yaml        what was asked, resolved
    .hydra/overrides.yaml     what the command line said; hydra.yaml: Hydra's own settings
    .hydra/until_step_<n>/    the records of a training that went on in its folder, as they were at step n
    checkpoints/best.ckpt     the weights that were best on validation
    checkpoints/last.ckpt     where training stands; last.previous.ckpt: the one before it, should last.ckpt be damaged
    tensorboard/              scalars
    csv/metrics.csv           scalars as a table, if `logger=csv` was asked for
    metrics.json              final metrics, with provenance
    test_per_image.npz        the test's values of each image, in the split's order, by metric: see `callbacks.value_recorder`
    animation/                frames of the training, if they were asked for
    evaluation/               from evaluate.py: report.json, report.md, report.html, figures/; see `reports.folder`; explorer.html
    export/                   from vae-export: graphs, weights and a card; see `machine.pretrained`
"""

from pathlib import Path

from vae_lightning.machine import checkpoints

__all__ = [
    "ANIMATION",
    "BEST",
    "CHECKPOINTS",
    "CONFIG",
    "CSV",
    "EVALUATION",
    "EVENTS",
    "FRAMES",
    "HYDRA",
    "LAST",
    "LOCK",
    "METRICS",
    "OVERRIDES",
    "PREVIOUS",
    "PRODUCTS",
    "TENSORBOARD",
    "TEST_PER_IMAGE",
]

CONFIG = Path(".hydra", "config.yaml")
OVERRIDES = CONFIG.with_name("overrides.yaml")
HYDRA = CONFIG.with_name("hydra.yaml")
BEST = Path("checkpoints", "best.ckpt")
LAST = BEST.with_name(checkpoints.LAST)
PREVIOUS = BEST.with_name(checkpoints.PREVIOUS)
CHECKPOINTS = str(BEST.with_name("*.ckpt"))
"""A pattern of all checkpoints; `EVENTS` and `FRAMES` are patterns too."""
TENSORBOARD = Path("tensorboard")
EVENTS = str(TENSORBOARD / "events.*")
CSV = Path("csv", "metrics.csv")
METRICS = Path("metrics.json")
TEST_PER_IMAGE = Path("test_per_image.npz")
ANIMATION = Path("animation")
FRAMES = str(ANIMATION / "step_*")
EVALUATION = Path("evaluation")
LOCK = ".lock"
"""The file that is locked by the training that writes into the folder."""
PRODUCTS = (CHECKPOINTS, str(METRICS), str(TEST_PER_IMAGE), EVENTS, str(CSV), FRAMES, str(EVALUATION / "*"))
"""Patterns of what a training or an evaluation leaves in a run folder."""
