"""Go on from a checkpoint: refuse by name, before anything is written, what does not fit; take all else from the command.

A checkpoint gives weights, moments, counters and scores. Everything that a command can set (learning rate and its schedule, the
optimizer's numbers, patience, length, time) is as the command says. The model's architecture and the data cannot change, because
the metrics so far, and the place within an epoch, depend on them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import pytorch_lightning as L
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.trainer.states import RunningStage, TrainerFn
from torch import Tensor

from vae_lightning.arguments import flattened, parameters
from vae_lightning.callbacks import LastCheckpoint
from vae_lightning.callbacks.checkpoint import WRITTEN, BestCheckpoint, incomparable, is_judged_by
from vae_lightning.errors import CheckpointError, ConfigurationError, VAELightningError, one_line
from vae_lightning.machine.checkpoints import Progress, read, read_any
from vae_lightning.machine.lightning import BATCHES_THAT_STEPPED, allowed_seconds, begins_an_epoch, ends_only
from vae_lightning.models.base import Module
from vae_lightning.runs.loading import settings_in

__all__ = ["Continuation", "continuation", "restoring"]

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
"""Arguments of models that determine which function the weights belong to."""
CHANGEABLE = {"dropout", "init"}
"""Arguments within those of `ARCHITECTURE` that may change all the same."""
FIXED_DATA = (
    *("dataset", "binarization", "val_size", "permute_pixels", "eval_seed", "train_size", "test_size"),
    *("path", "splits", "channels", "size", "background"),
)
"""Settings of data that determine the scores so far, and which images count as unseen."""
RESTORES = "pytorch_lightning.trainer.connectors.checkpoint_connector"
"""The module of Lightning's that restores a training from a checkpoint."""


class Continuation(L.Callback):
    """Lets Lightning restore from a checkpoint only what the checkpoint alone knows; everything else is as the command says.

    Args:
        path: the checkpoint.
        progress: how far the checkpoint's training had come.
        changed: settings that have other values now, by name: the value then, and the value now.
        ends: nothing is left to train, so that only what comes after training is done.
        scores_anew: scores do not compare with those so far, as the objective or what is validated on is another.
        best_anew: neither does the best so far stay the best: for that reason, or as another monitor judges, or none.
    """

    sees_every_batch = False

    def __init__(
        self,
        path: Path,
        progress: Progress,
        changed: Mapping[str, Any],
        ends: bool = False,
        scores_anew: bool = False,
        best_anew: bool = False,
    ) -> None:
        self.path, self.progress, self.changed, self.ends = path, progress, dict(changed), ends
        self.scores_anew, self.best_anew = scores_anew, best_anew or scores_anew
        self.written: float | None = None
        """`time.time()` when the checkpoint was written, if it says so."""
        self.begin: Callable[[], object] | None = None
        """Called in the first process when the checkpoint has been restored and nothing has been trained yet."""

    def record(self) -> dict[str, Any]:
        """Where the training went on, and what was changed, for `metrics.json`."""
        changed = {key: {"was": was, "is": now} for key, (was, now) in self.changed.items()}
        place = {"epochs": self.progress.epochs, "batches": self.progress.batches, "steps": self.progress.steps}
        return {"checkpoint": str(self.path), **place, "changed": changed}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        written, states = checkpoint.get(WRITTEN), checkpoint["callbacks"]
        self.written = written if isinstance(written, float) else None
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if self.scores_anew and isinstance(callback, EarlyStopping):
                states.pop(callback.state_key, None)
            if callback.state_key in states:
                states[callback.state_key] = _with_own_settings(callback, states[callback.state_key])
        if self.ends:
            ends_only(trainer)
        elif not self.progress.batches:
            _end_epoch(checkpoint["loops"]["fit_loop"], self.progress.steps)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.ends:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, LastCheckpoint):
                    callback.stands_at(trainer.global_step)
        elif not self.progress.batches:
            # with max_steps, Lightning takes any checkpoint for one within an epoch
            begins_an_epoch(trainer)
        if self.begin is not None and trainer.is_global_zero:
            self.begin()


@contextmanager
def restoring(going_on: Continuation | None, trainer: L.Trainer) -> Iterator[None]:
    """A block that begins with the restoring of a checkpoint; what its content makes Lightning or torch raise is an error about it.

    The state of an optimizer shows what it is at the first step that is taken with it.

    Raises:
        CheckpointError: the state of an optimizer, a schedule, a callback or the data is none.
    """
    try:
        yield
    except CheckpointError as error:  # of a part that does not know which file it was given
        if going_on is None or str(going_on.path) in str(error):
            raise
        raise CheckpointError(f"{going_on.path}: {error}; go on from another") from error
    except (VAELightningError, MisconfigurationException, OSError):
        raise
    except Exception as error:
        if going_on is None or "memory" in str(error).lower():  # too little of it is no fault of the checkpoint
            raise
        raised_in = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
        stepped = trainer.global_step > going_on.progress.steps
        if stepped or not any(module == RESTORES or module.startswith("torch.optim.") for module in raised_in):
            raise
        said = f"{type(error).__name__}: {one_line(error, 120)}"
        raise CheckpointError(f"{going_on.path}: cannot be restored ({said}); go on from another") from error


