"""Loading the model and the data of a run safely: no code of a package that is not trusted is executed."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.arguments import check, parameters, prefixed
from vae_lightning.errors import CheckpointError, ConfigurationError, VAELightningError, one_line
from vae_lightning.machine.checkpoints import read, read_any
from vae_lightning.models.base import Module
from vae_lightning.plugins import locate, require_trust, trusting
from vae_lightning.runs.finding import located
from vae_lightning.runs.layout import CONFIG
from vae_lightning.version import __version__

__all__ = ["LoadedRun", "load", "settings_in"]


@dataclass(frozen=True)
class LoadedRun:
    """A run as it was, ready to be evaluated."""

    folder: Path
    """The run folder."""
    checkpoint: Path
    """The file the weights are from."""
    model: L.LightningModule
    """In evaluation mode, on the CPU."""
    data: L.LightningDataModule
    """Not yet set up."""
    step: int
    """The optimizer step that the weights are of."""
    epoch: int
    """The epoch of that step, counted from 0."""
    config: DictConfig
    """What was asked for when it was trained."""
    digest: str
    """SHA-256 of the weights, whatever file they are in."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """What `data.settings()` was in training; empty where the data have none."""


Class = TypeVar("Class")
PLACES = ("root", "static_root", "path")
"""Arguments of data that say where files lie on this machine."""


def load(folder: Path, checkpoint: Path, data_overrides: dict[str, Any] | None = None, trust: Iterable[str] = ()) -> LoadedRun:
    """Load model and data of a run. Nothing outside this project, torch and what is trusted is imported, and no pickle is executed.

    The checkpoint is read once: a training that goes on may replace it meanwhile.

    Args:
        data_overrides: data arguments that say where files lie on this machine: `root`, `static_root`, `path`. A relative path of
            the run's own means the directory of its training's command.
        trust: packages whose code the run's model, its parts and its data may be of, beside those that declare the entry point
            `vae_lightning.plugins`.

    Raises:
        CheckpointError: the folder or checkpoint is damaged, foreign, or from a version that cannot be read, or asks for a package
            that is not trusted.
    """
    config = _config(folder)
    arguments = _arguments(config, folder, data_overrides or {})
    with trusting(trust):
        model_class = _class(config, "model", L.LightningModule, folder)
        data_class = _class(config, "data", L.LightningDataModule, folder)
        _require_places(data_class, data_overrides or {})
        ours = issubclass(model_class, Module)
        content = (read if ours else read_any)(checkpoint)
        made_by = content.get("vae_lightning", {}).get("version", __version__)
        other = "" if made_by == __version__ else f" (it was made by vae_lightning {made_by}, this is {__version__})"
        with _said_of(f"{checkpoint}: its model cannot be built here{other}"), prefixed("model", parameters(model_class)[0]):
            # a model of somebody else's may not have saved its arguments
            model_arguments = content.get("hyper_parameters") or _own_arguments(config, "model", folder)
            check(model_class, model_arguments, "model")
            model = model_class(**model_arguments)
            model.load_state_dict(content["state_dict"])
        with _said_of(f"{folder / CONFIG}: its data cannot be built here{other}"), prefixed("data", parameters(data_class)[0]):
            check(data_class, arguments, "data")
            data = data_class(**arguments)
    place = content.get("global_step", 0), content.get("epoch", 0)
    return LoadedRun(folder, checkpoint, model.eval(), data, *place, config, _digest(content["state_dict"]), settings_in(content))


def settings_in(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the data that a training saved in its checkpoint; empty where its data have none."""
    held = (value["settings"] for value in checkpoint.values() if isinstance(value, dict) and "settings" in value)
    return next(held, {})


def _require_places(data_class: type, places: Mapping[str, Any]) -> None:
    """Refuse to be told where files lie that data of this class do not have."""
    known, takes_any = parameters(data_class)
    for key, value in places.items():
        if key not in known and not takes_any:
            others = " or ".join(f"{name}=" for name in PLACES if name in known)
            hint = f"where they lie is said with {others}" if others else "they lie in no folder"
            raise ConfigurationError(f"{key}={value}: the run's data are a {data_class.__name__}, which has no {key}; {hint}")


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
    """SHA-256 of names, types, shapes and values."""
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
    """The arguments of the run's data; what `overrides` says need not be known on this machine any more."""
    known = config.copy()
    for key, value in overrides.items():
        OmegaConf.update(known, f"data.{key}", value, force_add=True)
    return located(folder, _own_arguments(known, "data", folder)) | overrides


def _own_arguments(config: DictConfig, group: str, folder: Path) -> dict[str, Any]:
    """The keys of a group as plain values, without its `_target_`."""
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
    """The class that `config` names, if it is of the right kind and its package is trusted."""
    for target in _targets(config[group]):
        require_trust(target, f"{folder}: its {group}._target_={target}")
    target = str(config[group].get("_target_"))
    try:
        found = locate(target, f"{folder}: its {group}._target_")
    except ConfigurationError as error:
        raise CheckpointError(str(error)) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise CheckpointError(f"{folder}: its {group}._target_={target}: is not a {base.__name__}; refused")
    return found


def _targets(node: Any) -> list[str]:
    if isinstance(node, DictConfig):
        own = [str(node._get_node("_target_"))] if "_target_" in node else []
        return own + [t for key in node if not OmegaConf.is_interpolation(node, str(key)) for t in _targets(node[key])]
    if OmegaConf.is_list(node):
        return [t for item in node for t in _targets(item)]
    return []
