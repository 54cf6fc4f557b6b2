"""Loading the model and the data of a run safely: no code that came with a run folder is executed."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_lightning.arguments import check
from vae_lightning.errors import CheckpointError, VAELightningError, one_line
from vae_lightning.machine.checkpoints import read
from vae_lightning.models.base import Module
from vae_lightning.runs.finding import located
from vae_lightning.runs.layout import CONFIG
from vae_lightning.version import __version__

__all__ = ["LoadedRun", "load"]

TRUSTED = ("vae_lightning", "torch")
"""Packages whose classes a run folder may name: loading a folder from somebody else must not run their code."""


@dataclass(frozen=True)
class LoadedRun:
    """A run as it was, ready to be evaluated."""

    folder: Path
    """The run folder."""
    checkpoint: Path
    """The file the weights are from."""
    model: Module
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


Class = TypeVar("Class")


def load(folder: Path, checkpoint: Path, data_overrides: dict[str, Any] | None = None) -> LoadedRun:
    """Load model and data of a run. Nothing outside this project and torch is imported, and no pickle is executed.

    The checkpoint is read once: a training that goes on may replace it meanwhile.

    Args:
        data_overrides: data arguments that say where files lie on this machine: `root`, `static_root`. A relative path of the
            run's own means the directory of its training's command.

    Raises:
        CheckpointError: the folder or checkpoint is damaged, foreign, or from a version that cannot be read.
    """
    config = _config(folder)
    content = read(checkpoint)
    model_class = _trusted(config, "model", Module, folder)
    data_class = _trusted(config, "data", L.LightningDataModule, folder)
    arguments = _arguments(config, folder, data_overrides or {})
    made_by = content["vae_lightning"].get("version")
    other = "" if made_by == __version__ else f" (it was made by vae_lightning {made_by}, this is {__version__})"
    with _said_of(f"{checkpoint}: its model cannot be built here{other}"):
        check(model_class, content["hyper_parameters"], "model")
        model = model_class(**content["hyper_parameters"])
        model.load_state_dict(content["state_dict"])
    with _said_of(f"{folder / CONFIG}: its data cannot be built here{other}"):
        check(data_class, arguments, "data")
        data = data_class(**arguments)
    place = content.get("global_step", 0), content.get("epoch", 0)
    return LoadedRun(folder, checkpoint, model.eval(), data, *place, config, _digest(content["state_dict"]))


@contextlib.contextmanager
def _said_of(what: str) -> Iterator[None]:
    try:
        yield
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
    try:
        plain = OmegaConf.to_container(known.data, resolve=True)
    except OmegaConfBaseException as error:
        key, message = str(error.full_key or "data"), " ".join(str(error.msg or error).split())
        moved = (
            f"; where the data lie now: {key.removeprefix('data.')}=<folder>" if key in ("data.root", "data.static_root") else ""
        )
        raise CheckpointError(f"{folder / CONFIG}: {key} cannot be resolved ({message}){moved}") from None
    if not isinstance(plain, dict):
        raise CheckpointError(f"{folder / CONFIG}: its data is not a group of keys")
    own = {str(key): value for key, value in plain.items() if key != "_target_"}
    return located(folder, own) | overrides


def _trusted(config: DictConfig, group: str, base: type[Class], folder: Path) -> type[Class]:
    """The class that `config` names, if it is of this project or torch and of the right kind."""
    foreign = [t for t in _targets(config[group]) if t.partition(".")[0] not in TRUSTED]
    if foreign:
        raise CheckpointError(
            f"{folder}: its {group} asks for {foreign[0]}, which is outside this project and torch; refused, because loading a run "
            "must not execute foreign code"
        )
    target = config[group].get("_target_")
    try:
        found = get_class(str(target))
    except Exception as error:  # Hydra wraps whatever the import raised
        raise CheckpointError(f"{folder}: its {group} asks for {target}, which this version does not have") from error
    if not issubclass(found, base):
        raise CheckpointError(f"{folder}: its {group} asks for {target}, which is not a {base.__name__}; refused")
    return found


def _targets(node: Any) -> list[str]:
    if isinstance(node, DictConfig):
        own = [str(node._get_node("_target_"))] if "_target_" in node else []
        return own + [t for key in node if not OmegaConf.is_interpolation(node, str(key)) for t in _targets(node[key])]
    if OmegaConf.is_list(node):
        return [t for item in node for t in _targets(item)]
    return []
