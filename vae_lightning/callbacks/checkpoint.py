"""Checkpoints: whole or not there, and such that a run goes on from them as if it had never stopped."""

import contextlib
import io
import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn

from vae_lightning.errors import StorageError

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "LastCheckpoint"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin for writing checkpoints: writes beside the old one and puts the new one in its place at once.

    A full disk or a killed process leaves the previous one as it was.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.unfinished")
        content = io.BytesIO()  # of a full disk, torch.save itself says nothing that one could understand
        torch.save(checkpoint, content)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            kept = f"go on from the previous one with ckpt_path={target}" if target.exists() else "there is no previous one"
            raise StorageError(f"{target}: could not save the checkpoint ({error.strerror}); {kept}") from error


class LastCheckpoint(Checkpoint):
    """Keeps where training stands in `dirpath`/last.ckpt, after every epoch and wherever training ends.

    It is written while Lightning takes the epoch for unfinished. What Lightning writes after that has two faults: an epoch
    that training ended in the middle of counts as done, and with `max_steps` the next epoch is skipped on resuming.
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath, "last.ckpt")
        self._saved_step: int | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # after the last batch of an epoch comes its validation, which must not be lost
        if not trainer.is_last_batch and (trainer.should_stop or trainer.global_step == trainer.max_steps):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and (trainer.is_last_batch or trainer.should_stop):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # an epoch that no validation ended
        progress = trainer.fit_loop.epoch_progress
        counts: tuple[Any, Any] = (progress.current, progress.total)
        for count in counts:
            count.processed -= 1
        self._save(trainer)
        for count in counts:
            count.processed += 1

    def _save(self, trainer: L.Trainer) -> None:
        if self._saved_step != trainer.global_step and not getattr(trainer, "fast_dev_run", False):
            trainer.save_checkpoint(self.path)
            self._saved_step = trainer.global_step


class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which takes the best checkpoint so far along when a run goes on in a new folder."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best, here = Path(state_dict["best_model_path"]), Path(str(self.dirpath), f"{self.filename}{self.FILE_EXTENSION}")
        state = {**state_dict, "dirpath": self.dirpath, "best_model_path": "", "best_k_models": {}, "last_model_path": ""}
        if self._is_of(best, state_dict["best_model_score"]):
            if best != here:
                _copy(best, here)
            kept = {"best_k_models": {str(here): state["best_model_score"]}, "kth_best_model_path": str(here)}
            state |= {"best_model_path": str(here), **kept}
        super().load_state_dict(state)

    def _is_of(self, path: Path, score: torch.Tensor | None) -> bool:
        """Whether `path` is the checkpoint that reached `score`: the other run may have gone on and written a better one."""
        if score is None or not path.is_file():
            return False
        states = torch.load(path, map_location="cpu", weights_only=True)["callbacks"]
        return bool(states[self.state_key]["best_model_score"] == score.cpu())


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, unfinished)
    os.replace(unfinished, target)
