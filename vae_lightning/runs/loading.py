"""Load the model and the data of a run safely: no code of a package that is not trusted is executed."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.arguments import check, prefixed
from vae_lightning.errors import CheckpointError, ConfigurationError, VAELightningError, one_line
from vae_lightning.machine.checkpoints import read, read_any
from vae_lightning.models.base import Module
from vae_lightning.plugins import locate, require_trust, trusting
from vae_lightning.runs.finding import located
from vae_lightning.runs.layout import CONFIG
from vae_lightning.version import __version__

__all__ = ["LoadedRun", "load"]


@dataclass(frozen=True)
class LoadedRun:
    """The model, the data and the config of a finished training, ready to be evaluated."""

    folder: Path
    """The run folder."""
    checkpoint: Path
    """The file that the weights were read from."""
    model: L.LightningModule
    """The model with these weights, in evaluation mode, on the CPU."""
    data: L.LightningDataModule
    """The data module of the training, on which `setup` has not been called yet."""
    step: int
    """The optimizer step that the weights are of."""
    epoch: int
    """The epoch of that step, counted from 0."""
    config: DictConfig
    """The resolved config that the model was trained with."""
    digest: str
    """SHA-256 of the weights, which does not depend on the file that holds them."""


Class = TypeVar("Class")


def load(folder: Path, checkpoint: Path, data_overrides: dict[str, Any] | None = None, trust: Iterable[str] = ()) -> LoadedRun:
    """Load model and data of a run; only this project, torch and trusted packages are imported, and no pickle is executed.

    The checkpoint file is read once, because a training that still goes on may replace the file meanwhile.

    Args:
        data_overrides: data arguments that say where files lie on this machine: `root`, `static_root`, `path`. For those that are
            not given, a relative path in the run's config is taken from the directory of the training's command.
        trust: packages whose classes the run may name, beside packages that declare the entry point `vae_lightning.plugins`.

    Raises:
        CheckpointError: the folder or checkpoint is damaged, foreign, or from a version that cannot be read, or asks for a package
            that is not trusted.
    """
    config = _config(folder)
    arguments = _arguments(config, folder, data_overrides or {})
    with trusting(trust):
        model_class = _class(config, "model", L.LightningModule, folder)
        data_class = _class(config, "data", L.LightningDataModule, folder)
        ours = issubclass(model_class, Module)
        content = (read if ours else read_any)(checkpoint)
        made_by = content.get("vae_lightning", {}).get("version", __version__)
        other = "" if made_by == __version__ else f" (it was made by vae_lightning {made_by}, this is {__version__})"
        with _said_of(f"{checkpoint}: its model cannot be built here{other}"):
            # a user's model may not have saved its arguments in the checkpoint
            model_arguments = content.get("hyper_parameters") or _own_arguments(config, "model", folder)
            check(model_class, model_arguments, "model")
            with prefixed("model", model_arguments):
                model = model_class(**model_arguments)
            model.load_state_dict(content["state_dict"])
        with _said_of(f"{folder / CONFIG}: its data cannot be built here{other}"):
            check(data_class, arguments, "data")
            with prefixed("data", arguments):
                data = data_class(**arguments)
    place = content.get("global_step", 0), content.get("epoch", 0)
    return LoadedRun(folder, checkpoint, model.eval(), data, *place, config, _digest(content["state_dict"]))


@contextlib.contextmanager
def _said_of(what: str) -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{what.partition(':')[0]}: {error}") from error
    except (VAELightningError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else one_line(error, 300)
        raise CheckpointError(f"{what}: {reason}") from error


def _digest(state: dict[str, Any]) -> str:
    """SHA-256 of the names, dtypes, shapes and values of all tensors in `state`."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _config(folder: Path) -> DictConfig:
    try:
        config = OmegaConf.load(folder / CONFIG)
    except Exception as error:  # yaml has many kinds of error, and all mean the same here
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({type(error).__name__})") from error
    if not isinstance(config, DictConfig) or "model" not in config or "data" not in config:
        raise CheckpointError(f"{folder / CONFIG}: has no model and data, so it is not of a training run")
    return config


def _arguments(config: DictConfig, folder: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the run's data; one in `overrides` need not be resolvable from the config on this machine."""
    known = config.copy()
    for key, value in overrides.items():
        OmegaConf.update(known, f"data.{key}", value, force_add=True)
    return located(folder, _own_arguments(known, "data", folder)) | overrides


def _own_arguments(config: DictConfig, group: str, folder: Path) -> dict[str, Any]:
    """The keys of a group of the config as plain values, without the group's `_target_`."""
    try:
        plain = OmegaConf.to_container(config[group], resolve=True)
    except OmegaConfBaseException as error:
        key, message = str(error.full_key or group), one_line(error.msg or error)
        name = key.removeprefix("data.")
        moved = f"; where the data lie now: {name}=<folder>" if key in ("data.root", "data.static_root", "data.path") else ""
        raise CheckpointError(f"{folder / CONFIG}: {key} cannot be resolved ({message}){moved}") from None
    if not isinstance(plain, dict):
        raise CheckpointError(f"{folder / CONFIG}: its {group} is not a group of keys")
    return {str(key): value for key, value in plain.items() if key != "_target_"}


def _class(config: DictConfig, group: str, base: type[Class], folder: Path) -> type[Class]:
    """The class that `config` names for `group`, if it is a subclass of `base` and its package is trusted."""
    for target in _targets(config[group]):
        require_trust(target, f"{folder}: its {group}._target_={target}")
    target = str(config[group].get("_target_"))
    try:
        named = locate(target, f"{folder}: its {group}._target_")
    except ConfigurationError as error:
        raise CheckpointError(str(error)) from error
    if not (isinstance(named, type) and issubclass(named, base)):
        raise CheckpointError(f"{folder}: its {group}._target_={target}: is not a {base.__name__}; refused")
    return named


def _targets(node: Any) -> list[str]:
    if isinstance(node, DictConfig):
        here = [str(node._get_node("_target_"))] if "_target_" in node else []
        return here + [t for key in node if not OmegaConf.is_interpolation(node, str(key)) for t in _targets(node[key])]
    if OmegaConf.is_list(node):
        return [t for item in node for t in _targets(item)]
    return []
