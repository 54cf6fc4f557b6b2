"""What a run of a sweep has left: its metrics, the values of each test image, and the estimates of its evaluation."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_lightning.machine.reading import JSON, content_within
from vae_lightning.reports.merging import identity_of, is_report, with_others
from vae_lightning.runs.finding import tested
from vae_lightning.runs.history import per_image
from vae_lightning.runs.layout import EVALUATION
from vae_lightning.sweeps.status import State, Status

__all__ = ["IMAGES", "Result"]

log = logging.getLogger(__name__)

IMAGES = "_images"
"""The name of the marks by which images are known again, beside the values of a test's images."""
ROUNDING = 1e-6
"""How far the mean of a test's values may be from the metric, relative to it: other than this, the values are of another test."""
LARGEST = 1e100
"""What no metric reaches, and whose square is a number still."""
SPLIT = "test"
"""The split whose estimates are taken from evaluations."""


@dataclass(frozen=True)
class Result:
    """A job with what it has left in its run folder.

    Args:
        folder: the sweep's.
        shared: the settings that all jobs of the sweep have in common, by dotted key.
    """

    folder: Path
    status: Status
    shared: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / self.status.job.folder

    @property
    def finished(self) -> bool:
        """Whether the job has a result."""
        return self.status.state is State.FINISHED

    @property
    def seed(self) -> Any:
        """The seed of the job."""
        return self.status.job.settings.get("seed", self.shared.get("seed"))

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics of validation and test by `split/metric`; empty without a result."""
        of_splits = ((key, value) for key, value in self.status.metrics.items() if key.partition("/")[0] in ("val", SPLIT))
        return {key: value for key, value in of_splits if abs(value) < LARGEST}

    @cached_property
    def _kept(self) -> dict[str, NDArray[np.float64]]:
        """The values of each image that the run kept, if they are those that its metrics are the means of."""
        kept = per_image(self.run) if self.finished else {}
        if IMAGES not in kept:
            return {}
        for name, array in kept.items():
            stated = self.metrics.get(f"{SPLIT}/{name}")
            fits = stated is not None and abs(float(array.mean()) - stated) <= ROUNDING * max(1.0, abs(stated))
            if name != IMAGES and not fits:
                log.warning("%s: its values of single images are of another test than metrics.json, so they are left out", self.run)
                return {}
        return kept

    @property
    def images(self) -> dict[str, NDArray[np.float64]]:
        """The values of each test image `(N,)` by `split/metric`; empty if the run kept none that its metrics are of."""
        return {f"{SPLIT}/{name}": array for name, array in self._kept.items() if name != IMAGES}

    def of_the_same_images(self, other: "Result") -> bool:
        """Whether both are known to have been tested on the same images, in the same order."""
        if not (self._kept and other._kept):
            return False
        mine, theirs = self._kept[IMAGES], other._kept[IMAGES]
        return mine.shape == theirs.shape and bool(np.allclose(mine, theirs, rtol=1e-9, atol=0.0))

    # ---- its evaluation

    @cached_property
    def report(self) -> dict[str, Any]:
        """The content of the evaluation's `report.json`; empty if there is none of the weights that the metrics are of."""
        path, weights = self.run / EVALUATION / "report.json", tested(self.run)
        if not self.finished or not path.is_file():
            return {}
        try:
            content = json.loads(content_within(path, JSON, self.folder))
            fits = is_report(content) and Path(str(content["weights"].get("file"))).name == weights.name
            # a training that went on has other weights than its evaluation
            fits = fits and not (weights.is_file() and weights.stat().st_mtime > path.stat().st_mtime + 1)
        except (OSError, ValueError, RecursionError):
            fits = False
        if not fits:
            log.warning("%s: is of other weights than metrics.json, or damaged, so left out", path)
        return content if fits else {}

    @property
    def estimates(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """The estimates of the test split by name, and by what tells them from others of the name.

        Left out are those that are one of many (`nll/k_10`), and those that the test has measured already.
        """
        named = with_others(self.report, SPLIT) if self.report else {}
        return {
            name: {identity_of(row): row for row in rows if row["value"] is not None and abs(row["value"]) < LARGEST}
            for name, rows in named.items()
            if "/" not in name and f"{SPLIT}/{name}" not in self.metrics
        }

    @property
    def page(self) -> Path | None:
        """The page of the evaluation, if there is one."""
        path = self.run / EVALUATION / "report.html"
        return path if path.is_file() else None

    def picture(self, name: str) -> Path | None:
        """The file of a figure of the evaluation, if it was drawn."""
        figure = self.report.get("figures", {}).get(name)
        path = self.run / EVALUATION / figure["file"] if figure else None
        return path if path is not None and path.is_file() and path.suffix == ".png" else None