def _with_own_settings(callback: L.Callback, state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` of `callback` in a checkpoint, with the settings that `callback` was built with now.

    The folder stays as in the checkpoint, because ModelCheckpoint recognises its own files by it. Of a user's class, only inherited
    settings are replaced: an attribute that the class adds may be state rather than a setting.
    """
    known = [kind for kind in type(callback).__mro__ if kind.__module__.partition(".")[0] in ("vae_lightning", "pytorch_lightning")]
    arguments = {key for kind in known for key in parameters(kind)[0]} - {"dirpath"}
    return {key: getattr(callback, key) if key in arguments and hasattr(callback, key) else value for key, value in state.items()}


def _end_epoch(loops: dict[str, Any], steps: int) -> None:
    """Count the epoch as done that a checkpoint was written at the end of: the next epoch may have more or fewer batches."""
    for counts in loops["epoch_progress"].values():
        counts["started"] = counts["processed"] = counts["completed"] = counts["ready"]
    loops["epoch_loop.state_dict"][BATCHES_THAT_STEPPED] = steps


NameOf = Callable[[object, str], str]


def _bare(owner: object, argument: str) -> str:
    return argument


def continuation(
    ckpt_path: str,
    trainer: L.Trainer,
    model: L.LightningModule,
    data: L.LightningDataModule,
    name_of: NameOf = _bare,
    *,
    may_end: bool = False,
) -> Continuation:
    """How `trainer` goes on from `ckpt_path` with `model` and `data`.

    Args:
        ckpt_path: the checkpoint.
        trainer, model, data: as they will be given to `trainer.fit`.
        name_of: gives the caller's name for an argument of the trainer, of one of its callbacks, of the model or of the data, for
            the errors and the record: `name_of(trainer, "max_epochs")`. By default that is the argument's own name.
        may_end: whether nothing may be left to train, as of a run that was killed in its last validation or test.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or of another model.
        ConfigurationError: a setting that cannot change has changed, or nothing is left to train.
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
    ends = False
    with _damaged(path):
        _require_form(content)
        was, now = flattened(content.get("hyper_parameters", {})), flattened(model.hparams)
        scores_anew = bool(incomparable(content, model.hparams, trainer, data))
        best = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestCheckpoint)]
        best_anew = not all(is_judged_by(callback, content) for callback in best) or not best
        _require_model(path, content, model, was, now, name_of)
        _require_data(content, data, progress, trainer, name_of)
        try:
            _require_something_left(content, progress, trainer, scores_anew, name_of)
        except _NothingLeft:
            if not may_end:
                raise
            ends = True
        both = [key for key in now if key in was and _differ(was[key], now[key])]
    changed = {name_of(model, key): (_recorded(was[key]), _recorded(now[key])) for key in both}
    return Continuation(path, progress, changed, ends, scores_anew, best_anew)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    """A block in which a value of another kind than training writes becomes an error about the file, whatever is raised for it."""
    try:
        yield
    except VAELightningError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {one_line(error, 120)}); go on from another") from error


def _differ(one: Any, other: Any) -> bool:
    """Whether two arguments of a model have different values; what cannot be compared, as tensors of other shapes, has."""
    try:
        same = torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other
        return not bool(same)
    except (RuntimeError, TypeError, ValueError):  # of torch, or of numpy for an array of several numbers
        return True


def _recorded(value: Any) -> Any:
    """`value` as JSON can hold it, whatever a model of somebody's own takes."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return _said(value)
    return value


def _said(value: object) -> str:
    """`value` of a checkpoint in an error's line."""
    return one_line(str(value), 80)


def _require_form(content: Mapping[str, Any]) -> None:
    """Refuse, by a TypeError, states of another form than those that Lightning restores."""
    optimizers, schedulers, callbacks = (content[key] for key in ("optimizer_states", "lr_schedulers", "callbacks"))
    for kind, states in (("optimizers", optimizers), ("schedulers", schedulers)):
        if not isinstance(states, list) or not all(isinstance(state, dict) for state in states):
            raise TypeError(f"the states of its {kind} are no list of mappings")
    for state in optimizers:
        groups = state["param_groups"]
        if not isinstance(state["state"], dict) or not all(isinstance(group["params"], list) for group in groups):
            raise TypeError("the state of an optimizer is no state of torch's")
    if not isinstance(callbacks, dict) or not all(isinstance(state, dict) for state in callbacks.values()):
        raise TypeError("the states of its callbacks are no mapping of mappings")


def _require_model(
    path: Path,
    content: Mapping[str, Any],
    model: L.LightningModule,
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    name_of: NameOf,
) -> None:
    """Refuse a checkpoint whose weights belong to another function than `model`, even where all shapes agree."""
    kind = content.get("vae_lightning", {}).get("model", type(model).__name__)
    if kind != type(model).__name__:
        raise CheckpointError(f"{path}: is of model {_said(kind)}, asked for is {type(model).__name__}")
    for key in now:
        words = key.split(".")
        built = words[0] in ARCHITECTURE and words[-1] not in CHANGEABLE
        if built and key in was and _differ(was[key], now[key]):
            other = f"{name_of(model, key)}: the checkpoint has {_said(was[key])}, asked for is {_said(now[key])}"
            raise CheckpointError(f"{path}: is of another model: {other}")
    there, here = ({name: tuple(t.shape) for name, t in state.items()} for state in (content["state_dict"], model.state_dict()))
    for name in [*here, *there]:
        if here.get(name) != there.get(name):
            shapes = (there.get(name, "nothing"), here.get(name, "nothing"))
            raise CheckpointError(
                f"{path}: is of another model: {_said(name)}: the checkpoint has {shapes[0]}, asked for is {shapes[1]}"
            )


def _require_data(
    content: Mapping[str, Any], data: L.LightningDataModule, progress: Progress, trainer: L.Trainer, name_of: NameOf
) -> None:
    """Refuse other data; within an epoch, also refuse other settings that determine which of its images are left."""
    held = settings_in(content)
    if not held or not hasattr(data, "settings"):
        return
    settings = {**data.settings(), "devices": trainer.world_size}
    for key, was in held.items():
        now = settings.get(key)
        if not _differ(was, now) or not (key in FIXED_DATA or progress.batches):
            continue
        name = name_of(trainer if key == "devices" else data, key)
        when = "" if key in FIXED_DATA else f" within an epoch, {progress.batches} batches into which the checkpoint stands"
        raise ConfigurationError(f"{name}={now}: the checkpoint was trained with {_said(was)}, which cannot change{when}")
    limit = trainer.limit_train_batches
    if isinstance(limit, int) and limit <= progress.batches > 0:
        stands = f"the checkpoint stands {progress.batches} batches into its epoch; ask for more"
        raise ConfigurationError(f"{name_of(trainer, 'limit_train_batches')}={limit}: {stands}")


class _NothingLeft(ConfigurationError):
    """Training has come to its end."""


def _require_something_left(
    content: Mapping[str, Any], progress: Progress, trainer: L.Trainer, scores_anew: bool, name_of: NameOf
) -> None:
    if getattr(trainer, "fast_dev_run", False):
        tries = "tries the first steps of a training; leave ckpt_path out"
        raise ConfigurationError(f"{name_of(trainer, 'fast_dev_run')}: {tries}")
    done = "so nothing is left to train; ask for"
    for key, limit, trained in (("epochs", trainer.max_epochs, progress.epochs), ("steps", trainer.max_steps, progress.steps)):
        if limit not in (None, -1) and trained >= limit:
            name = name_of(trainer, f"max_{key}")
            raise _NothingLeft(f"{name}={limit}: the checkpoint has trained {trained} {key}, {done} more {key}")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = content["callbacks"].get(callback.state_key, {})
        allowed = allowed_seconds(callback) if isinstance(callback, Timer) else None
        if allowed is not None:
            taken = state.get("time_elapsed", {}).get(RunningStage.TRAINING.value, 0.0)
            if taken >= allowed:
                raise _NothingLeft(
                    f"{name_of(trainer, 'max_time')}: {allowed:.0f} seconds are for the whole training, which has taken "
                    f"{taken:.0f} up to the checkpoint, {done} more time"
                )
        judges = isinstance(callback, EarlyStopping) and not scores_anew and _may_stop(progress, trainer)
        if judges and state.get("wait_count", 0) >= callback.patience:
            raise _NothingLeft(
                f"{name_of(callback, 'patience')}={callback.patience}: {callback.monitor} has not improved for "
                f"{_said(state['wait_count'])} validations up to the checkpoint, {done} more patience"
            )


def _may_stop(progress: Progress, trainer: L.Trainer) -> bool:
    """Whether `min_epochs` and `min_steps` have been trained, after which early stopping may end training."""
    return progress.epochs >= (trainer.min_epochs or 0) and progress.steps >= (trainer.min_steps or 0)
