"""Try a step of a model on blank images, before anything is written: whether it runs, and which metrics it will log."""

import copy
import difflib
import re
import sys
import traceback
import warnings
from collections.abc import Mapping

import pytorch_lightning as L
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import BatchSizeFinder, EarlyStopping, LearningRateFinder, ModelCheckpoint

from vae_lightning.arguments import prefixed
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError, VAELightningError, one_line
from vae_lightning.machine.processor import BFLOAT16_IS_SLOW, computes_in_bfloat16
from vae_lightning.models.base import Module
from vae_lightning.noise import Source
from vae_lightning.types import MNIST_SHAPE, LatentVariableModel

__all__ = [
    "check_finders",
    "check_monitors",
    "check_precision",
    "direction",
    "logged_metrics",
    "nearest_metric",
    "rehearse",
    "warn_of_emulation",
]

REFUSED = {
    "16-true": "steps of Adam and likelihoods over hundreds of pixels leave the range of float16",
    "transformer-engine": "its layers are not those of this project's nets",
    "transformer-engine-float16": "its layers are not those of this project's nets",
}
"""Reasons why no model of this project can be trained in some precisions of Lightning's Trainer."""


def check_precision(precision: object) -> None:
    """Refuse a precision in which nothing can be trained, and warn of one that costs accuracy."""
    if precision == "bf16-true":
        warnings.warn(
            "trainer.precision=bf16-true: weights of three digits lose small steps, and the ELBO is nats lower for it; "
            "bf16-mixed computes in bfloat16 too and keeps the weights in float32",
            stacklevel=2,
        )
    if precision in REFUSED:
        works = "32-true, 64-true, bf16-mixed, bf16-true, or on a GPU 16-mixed"
        raise ConfigurationError(f"trainer.precision={precision}: {REFUSED[str(precision)]}; use {works}")


def warn_of_emulation(trainer: L.Trainer) -> None:
    """Warn of a precision that the trainer's processor emulates."""
    halved = str(trainer.precision).startswith("bf16")
    if halved and isinstance(trainer.accelerator, CPUAccelerator) and computes_in_bfloat16() is False:
        warnings.warn(
            f"trainer.precision={trainer.precision}: {BFLOAT16_IS_SLOW}; trainer.precision=32-true avoids it", stacklevel=2
        )


FINDERS = {BatchSizeFinder: "data.batch_size", LearningRateFinder: "model.optimizer.lr"}
"""Lightning's callbacks that change a setting after the run's config was written, and the setting."""


def check_finders(callbacks: Mapping[str, L.Callback]) -> None:
    """Refuse a callback, by its name in the config, under which a run is trained with another setting than its records say."""
    for name, callback in callbacks.items():
        for kind, key in FINDERS.items():
            if isinstance(callback, kind):
                raise ConfigurationError(
                    f"callbacks.{name}: {type(callback).__name__} would train with another {key} than the run's config and "
                    f"checkpoints say; choose {key} by a sweep instead: -m {key}=...,..."
                )


def rehearse(model: Module, trainer: L.Trainer) -> tuple[str, ...] | None:
    """The names of the model's terms, from a pass of two blank images through a copy of the model in the trainer's precision.

    None if a user's model needs its Trainer for such a pass, to log, say.

    Raises:
        ConfigurationError: the model cannot compute in that precision, or its optimizer cannot train its parameters.
    """
    plugin = trainer.precision_plugin
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*`self.trainer` reference is not registered.*")  # nothing is logged here
        copied = plugin.convert_module(copy.deepcopy(model)).eval()
        assert isinstance(copied, Module)
        x, y = torch.zeros(2, *getattr(model, "image_shape", MNIST_SHAPE)), torch.zeros(2, dtype=torch.int64)
        noise = copied.draw_noise(x, Source.of(x, "rehearsal"), training=False)
        try:
            with plugin.forward_context():
                terms = tuple(copied.terms(copied(x, y, noise), x, y, torch.zeros(())))
                if isinstance(copied, LatentVariableModel):
                    _require_samples_of_prior(copied, y)
        except VAELightningError:
            raise
        except Exception as error:
            missing = isinstance(error, NotImplementedError) and bool(str(error))  # a distribution has no samples, say
            if not _is_known(model) and isinstance(error, RuntimeError) and not missing:
                return None
            _refuse_own_part(copied, error)
            if missing:
                raise ConfigurationError(f"model: {one_line(error, 300)}") from error
            if trainer.precision == "32-true" or not isinstance(error, RuntimeError):
                raise
            words = one_line(error, 160)
            raise ConfigurationError(
                f"trainer.precision={trainer.precision}: this model cannot ({words}); use 32-true or bf16-mixed"
            ) from error
        with prefixed("model", ["optimizer", "lr_schedule"]):
            copied.rehearse_optimizer()
            check_schedule(model, terms)
    return terms


def _require_samples_of_prior(model: LatentVariableModel, y: torch.Tensor) -> None:
    """Refuse a prior that cannot be sampled: figures and callbacks do, which a step does not."""
    try:
        from_noise(model.prior(y), torch.zeros(len(y), model.latent_dim))
    except NotImplementedError as error:
        raise ConfigurationError(f"prior: {one_line(error, 300)}") from error


