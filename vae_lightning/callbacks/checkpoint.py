"""Checkpoints that are whole or not there: written beside the old one and put in its place at once."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from vae_lightning.errors import StorageError

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin for writing checkpoints; a full disk or a killed process leaves the previous one as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.unfinished")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, target)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            kept = "the previous one is kept" if target.exists() else "there is no previous one"
            reason = " ".join(str(error).split())
            raise StorageError(
                f"{target}: could not save the checkpoint ({reason}); {kept}. Free some space and go on with ckpt_path="
            ) from error
