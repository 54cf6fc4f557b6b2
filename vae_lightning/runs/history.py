"""Read what a training wrote into its run folder: the logged metrics, `metrics.json`, and the command."""

import contextlib
import csv
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_lightning.errors import one_line
from vae_lightning.machine.archives import NPY, arrays_in
from vae_lightning.machine.formats import too_new
from vae_lightning.machine.reading import JSON, content_within, require_inside
from vae_lightning.machine.shell import shell_quoted
from vae_lightning.runs.layout import CSV, METRICS, OVERRIDES, TENSORBOARD, TEST_PER_IMAGE
from vae_lightning.runs.yaml_files import read_yaml

__all__ = ["asked_with", "from_the_start", "history", "per_image", "record"]

log = logging.getLogger(__name__)

TABLE = 512 << 20
"""The most bytes of a `metrics.csv`: a row a step of a million steps is some hundred megabytes."""
LOGS = 4 << 30
"""The most bytes of all event files of a training, which hold images too."""
PER_IMAGE = 256 << 20
"""The most bytes of the values of all images of a test: those of MNIST are some hundred kilobytes."""
FROM = "ckpt_path="
"""How the word begins that says which checkpoint a training goes on from."""
LAST_STEP = 1 << 53
"""A step that no training reaches, and up to which every number is exact in a figure."""


def history(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Optimizer steps and values of each metric that the training in `folder` logged; empty without a log of TensorBoard or CSV.

    A log that is damaged or not of this project is left out, with a warning.
    """
    rows: dict[str, list[tuple[int, float]]] = {}
    for of, path in ((_from_tensorboard, folder / TENSORBOARD), (_from_csv, folder / CSV)):
        try:
            rows = rows or of(path, folder)
        except Exception as error:  # each reader has its own errors, and all mean the same here
            log.warning("%s: cannot be read (%s), so no curves of it", path, one_line(error, 300))
    # after training, the best checkpoint is validated and tested, and logged at the step where training ended
    ends = {step for key, points in rows.items() if key.startswith("test/") for step, _ in points}
    logged: dict[str, tuple[Tensor, Tensor]] = {}
    for key, points in rows.items():
        kept = sorted(point for point in points if point[0] not in ends or not key.startswith("val/"))
        if kept:
            steps, values = zip(*kept, strict=True)
            logged[key] = torch.tensor(steps), torch.tensor(values, dtype=torch.float64)
    return logged


def record(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json` of the run in `folder`; empty if its training did not end.

    Both formats have the same keys, see `machine.formats`. A file that is damaged, not of this project, or of a later version is
    left out, with a warning.
    """
    path = folder / METRICS
    if not path.is_file():
        return {}
    try:
        content = json.loads(content_within(path, JSON, folder))
        reason = too_new(content) or "is not a record of this project"
        if too_new(content) is None and isinstance(content, dict) and _is_provenance(content.get("provenance", {})):
            return content
    except (OSError, ValueError, RecursionError) as error:
        reason = f"cannot be read ({one_line(error, 300)})"
    log.warning("%s: %s, so the report has no provenance", path, reason)
    return {}


def per_image(folder: Path) -> dict[str, NDArray[np.float64]]:
    """The values of each image of the test of the run in `folder`, `(N,)` by metric, and the images' marks, `_images`.

    Empty if the run kept none. A file that is damaged or not of this project is left out, with a warning.
    """
    path = folder / TEST_PER_IMAGE
    try:
        content = content_within(path, PER_IMAGE, folder)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name.removesuffix(NPY) for name in archive.namelist() if name.endswith(NPY)]
        arrays = arrays_in(content, names, PER_IMAGE)
        sizes = {array.shape for array in arrays.values()}
        if len(sizes) != 1 or len(*sizes) != 1 or any(array.dtype.kind != "f" for array in arrays.values()):
            raise ValueError("its arrays are not one number for each image")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s: cannot be read (%s), so there is nothing of single images", path, one_line(error, 300))
        return {}
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _is_provenance(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("command", ""), str | None)


def asked_with(folder: Path) -> str | None:
    """The command line that started the run in `folder`; None if the run was not started from a command line."""
    path = folder / OVERRIDES
    if not path.is_file():
        return None
    try:
        overrides = read_yaml(path, folder)
    except Exception as error:  # yaml has many kinds of error, and all mean the same here
        log.warning("%s: cannot be read (%s), so the report has no command", path, one_line(error, 300))
        return None
    if not isinstance(overrides, list):
        return None
    words = from_the_start(folder, [str(word) for word in overrides])
    return " ".join(["python", "train.py", *(shell_quoted(word, "utf-8") for word in words)])


def from_the_start(folder: Path, words: Sequence[str]) -> list[str]:
    """The `words` of a command that makes the run in `folder`, though it went on there from a checkpoint of its own.

    Instead of that one they name the checkpoint of another run that the first part went on from; none, if it began anew.
    """
    if not any(_is_own(folder, word) for word in words):
        return list(words)
    earlier: list[str] = []
    for path in sorted((folder / OVERRIDES.parent).glob(f"until_step_*/{OVERRIDES.name}")):
        with contextlib.suppress(Exception):  # what is no list of words any more names no checkpoint
            earlier += [str(word) for word in read_yaml(path, folder)]
    others = [word for word in earlier if word.startswith(FROM) and not _is_own(folder, word)]
    return [word for word in words if not word.startswith(FROM)] + others[:1]


def _is_own(folder: Path, word: str) -> bool:
    """Whether `word` goes on from a checkpoint that lies in `folder`."""
    path = Path(word.removeprefix(FROM).strip("'\""))
    return word.startswith(FROM) and folder.resolve() in path.resolve().parents


def _from_tensorboard(path: Path, folder: Path) -> dict[str, list[tuple[int, float]]]:
    files = list(path.glob("*tfevents*"))  # what TensorBoard takes for its own
    if not files:
        return {}
    for file in files:
        require_inside(file, folder)
        if not file.is_file():
            raise ValueError(f"{file.name} is no file")
    if sum(file.stat().st_size for file in files) > LOGS:
        raise ValueError("its event files are larger than those of a training")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # 0 keeps every scalar, as figures show all of them
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 1, "tensors": 1, "histograms": 1})
    events.Reload()
    logged = {key: [(event.step, event.value) for event in events.Scalars(key)] for key in events.Tags()["scalars"]}
    if not logged:  # the reader passes over a file that it cannot read
        raise ValueError("its event files hold no metric")
    return logged


def _from_csv(path: Path, folder: Path) -> dict[str, list[tuple[int, float]]]:
    if not path.is_file():
        return {}
    text = io.StringIO(content_within(path, TABLE, folder).decode(), newline="")
    logged: dict[str, list[tuple[int, float]]] = {}
    for row in csv.DictReader(text):
        for key, value in row.items():
            with contextlib.suppress(ValueError, TypeError):  # a cell is empty; a killed training left half a line
                step = int(row["step"])
                if isinstance(key, str) and 0 <= step < LAST_STEP:  # cells beyond the header have no key
                    logged.setdefault(key, []).append((step, float(value)))
    return logged
