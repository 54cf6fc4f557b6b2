"""Read checkpoint files safely, and find out how far the training of a checkpoint had come."""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from vae_lightning.errors import CheckpointError, kind_of, one_line
from vae_lightning.machine.archives import require_whole
from vae_lightning.machine.held import in_memory

__all__ = [
    "CHECKPOINT_FORMAT",
    "LAST",
    "PREVIOUS",
    "Progress",
    "compact",
    "content_of",
    "is_whole",
    "migrate",
    "newest_whole",
    "read",
    "read_any",
]

CHECKPOINT_FORMAT = 1
"""The format that this version writes; it grows when checkpoints of earlier versions can no longer be read."""
LAST = "last.ckpt"
"""The name of the checkpoint of where training stands."""
PREVIOUS = "last.previous.ckpt"
"""The name that the checkpoint has from when the next one takes its place."""


def read_any(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file of any LightningModule, read without executing a pickle.

    Raises:
        CheckpointError: the file is missing, damaged or foreign.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        return _read(path)
    except CheckpointError as error:
        way_out = _before(path)
        raise CheckpointError(f"{error}; {way_out}") if way_out else error from error.__cause__


def _before(path: Path) -> str | None:
    """What to use in place of a last.ckpt that cannot be read: the one before it, if that one can be read."""
    previous = path.with_name(PREVIOUS)
    if path.name != LAST or not is_whole(previous):
        return None
    return f"the one before it is whole: {previous}"


def newest_whole(folder: Path) -> tuple[Path, str | None]:
    """The newest whole checkpoint of where a training stood, among last.ckpt and the one before it.

    Args:
        folder: the folder of the checkpoints, or the run folder above it.

    Returns:
        The file, and a line that says so if it is not last.ckpt because that one is damaged.

    Raises:
        CheckpointError: there is none that is whole.
    """
    if not any((folder / name).is_file() for name in (LAST, PREVIOUS)) and (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints"
    last, previous = folder / LAST, folder / PREVIOUS
    if not last.is_file():
        if previous.is_file():  # the process was killed between two renamings
            _read(previous)
            return previous, None
        raise CheckpointError(f"{folder}: there is neither {LAST} nor {PREVIOUS}, so the training has to begin anew")
    try:
        _read(last)
    except CheckpointError as error:
        if not is_whole(previous):
            raise
        return previous, f"{error}; goes on from the one before it, {previous.name}"
    return last, None


def is_whole(path: Path) -> bool:
    """Whether `path` is a checkpoint of which every byte that counts is as it was written."""
    try:
        _read(path)
    except CheckpointError:
        return False
    return True


def content_of(path: Path) -> Any:
    """What torch saved in a file, whatever it is, read without executing a pickle.

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than weights and plain values.
    """
    try:
        if not zipfile.is_zipfile(path):  # torch would name a cause that nobody understands
            raise CheckpointError(f"{path}: is damaged (cut, or empty), or never was a checkpoint")
        require_whole(path)
        # mapped, so that no tensor can claim to be what lies behind the file's own bytes in memory
        with _openable(path) as name:
            content = in_memory(torch.load(name, map_location="cpu", weights_only=True, mmap=True), path.stat().st_size)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or foreign file fails in many ways
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            way_out = "those are read by running code; a model of your own keeps numbers, texts, lists and dicts of them instead"
            raise CheckpointError(f"{path}: holds more than weights and plain values ({refused[1]}), and {way_out}") from error
        reason = one_line(str(error).partition("Exception raised from")[0], 120) or type(error).__name__
        raise CheckpointError(f"{path}: is damaged, or holds more than weights and plain values ({reason})") from error
    return content


def _read(path: Path) -> dict[str, Any]:
    """`read_any` of a file, without a way out."""
    content = content_of(path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: is not a checkpoint of this project")
    for key in ("global_step", "epoch"):
        place = content.get(key, 0)
        if type(place) is not int or not 0 <= place < 2**63:
            raise CheckpointError(f"{path}: is damaged: its {key} is {one_line(repr(place), 80)}, and not a number of at least 0")
    if not isinstance(content.get("vae_lightning", {}), dict):
        raise CheckpointError(f"{path}: is damaged: what it says of its version is no mapping")
    return content


@contextmanager
def _openable(path: Path) -> Iterator[str]:
    """A name of the file for torch, which can map none into memory whose name is no UTF-8."""
    try:
        os.fspath(path).encode()
        yield str(path)
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file of one of this project's models.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or of a version that cannot be read.
    """
    content = read_any(path)
    stamp = content.get("vae_lightning")
    if not isinstance(stamp, dict) or not isinstance(content.get("hyper_parameters"), Mapping):
        raise CheckpointError(f"{path}: is not a checkpoint of this project")
    if type(stamp.get("format")) is not int or stamp["format"] != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path}: has checkpoint format {one_line(str(stamp.get('format')), 40)}, this version reads {CHECKPOINT_FORMAT}; "
            f"evaluate it with vae_lightning {one_line(str(stamp.get('version')), 40)}, which made it"
        )
    migrate(content)
    return content


def migrate(content: dict[str, Any]) -> None:
    """Change the content of an older checkpoint, in place, to what this version would have written.

    - The conditional prior of a CVAE, an argument of its own in earlier versions, becomes the prior "class".

    >>> content = {"hyper_parameters": {"conditional_prior": True}, "state_dict": {}}
    >>> migrate(content)
    >>> content["hyper_parameters"]
    {'prior': {'name': 'class'}}
    """
    arguments = content.get("hyper_parameters", {})
    if arguments.pop("conditional_prior", False) is True:
        arguments["prior"] = {"name": "class"}
    state = content["state_dict"]
    if "class_prior.weight" in state:
        state["prior_of.weight"] = state.pop("class_prior.weight")


def compact(content: Any) -> Any:
    """`content` with a copy in place of each tensor that is a view, of which torch would save all the memory that it is a part of.

    >>> part = torch.zeros(1000)[:2]
    >>> compact({"weight": part})["weight"].untyped_storage().nbytes()
    8
    """

    def own(tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size() else tensor

    return tree_map_only(Tensor, own, content)


@dataclass(frozen=True)
class Progress:
    """How far the training of a checkpoint had come.

    >>> Progress(epochs=2, batches=0, steps=860).steps
    860
    """

    epochs: int
    """Finished epochs, with their validation."""
    batches: int
    """Batches done of the epoch under way; 0 between two epochs."""
    steps: int
    """Optimizer steps done."""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> "Progress":
        """The progress in the content of a checkpoint, which Lightning writes while it still takes the epoch for unfinished.

        Raises:
            KeyError, TypeError: the checkpoint has no such record.
        """
        loops = _at(checkpoint, "loops", "fit_loop")
        epoch, batch = _at(loops, "epoch_progress", "current"), _at(loops, "epoch_loop.batch_progress")
        ready, completed = _at(batch, "current", "ready"), _at(batch, "current", "completed")
        begun, processed = _at(epoch, "ready"), _at(epoch, "processed")
        if not all(isinstance(count, int) for count in (ready, completed, begun, processed)):
            raise TypeError("a count is no number")
        finished = batch["is_last_batch"] is True and completed == ready > 0
        under_way = processed < begun and not finished
        progress = cls(begun - under_way, ready if under_way else 0, checkpoint["global_step"])
        if not all(isinstance(count, int) and count >= 0 for count in (progress.epochs, progress.batches, progress.steps)):
            raise TypeError("a count is no number of at least 0")
        return progress


def _at(content: Any, *keys: str) -> Any:
    """What stands in nested mappings, whatever stands in their place in a file."""
    for key in keys:
        if not isinstance(content, Mapping):
            raise TypeError(f"{key} would stand in {kind_of(content)}")
        content = content[key]
    return content
