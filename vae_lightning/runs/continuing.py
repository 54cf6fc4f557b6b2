"""Going on from a checkpoint: what does not fit is refused by name before anything is written; what can change follows the command.

A checkpoint gives weights, moments, counters and scores. Everything that a command can set (learning rate and its schedule, the
optimizer's numbers, patience, length, time) is as the command says. What a checkpoint's figures or its place within an epoch depend
on (the model's architecture, the data) cannot change.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as L
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.trainer.states import RunningStage, TrainerFn

from vae_lightning.arguments import flattened, parameters
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.machine.checkpoints import Progress, read, read_any
from vae_lightning.models.base import Module
from vae_lightning.runs.loading import settings_in

__all__ = ["Continuation", "continuation"]

ARCHITECTURE = {
    "classes",
    "classifier",
    "conditional_prior",
    "latent_dim",
    "likelihood",
    "net",
    "num_classes",
    "posterior",
    "prior",
}
"""Arguments of models that say which function their weights are of."""
CHANGEABLE = {"dropout", "init"}
"""Of these, what may change all the same."""
FIXED_DATA = (
    *("dataset", "binarization", "val_size", "permute_pixels", "eval_seed", "train_size", "test_size"),
    *("path", "splits", "channels", "size", "background"),
)
"""Settings of data that scores so far, and what counts as unseen, depend on."""


class Continuation(L.Callback):
    """Has Lightning restore of a checkpoint what the checkpoint alone knows, and leave what the command says.

    Args:
        path: the checkpoint.
        progress: how far its training had come.
        changed: hyperparameters that are others now, each with its value then and now.
    """

    sees_every_batch = False

    def __init__(self, path: Path, progress: Progress, changed: Mapping[str, Any]) -> None:
        self.path, self.progress, self.changed = path, progress, dict(changed)
        self.begin: Callable[[], object] | None = None
        """Called in the first process when the checkpoint has been restored and nothing has been trained yet."""

    def record(self) -> dict[str, Any]:
        """What `metrics.json` says of where a training went on."""
        changed = {key: {"was": was, "is": now} for key, (was, now) in self.changed.items()}
        place = {"epochs": self.progress.epochs, "batches": self.progress.batches, "steps": self.progress.steps}
        return {"checkpoint": str(self.path), **place, "changed": changed}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        states = checkpoint["callbacks"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback.state_key in states:
                states[callback.state_key] = _with_own_settings(callback, states[callback.state_key])
        if not self.progress.batches:
            _end_epoch(checkpoint["loops"]["fit_loop"], self.progress.steps)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.progress.batches:
            # with max_steps, Lightning takes any checkpoint for one within an epoch
            trainer.fit_loop._restarting = False
            trainer.fit_loop.epoch_loop.restarting = False
        if self.begin is not None and trainer.is_global_zero:
            self.begin()


def _with_own_settings(callback: L.Callback, state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` with what `callback` was built with, but for the folder, by which ModelCheckpoint knows its own files.

    Of a class of somebody's own, this is said of what it inherits alone: what it adds and keeps in its state has changed since.
    """
    known = [kind for kind in type(callback).__mro__ if kind.__module__.partition(".")[0] in ("vae_lightning", "pytorch_lightning")]
    own = {key for kind in known for key in parameters(kind)[0]} - {"dirpath"}
    return {key: getattr(callback, key) if key in own and hasattr(callback, key) else value for key, value in state.items()}


def _end_epoch(loops: dict[str, Any], steps: int) -> None:
    """Count the epoch as done, of a checkpoint written after its last batch: the next one may have another number of batches."""
    for counts in loops["epoch_progress"].values():
        counts["started"] = counts["processed"] = counts["completed"] = counts["ready"]
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = steps


NameOf = Callable[[object, str], str]


def _bare(owner: object, argument: str) -> str:
    return argument


def continuation(
    ckpt_path: str, trainer: L.Trainer, model: L.LightningModule, data: L.LightningDataModule, name_of: NameOf = _bare
) -> Continuation:
    """How `trainer` goes on from `ckpt_path` with `model` and `data`.

    Args:
        ckpt_path: the checkpoint.
        trainer, model, data: what trains, and is trained on what.
        name_of: what whoever asked calls an argument of the trainer, of one of its callbacks, of the model or of the data,
            `name_of(trainer, "max_epochs")`, for the errors and the record; by default the argument's own name.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or of another model.
        ConfigurationError: a setting that cannot change is another, or nothing is left to train.
    """
    path = Path(ckpt_path)
    if not path.is_file():
        raise CheckpointError(f"ckpt_path={ckpt_path}: there is no such file")
    content = (read if isinstance(model, Module) else read_any)(path)
    try:
        progress = Progress.of(content)
        missing = {"optimizer_states", "lr_schedulers", "callbacks"} - set(content)
    except (KeyError, TypeError):
        missing = {"loops"}
    if missing:
        raise CheckpointError(f"{path}: holds weights without the state of their training; go on from a last.ckpt")
    was, now = flattened(content.get("hyper_parameters", {})), flattened(model.hparams)
    _require_model(path, content, model, was, now, name_of)
    _require_data(content, data, progress, trainer, name_of)
    _require_something_left(content, progress, trainer, name_of)
    both = [key for key in now if key in was and was[key] != now[key]]
    return Continuation(path, progress, {name_of(model, key): (was[key], now[key]) for key in both})


