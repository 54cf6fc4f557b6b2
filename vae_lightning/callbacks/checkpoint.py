"""Checkpoints: whole or not there, and such that a run goes on from them as if it had never stopped."""

import functools
import io
import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from vae_lightning.arguments import require
from vae_lightning.callbacks.progress import STEPS
from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError, one_line
from vae_lightning.machine.checkpoints import LAST, PREVIOUS, content_of, is_whole, read_any
from vae_lightning.machine.files import replacing
from vae_lightning.machine.lightning import (
    after_each_batch,
    as_after_the_step,
    may_stop_now,
    no_longer_after_batches,
    validates_here,
)
from vae_lightning.machine.signals import aborted, received

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "LastCheckpoint"]

log = logging.getLogger(__name__)

ONLY: dict[str, tuple[object, ...]] = {
    "save_top_k": (1,),
    "save_last": (None, False),
    "every_n_epochs": (None, 1),
    "every_n_train_steps": (None, 0),
    "train_time_interval": (None,),
    "save_on_exception": (False,),
    "save_on_train_epoch_end": (False,),
    "enable_version_counter": (False,),
}
"""Values of ModelCheckpoint's settings by which best.ckpt holds the best weights, and last.ckpt is written by `LastCheckpoint`."""
INSTEAD = (
    "this callback keeps the best checkpoint alone, as best.ckpt; for others beside it, add another callback: "
    "pytorch_lightning.callbacks.ModelCheckpoint with a dirpath of its own"
)
WRITTEN = "written"
"""The key in a checkpoint of `time.time()` when it was written."""
VALIDATED_STEP = "validated_step"
"""The key in the state of `BestCheckpoint` of the step of the last validation."""
VALIDATED = "validated"
"""The key in a checkpoint of what its scores were measured on, in words."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's plugin for writing checkpoints: a checkpoint is written beside the old one, and then takes its place at once.

    A full disk or a killed process leaves the previous checkpoint as it was. Of last.ckpt, the previous one is kept beside the new
    one; of the two names, one has a whole checkpoint at any moment.

    >>> trainer = L.Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu")
    >>> type(trainer.strategy.checkpoint_io).__name__
    'AtomicCheckpointIO'
    """

    def __init__(self) -> None:
        super().__init__()
        self._written: set[Path] = set()
        """Checkpoints that were whole when they were written here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        target, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)  # to memory first: on a full disk, torch.save fails with an error that nobody understands
        try:
            with replacing(target, durable=True, previous=self._previous(target)) as unfinished:
                unfinished.write_bytes(content.getbuffer())
            self._written.add(target)
        except StorageError as error:
            there = next((path for path in (target.with_name(LAST), target) if path.exists()), None)
            kept = f"go on from the previous one with ckpt_path={there}" if there else "there is no previous one"
            raise StorageError(f"{error}; {kept}") from error

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """The content of a checkpoint, read as the rest of this project reads it, unless pickles are asked for by name."""
        if weights_only is False:
            return super().load_checkpoint(path, map_location, weights_only)
        return content_of(Path(path))  # of weights alone, too, by which a spawned process gives its model back

    def _previous(self, path: Path) -> Path | None:
        """The name under which the checkpoint that is at `path` is kept when another takes its place."""
        if path.name != LAST:
            return None
        # a damaged one, of an earlier process, must not take the place of the whole one before it
        return path.with_name(PREVIOUS) if path in self._written or is_whole(path) else None


class LastCheckpoint(Checkpoint):
    """Keeps where training stands in `dirpath`/last.ckpt: after every epoch, every few minutes, and wherever training ends.

    The file before it is kept beside it as last.previous.ckpt, to go on from should last.ckpt be damaged.

    The checkpoint is written while Lightning still takes the epoch for unfinished. One that Lightning writes later has two
    faults: an epoch that training ended in the middle of counts as done, and with `max_steps` the next epoch is skipped when
    training is resumed. Within an epoch, the checkpoint is written when everything that belongs to a batch is done, so that a
    training that goes on from it logs what one that never stopped would log.

    Args:
        dirpath: folder of the file.
        every_minutes: how long training goes on before the file is written again within an epoch, at one of the next 50 steps;
            0: written at the end of an epoch only. Of several ranks, the clock of the first one counts.

    >>> LastCheckpoint("checkpoints").path.name
    'last.ckpt'
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, dirpath: str, every_minutes: float = 5) -> None:
        require(every_minutes >= 0, "every_minutes", every_minutes, "a number of minutes, or 0 for never")
        self.path = Path(dirpath, LAST)
        self.every_minutes = every_minutes
        self._saved_step: int | None = None
        self._saved_at = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            for left in self.path.parent.glob(f".{LAST}.*.unfinished"):  # by a process that was killed
                left.unlink(missing_ok=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved_at = time.monotonic()
        after_each_batch(trainer, functools.partial(self._after_batch, trainer))

    def _after_batch(self, trainer: L.Trainer) -> None:
        if trainer.is_last_batch:
            return  # where the epoch ends
        if may_stop_now(trainer) or trainer.global_step == trainer.max_steps:
            self._saved_step = None  # what a validation saved here counts the step for not yet done
            with as_after_the_step(trainer):
                self._save(trainer)
        elif self._is_due(trainer):
            self._save(trainer)

    def _is_due(self, trainer: L.Trainer) -> bool:
        if not self.every_minutes or (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches:
            return False
        due = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        if trainer.world_size > 1:  # which is asked now and then only, as ranks have to wait for each other
            if trainer.global_step % STEPS:
                return False
            asked = torch.tensor(int(due and trainer.is_global_zero), device=trainer.strategy.root_device)
            due = bool(trainer.strategy.reduce(asked, reduce_op="max"))
        # after a validation within an epoch, Lightning would count the batch again
        return due and not validates_here(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.is_last_batch:
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

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        no_longer_after_batches(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        no_longer_after_batches(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[WRITTEN] = time.time()

    def stands_at(self, step: int) -> None:
        """Take the file for one that was written at `step`, such that it is not written again there."""
        self._saved_step = step

    def _save(self, trainer: L.Trainer) -> None:
        if aborted():  # by a signal, so that this step was not taken as one of a training that never stopped
            return
        if self._saved_step != trainer.global_step and not getattr(trainer, "fast_dev_run", False):
            for logger in trainer.loggers:
                logger.save()  # a process that is killed from now on has logged what the checkpoint takes for logged
            trainer.save_checkpoint(self.path, weights_only=False)
            self._saved_step, self._saved_at = trainer.global_step, time.monotonic()


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint in `dirpath`/best.ckpt, and copies it along when a run goes on in a new folder.

    Where a run goes on with another objective or number of samples, by another monitor, or on another part of the validation
    images, scores do not compare with those so far, and the best until then is left behind.

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
            if key in ONLY and not any(type(value) is type(allowed) and value == allowed for allowed in ONLY[key]):
                raise ConfigurationError(f"{key}={value}: {INSTEAD}")
        if filename != "best":
            raise ConfigurationError(f"filename={filename}: must be best, which is what evaluation looks for")
        if monitor.startswith("train/"):
            raise ConfigurationError(f"monitor={monitor}: must be a metric of validation, after which the best is kept: val/...")
        names = {"auto_insert_metric_name": False, "enable_version_counter": False, "save_on_train_epoch_end": False}
        super().__init__(dirpath=dirpath, monitor=monitor, mode=mode, filename=filename, **{**names, **settings})
        self._starts_anew = self._has_said = False
        self._validated_step: int | None = None
        """The step of the last validation; None before the first."""

    @property
    def path(self) -> Path:
        """The file of the best checkpoint."""
        return Path(str(self.dirpath), f"{self.filename}{self.FILE_EXTENSION}")

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        why = incomparable(checkpoint, pl_module.hparams, trainer, trainer.datamodule)  # type: ignore[attr-defined]
        if not why and not is_judged_by(self, checkpoint):
            why = "the checkpoint was judged by another monitor"
        self._starts_anew = bool(why)
        if why:
            _say_anew(why)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[VALIDATED] = _validated_on(trainer, trainer.datamodule)  # type: ignore[attr-defined]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._validated_step = trainer.global_step
        if self.monitor in trainer.callback_metrics or trainer.sanity_checking:
            super().on_validation_end(trainer, pl_module)
        elif not self._has_said:  # once, and what was trained is not lost for it
            self._has_said = True
            known = ", ".join(key for key in trainer.callback_metrics if key.startswith("val/")) or "none"
            log.warning(
                "monitor=%s: is not logged by validation_step, so no best.ckpt is kept; logged are: %s; last.ckpt has the weights "
                "after the last step",
                self.monitor,
                known,
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.best_model_path and self._validated_step is not None and received() is None:
            _say_what_came_after(trainer.global_step - self._validated_step)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), VALIDATED_STEP: self._validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated_step = state_dict.get(VALIDATED_STEP)
        if self._starts_anew:
            return
        here, score = self.path, state_dict["best_model_score"]
        # where the run folder was moved, the file has moved with it
        best = next((path for path in (Path(state_dict["best_model_path"]), here) if self._is_of(path, score)), None)
        state = {**state_dict, "dirpath": self.dirpath, "best_model_path": "", "best_k_models": {}, "last_model_path": ""}
        if best is not None:
            if best != here:
                with replacing(here) as unfinished:
                    shutil.copyfile(best, unfinished)
            kept = {"best_k_models": {str(here): state["best_model_score"]}, "kth_best_model_path": str(here)}
            state |= {"best_model_path": str(here), **kept}
        super().load_state_dict(state)
        self.current_score = state_dict.get("current_score")  # which Lightning saves and does not restore

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


def _goal_of(hparams: Mapping[str, Any]) -> tuple[object, object] | None:
    """The objective and the number of samples of a model's hyperparameters; None where they do not say.

    Scores of two goals do not compare, even where the metric has one name.

    >>> _goal_of({"objective": {"name": "beta", "beta": 4.0}, "num_samples": 1})
    ({'name': 'beta', 'beta': 4.0}, 1)
    """
    objective = hparams.get("objective")
    if objective is None or isinstance(objective, nn.Module):
        return None
    spec = {"name": objective} if isinstance(objective, str) else dict(objective)
    spec.pop("gradient_samples", None)  # says how the gradient is computed, and not of what; older checkpoints do not have it
    return spec, hparams.get("num_samples")


def has_another_goal(hparams: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether models with these hyperparameters are trained for goals whose scores do not compare.

    >>> has_another_goal({"objective": "iwae", "num_samples": 5}, {"objective": {"name": "iwae"}, "num_samples": 50})
    True
    >>> has_another_goal({}, {"objective": "iwae"})  # which the first does not say
    False
    """
    goals = _goal_of(hparams), _goal_of(others)
    return None not in goals and goals[0] != goals[1]


def _validated_on(trainer: L.Trainer, data: L.LightningDataModule | None) -> str:
    """The part of the validation images that a validation sees, in words."""
    limit = trainer.limit_val_batches
    if limit == 1.0 and isinstance(limit, float):
        return "all validation images"
    size = getattr(data, "eval_batch_size", None)
    batches = f"batches of {size * trainer.world_size} images" if size else "batches"
    return f"{limit} {batches}" if isinstance(limit, int) else f"{limit:g} of the {batches}"


def incomparable(
    checkpoint: Mapping[str, Any], hparams: Mapping[str, Any], trainer: L.Trainer, data: L.LightningDataModule | None
) -> str:
    """Why scores of a training that goes on from `checkpoint` do not compare with those so far; empty if they do.

    Args:
        hparams: of the model that goes on.
        data: what goes on is trained and validated on.
    """
    if has_another_goal(checkpoint.get("hyper_parameters", {}), hparams):
        return "the checkpoint was trained by another objective or number of samples"
    was, now = checkpoint.get(VALIDATED), _validated_on(trainer, data)
    if isinstance(was, str) and was != now:
        return f"the checkpoint was validated on {one_line(was, 80)}, and this training is on {now}"
    return ""


def is_judged_by(callback: BestCheckpoint, checkpoint: Mapping[str, Any]) -> bool:
    """Whether `checkpoint` knows the best by the monitor of `callback`; one that knows no best is taken for one that does."""
    judges = [key for key in checkpoint.get("callbacks", {}) if str(key).startswith(f"{BestCheckpoint.__name__}{{")]
    return not judges or callback.state_key in judges


@rank_zero_only
def _say_anew(why: str) -> None:
    log.warning("best.ckpt: starts anew, as %s", why)


@rank_zero_only
def _say_what_came_after(steps: int) -> None:
    if steps > 0:
        what = "a step" if steps == 1 else f"{steps:,} steps"
        log.warning("training ended %s after its last validation: val/... and test/... are of best.ckpt, which is older", what)