def _refuse_own_part(model: Module, error: Exception) -> None:
    """Say in a line that a part of a user's own cannot compute what it is asked for, if it is one that raised `error`."""
    own = {id(module): name for name, part in model.named_children() for module in part.modules() if not _is_built_in(module)}
    if not _is_built_in(model):
        own[id(model)] = "model"
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    part = next((at for frame in reversed(frames) if id(at := frame.f_locals.get("self")) in own), None)
    if part is not None:
        home = getattr(sys.modules.get(type(part).__module__), "__file__", None)
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == home]
        if part is model and not lines:  # whose own code is not at fault
            return
        place = f" ({home}, line {lines[-1]})" if lines else ""
        shape = tuple(getattr(model, "image_shape", MNIST_SHAPE))
        raise ConfigurationError(
            f"{own[id(part)].removesuffix('_of')}: {type(part).__name__}{place} fails in a step of two images of shape {shape}: "
            f"{type(error).__name__}: {one_line(error, 200)}"
        ) from error


def _is_built_in(part: object) -> bool:
    return type(part).__module__.partition(".")[0] in ("torch", "vae_lightning", "zuko")


def check_schedule(model: Module, terms: tuple[str, ...]) -> None:
    """Refuse a schedule of the learning rate that depends on a metric which no validation logs."""
    metric, known = model.lr_schedule.get("monitor"), [f"val/{name}" for name in terms]
    if metric is not None and _is_known(model) and metric not in known:
        nearest = nearest_metric(str(metric), known)
        hint = f"did you mean {nearest}? " if nearest else ""
        raise ConfigurationError(f"lr_schedule.monitor={metric}: is not logged; {hint}there are: {', '.join(known)}")


def _is_known(part: object) -> bool:
    """Whether it is known what `part` logs, because its class is of this project or of Lightning."""
    return type(part).__module__.partition(".")[0] in ("vae_lightning", "pytorch_lightning")


def logged_metrics(terms: tuple[str, ...]) -> list[str]:
    """Names of the metrics that a training of a model with these terms logs."""
    return [f"{split}/{name}" for split in ("train", "val") for name in terms] + ["train/gradient_norm"]


def direction(metric: str) -> str | None:
    """Which values of a metric are best: the lowest, "min", or the highest, "max"; None if its name does not say."""
    name = metric.rpartition("/")[2]
    if "loss" in name:
        return "min"
    return "max" if any(word in name for word in ("elbo", "bound", "likelihood", "accuracy")) else None


def nearest_metric(name: str, known: list[str]) -> str:
    """The metric in `known` that was probably meant by `name`, `val/loss` by `val_loss`; an empty string if none is near."""
    plain = re.sub(r"\W|_", "", name).lower().replace("test", "val")
    by_plain = {re.sub(r"\W|_", "", metric).lower(): metric for metric in reversed(known)}
    # a bare "elbo" means that of validation
    for candidate in (plain, f"val{plain}", plain.replace("valid", "val").replace("validation", "val")):
        if candidate in by_plain:
            return by_plain[candidate]
    near = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.5)
    return by_plain[near[0]] if near else ""


def check_monitors(
    model: L.LightningModule, callbacks: dict[str, L.Callback], terms: tuple[str, ...] | None, monitor: str | None
) -> None:
    """Refuse a callback that waits for a metric which is never logged.

    Nothing is refused if a user's model or callback may log more than is known.

    Args:
        callbacks: by their names in the config.
        terms: what `rehearse` gives.
        monitor: the config's `monitor`, which is the default of every callback's own `monitor`.
    """
    if terms is None or not all(map(_is_known, (model, *callbacks.values()))):
        return
    known = logged_metrics(terms)
    for name, callback in callbacks.items():
        if not isinstance(callback, EarlyStopping | ModelCheckpoint) or callback.monitor is None:
            continue
        wanted = callback.monitor
        if wanted.startswith("train/") and isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end is False:
            raise ConfigurationError(
                f"callbacks.{name}.monitor={wanted}: is known at the end of an epoch, and looked at after validation, before that; "
                f"give a metric of validation, or callbacks.{name}.check_on_train_epoch_end=true"
            )
        if wanted in known:
            _check_mode(name, callback)
        if wanted in known or (isinstance(callback, ModelCheckpoint) and wanted in ("epoch", "step")):
            continue
        key = "monitor" if wanted == monitor else f"callbacks.{name}.monitor"
        nearest = nearest_metric(wanted, known)
        reason = "is measured after training" if wanted.startswith("test/") else "is not logged"
        hint = f"did you mean {nearest}? " if nearest else ""
        raise ConfigurationError(f"{key}={wanted}: {reason}; {hint}there are: {', '.join(known)}")


def _check_mode(name: str, callback: EarlyStopping | ModelCheckpoint) -> None:
    right = direction(str(callback.monitor))
    if right is not None and callback.mode != right:
        raise ConfigurationError(
            f"callbacks.{name}.mode={callback.mode}: {callback.monitor} is better {'lower' if right == 'min' else 'higher'}; "
            f"give callbacks.{name}.mode={right}"
        )