def _require_model(
    path: Path,
    content: Mapping[str, Any],
    model: L.LightningModule,
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    name_of: NameOf,
) -> None:
    """Refuse a checkpoint whose weights are of another function, though their shapes may be the same."""
    kind = content.get("vae_lightning", {}).get("model", type(model).__name__)
    if kind != type(model).__name__:
        raise CheckpointError(f"{path}: is of model {kind}, asked for is {type(model).__name__}")
    for key in now:
        words = key.split(".")
        built = words[0] in ARCHITECTURE and words[-1] not in CHANGEABLE
        if built and key in was and was[key] != now[key]:
            other = f"{name_of(model, key)}: the checkpoint has {was[key]}, asked for is {now[key]}"
            raise CheckpointError(f"{path}: is of another model: {other}")
    there, here = ({name: tuple(t.shape) for name, t in state.items()} for state in (content["state_dict"], model.state_dict()))
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            shapes = (there.get(name, "nothing"), here.get(name, "nothing"))
            raise CheckpointError(f"{path}: is of another model: {name}: the checkpoint has {shapes[0]}, asked for is {shapes[1]}")


def _require_data(
    content: Mapping[str, Any], data: L.LightningDataModule, progress: Progress, trainer: L.Trainer, name_of: NameOf
) -> None:
    """Refuse other data, and within an epoch whatever says which images of it are left."""
    held = settings_in(content)
    if not held or not hasattr(data, "settings"):
        return
    own = {**data.settings(), "devices": trainer.world_size}
    for key, was in held.items():
        now = own.get(key)
        if was == now or not (key in FIXED_DATA or progress.batches):
            continue
        name = name_of(trainer if key == "devices" else data, key)
        when = "" if key in FIXED_DATA else f" within an epoch, {progress.batches} batches into which the checkpoint stands"
        raise ConfigurationError(f"{name}={now}: the checkpoint was trained with {was}, which cannot change{when}")
    limit = trainer.limit_train_batches
    if isinstance(limit, int) and limit <= progress.batches > 0:
        stands = f"the checkpoint stands {progress.batches} batches into its epoch; ask for more"
        raise ConfigurationError(f"{name_of(trainer, 'limit_train_batches')}={limit}: {stands}")


def _require_something_left(content: Mapping[str, Any], progress: Progress, trainer: L.Trainer, name_of: NameOf) -> None:
    if getattr(trainer, "fast_dev_run", False):
        tries = "tries the first steps of a training; leave ckpt_path out"
        raise ConfigurationError(f"{name_of(trainer, 'fast_dev_run')}: {tries}")
    done = "so nothing is left to train; ask for"
    for key, limit, trained in (("epochs", trainer.max_epochs, progress.epochs), ("steps", trainer.max_steps, progress.steps)):
        if limit not in (None, -1) and trained >= limit:
            name = name_of(trainer, f"max_{key}")
            raise ConfigurationError(f"{name}={limit}: the checkpoint has trained {trained} {key}, {done} more {key}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = content["callbacks"].get(callback.state_key, {})
        if isinstance(callback, Timer) and callback._duration is not None:
            taken = state.get("time_elapsed", {}).get(RunningStage.TRAINING.value, 0.0)
            if taken >= callback._duration:
                raise ConfigurationError(
                    f"{name_of(trainer, 'max_time')}: {callback._duration:.0f} seconds are for the whole training, which has taken "
                    f"{taken:.0f} up to the checkpoint, {done} more time"
                )
        if isinstance(callback, EarlyStopping) and state.get("wait_count", 0) >= callback.patience and _may_stop(progress, trainer):
            raise ConfigurationError(
                f"{name_of(callback, 'patience')}={callback.patience}: {callback.monitor} has not improved for "
                f"{state['wait_count']} validations up to the checkpoint, {done} more patience"
            )


def _may_stop(progress: Progress, trainer: L.Trainer) -> bool:
    """Whether the least that is to be trained has been trained."""
    return progress.epochs >= (trainer.min_epochs or 0) and progress.steps >= (trainer.min_steps or 0)
