"""Sweeps written by hand: the record, and of each finished job what the table reads of its run folder."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vae_lightning.sweeps.record import Asked, Job, Record, identity
from vae_lightning.treatment import Treatment

Values = Callable[[Mapping[str, Any]], Mapping[str, Sequence[float]] | None]
"""Gives the values of each test image by metric for the settings of a job; None: it has no result."""


def record_of(axes: Mapping[str, Sequence[Any]], shared: Mapping[str, Any] | None = None) -> Record:
    """The record of the sweep over the product of `axes`."""
    asked = []
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        flat = {**(shared or {}), **settings}
        asked.append(Asked(tuple(f"{key}={value}" for key, value in settings.items()), flat, identity(flat)))
    words = [f"{key}={','.join(map(str, values))}" for key, values in axes.items()]
    return Record.empty("/start").with_jobs(asked, list(axes), words, [])


def write_run(
    run: Path,
    values: Mapping[str, Sequence[float]],
    marks: Sequence[float] | None = None,
    images: bool = True,
    treatment: Treatment | None = None,
) -> None:
    """Write what the test of a run leaves, whose images have these values."""
    run.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.array(each, dtype=np.float64) for name, each in values.items()}
    means = {name: float(array.mean()) for name, array in arrays.items()}
    metrics = {f"test/{name}": mean for name, mean in means.items()} | {f"val/{name}": mean - 1.0 for name, mean in means.items()}
    content = {"format": 2, "metrics": metrics, "timing": {"seconds": 2.0}, "treatment": treatment and treatment.plain}
    (run / "metrics.json").write_text(json.dumps(content))
    (run / "checkpoints").mkdir(exist_ok=True)
    (run / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    if images:
        count = len(next(iter(arrays.values())))
        np.savez(
            run / "test_per_image.npz", **arrays, _images=np.array(marks if marks is not None else range(count), dtype=np.float64)
        )


def make_sweep(folder: Path, axes: Mapping[str, Sequence[Any]], values: Values, shared: Mapping[str, Any] | None = None) -> Record:
    """Write a sweep whose jobs have the results that `values` gives for their settings."""
    record = record_of(axes, shared)
    record.write(folder)
    for job in record.jobs:
        found = values(job.settings)
        if found is not None:
            write_run(folder / job.folder, found)
    return record


def fail(folder: Path, job: Job, reason: str) -> None:
    """Write why a job failed."""
    path = folder / ".sweep" / "reasons" / f"{job.folder}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"reason": reason}))


def evaluated(run: Path, **estimates: float) -> None:
    """Write the report of an evaluation of the run with these estimates."""
    rows = {
        name: {
            "value": value,
            "standard_error": 0.25,
            "num_images": 200,
            "num_samples": 50,
            "binarization": "dynamic",
            "estimator": "importance sampling",
            "settings": {},
            "seconds": 1.0,
            "section": "likelihood",
            "seed": 0,
        }
        for name, value in estimates.items()
    }
    (run / "evaluation" / "figures").mkdir(parents=True)
    report = {"format": 2, "checkpoint": "best.ckpt", "weights": {"file": "checkpoints/best.ckpt", "sha256": "ab", "step": 1}}
    (run / "evaluation" / "report.json").write_text(json.dumps({**report, "splits": {"test": rows}}))
    (run / "evaluation" / "report.html").write_text("<p>report</p>")
