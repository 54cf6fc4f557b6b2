"""Checkpoints: whole or not there, and such that a run goes on from them as if it had never stopped."""

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

from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError
from vae_lightning.machine.checkpoints import read_any
from vae_lightning.machine.files import replacing
from vae_lightning.machine.lightning import may_stop_now

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "LastCheckpoint"]

ONLY = {
    "save_top_k": 1,
    "save_last": None,
    "every_n_train_steps": None,
    "train_time_interval": None,
    "save_on_exception": False,
    "save_on_train_epoch_end": False,
    "enable_version_counter": False,
}
"""Settings of ModelCheckpoint under which best.ckpt holds the best weights, and last.ckpt is written by `LastCheckpoint`."""
INSTEAD = (
    "this callback keeps the best checkpoint alone, as best.ckpt; for others beside it, add another callback: "
    "pytorch_lightning.callbacks.ModelCheckpoint with a dirpath of its own"
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin for writing checkpoints: a checkpoint is written beside the old one, and then takes its place at once.

    A full disk or a killed process leaves the previous checkpoint as it was.

    >>> trainer = L.Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu")
    >>> type(trainer.strategy.checkpoint_io).__name__
    'AtomicCheckpointIO'
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        target, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)  # to memory first: on a full disk, torch.save fails with an error that nobody understands
        try:
            with replacing(target, durable=True) as unfinished:
                unfinished.write_bytes(content.getbuffer())
        except StorageError as error:
            kept = f"go on from the previous one with ckpt_path={target}" if target.exists() else "there is no previous one"
            raise StorageError(f"{error}; {kept}") from error

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """The content of a checkpoint, read as the rest of this project reads it, unless pickles are asked for by name."""
        if weights_only is False:
            return super().load_checkpoint(path, map_location, weights_only)
        return read_any(Path(path))


class LastCheckpoint(Checkpoint):
    """Keeps where training stands in `dirpath`/last.ckpt, after every epoch and wherever training ends.

    The checkpoint is written while Lightning still takes the epoch for unfinished. One that Lightning writes later has two
    faults: an epoch that training ended in the middle of counts as done, and with `max_steps` the next epoch is skipped when
    training is resumed.

    >>> LastCheckpoint("checkpoints").path.name
    'last.ckpt'
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath, "last.ckpt")
        self._saved_step: int | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # after the last batch of an epoch comes its validation, which must not be lost
        if not trainer.is_last_batch and (may_stop_now(trainer) or trainer.global_step == trainer.max_steps):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        ends = trainer.is_last_batch or may_stop_now(trainer) or trainer.global_step == trainer.max_steps
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and ends:
            self._saved_step = None  # what was saved before the validation does not know of it
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
    """Keeps the best checkpoint in `dirpath`/best.ckpt, and copies it along when a run goes on in a new folder.

    Args:
        dirpath: folder of the file.
        monitor, mode: which metric says what is best, and whether it is least (`"min"`) or most (`"max"`).
        filename: the name of the file without its ending; must be "best", which is what evaluation looks for.
        settings: further arguments of Lightning's ModelCheckpoint, except those by which best.ckpt would not be the best.

    >>> BestCheckpoint("checkpoints", monitor="val/elbo", mode="max").path.name
    'best.ckpt'
    """

    def __init__(self, dirpath: str, monitor: str, mode: str = "min", filename: str = "best", **settings: Any) -> None:
        for key, value in settings.items():
            if key in ONLY and value not in (None, False, ONLY[key]):
                raise ConfigurationError(f"{key}={value}: {INSTEAD}")
        if filename != "best":
            raise ConfigurationError(f"filename={filename}: must be best, which is what evaluation looks for")
        names = {"auto_insert_metric_name": False, "enable_version_counter": False, "save_on_train_epoch_end": False}
        super().__init__(dirpath=dirpath, monitor=monitor, mode=mode, filename=filename, **{**names, **settings})

    @property
    def path(self) -> Path:
        """The file of the best checkpoint."""
        return Path(str(self.dirpath), f"{self.filename}{self.FILE_EXTENSION}")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best, here = Path(state_dict["best_model_path"]), self.path
        state = {**state_dict, "dirpath": self.dirpath, "best_model_path": "", "best_k_models": {}, "last_model_path": ""}
        if self._is_of(best, state_dict["best_model_score"]):
            if best != here:
                with replacing(here) as unfinished:
                    shutil.copyfile(best, unfinished)
            kept = {"best_k_models": {str(here): state["best_model_score"]}, "kth_best_model_path": str(here)}
            state |= {"best_model_path": str(here), **kept}
        super().load_state_dict(state)

    def _is_of(self, path: Path, score: torch.Tensor | None) -> bool:
        """Whether `path` still is the checkpoint that reached `score`: the run that wrote it may have found a better one since."""
        if score is None or not path.is_file():
            return False
        try:
            states = read_any(path).get("callbacks", {})
        except CheckpointError:  # damaged: as if it were gone
            return False
        held = states.get(self.state_key, {}).get("best_model_score")
        return held is not None and bool(held == score.cpu())
