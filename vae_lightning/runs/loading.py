"""Load the model and the data of a run safely: no code of a package that is not trusted is executed."""

import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from omegaconf import DictConfig, OmegaConf

from vae_lightning.arguments import check, parameters, prefixed
from vae_lightning.errors import CheckpointError, ConfigurationError, VAELightningError, one_line
from vae_lightning.machine.checkpoints import read, read_any
from vae_lightning.machine.construction import NoMoreThan, numbers_in
from vae_lightning.machine.pretrained import CONFIG as FOR_OTHERS
from vae_lightning.machine.pretrained import WEIGHTS, read_config, read_pretrained
from vae_lightning.machine.reading import UnfitFile
from vae_lightning.models.base import Module
from vae_lightning.plugins import locate, require_trust, trusting, values_under
from vae_lightning.runs.finding import located
from vae_lightning.runs.layout import CONFIG
from vae_lightning.runs.left_to_data import with_data
from vae_lightning.runs.yaml_files import Unresolved, literal, read_yaml, resolved
from vae_lightning.version import __version__

__all__ = ["LoadedRun", "load", "settings_in"]


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
    """The config that the model was trained with, resolved but for references to other keys of it."""
    digest: str
    """SHA-256 of the weights, which does not depend on the file that holds them."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """What `data.settings()` was in training; empty for data without settings."""
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the model was built with, plain values."""
    data_arguments: Mapping[str, Any] = field(default_factory=dict)
    """What the data module was built with, plain values."""


Class = TypeVar("Class")
PLACES = ("root", "static_root", "path")
"""Arguments of data that say where files lie on this machine."""


def load(folder: Path, checkpoint: Path, data_overrides: dict[str, Any] | None = None, trust: Iterable[str] = ()) -> LoadedRun:
    """Load model and data of a run; only this project, torch and trusted packages are imported, and no pickle is executed.

    The checkpoint is read once: a training that goes on may replace it meanwhile. Data are fetched only to a `root` that is given:
    a run folder does not say where on this machine files are written.

    Args:
        data_overrides: data arguments that say where files lie on this machine: `root`, `static_root`, `path`. For those that are
            not given, a relative path in the run's config is taken from the directory of the training's command.
        trust: packages whose classes the run may name, beside packages that declare the entry point `vae_lightning.plugins`.

    Raises:
        CheckpointError: the folder or checkpoint is damaged, foreign, or from a version that cannot be read, or asks for a package
            that is not trusted.
    """
    for_others = checkpoint.name == WEIGHTS
    plain = _config_for_others(folder) if for_others else _config(folder)
    arguments = _arguments(plain, folder, data_overrides or {})
    with trusting(trust):
        model_class = _class(plain, "model", L.LightningModule, folder)
        data_class = _class(plain, "data", L.LightningDataModule, folder)
        _require_places(data_class, data_overrides or {})
        ours = issubclass(model_class, Module)
        content = read_pretrained(folder) if for_others else (read if ours else read_any)(checkpoint)
        made_by = one_line(str(content.get("vae_lightning", {}).get("version", __version__)), 40)
        other = "" if made_by == __version__ else f" (it was made by vae_lightning {made_by}, this is {__version__})"
        with _said_of(f"{folder / (FOR_OTHERS if for_others else CONFIG)}: its data cannot be built here{other}"):
            check(data_class, arguments, "data")
            with prefixed("data", parameters(data_class)[0]):
                data: Any = data_class(**arguments)
        if isinstance(getattr(data, "fetch", None), bool):
            data.fetch = "root" in (data_overrides or {})
        with _said_of(f"{checkpoint}: its model cannot be built here{other}"):
            model_arguments = _model_arguments(model_class, content, plain, folder, data)
            check(model_class, model_arguments, "model")
            with prefixed("model", parameters(model_class)[0]), NoMoreThan(numbers_in(content["state_dict"])):
                model = model_class(**model_arguments)
            model.load_state_dict(content["state_dict"])
    config = OmegaConf.create(literal(plain))
    place = content.get("global_step", 0), content.get("epoch", 0)
    return LoadedRun(
        folder,
        checkpoint,
        model.eval(),
        data,
        *place,
        config=config,
        digest=_digest(content["state_dict"]),
        trained_on=settings_in(content),
        model_arguments=model_arguments,
        data_arguments=arguments,
    )


def settings_in(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of the data that a training saved in its checkpoint; empty where its data have none."""
    held = (value["settings"] for value in checkpoint.values() if isinstance(value, dict) and "settings" in value)
    return next((settings for settings in held if isinstance(settings, Mapping)), {})


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
        raise CheckpointError(f"{what.partition(': its')[0]}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever the code of a trusted package raises
        reason = f"{error} is missing" if isinstance(error, KeyError) else one_line(error, 300)
        if not isinstance(error, VAELightningError | RuntimeError | KeyError | TypeError | ValueError | AttributeError):
            reason = f"{type(error).__name__}: {reason}"
        raise CheckpointError(f"{what}: {reason}") from error


def _digest(state: dict[str, Any]) -> str:
    """SHA-256 of the names, dtypes, shapes and values of all tensors in `state`."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized:
            file = io.BytesIO()  # the extra state of a module of somebody's own
            torch.save(value, file)
            digest.update(f"{name} ".encode() + file.getvalue())
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = read_yaml(folder / CONFIG, folder)
    except Exception as error:  # yaml has many kinds of error, and all mean the same here
        said = one_line(error, 200) if isinstance(error, UnfitFile) or type(error) is ValueError else type(error).__name__
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({said})") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(group), dict) for group in ("model", "data")):
        raise CheckpointError(f"{folder / CONFIG}: has no model and data, so it is not of a training run")
    return config


def _config_for_others(folder: Path) -> dict[str, Any]:
    """What an exported model says of its model and data."""
    config = read_config(folder)
    if not isinstance(config.get("data"), dict):
        raise CheckpointError(
            f"{folder}: says of no data what it was trained on, so it cannot be evaluated; export a run: vae-export"
        )
    return {"model": config["model"], "data": config["data"]}


def _arguments(config: dict[str, Any], folder: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the run's data; one in `overrides` need not be resolvable from the config on this machine."""
    data = config["data"] | {key: "" if "${" in str(value) else value for key, value in overrides.items()}
    return located(folder, _own_arguments({**config, "data": data}, "data", folder)) | overrides


def _model_arguments(
    model: type[L.LightningModule], content: dict[str, Any], config: dict[str, Any], folder: Path, data: L.LightningDataModule
) -> dict[str, Any]:
    """What builds the run's model: the checkpoint knows it of our own classes, whose names may since have changed.

    A class of somebody else's may have saved none of its arguments, or those of its base alone: the config has the others.
    """
    saved: dict[str, Any] = content.get("hyper_parameters", {})
    if saved and model.__module__.partition(".")[0] == "vae_lightning":
        return saved
    asked = _own_arguments(config, "model", folder)
    known, takes_any = parameters(model)
    if saved and not takes_any:
        asked = {key: value for key, value in asked.items() if key in known}
    return with_data(model, asked | saved, data)


def _own_arguments(config: dict[str, Any], group: str, folder: Path) -> dict[str, Any]:
    """The keys of a group of the config as plain values, without the group's `_target_`."""
    others = {**config, group: {key: value for key, value in config[group].items() if key != "_target_"}}
    try:
        plain = resolved(others, group)
    except Unresolved as error:
        name = error.key.removeprefix("data.")
        moved = f"; where the data lie now: {name}=<folder>" if name != error.key and name in PLACES else ""
        key, message = one_line(error.key, 200), one_line(error, 300)
        raise CheckpointError(f"{folder / CONFIG}: {key} cannot be resolved ({message}){moved}") from None
    return {str(key): value for key, value in plain.items()}


def _class(config: dict[str, Any], group: str, base: type[Class], folder: Path) -> type[Class]:
    """The class that `config` names, if it is of the right kind and its package is trusted."""
    for _, target in values_under(config[group]):
        require_trust(str(target), f"{folder}: its {group}._target_={one_line(str(target), 200)}")
    target = one_line(str(config[group].get("_target_")), 200)
    try:
        named = locate(target, f"{folder}: its {group}._target_")
    except ConfigurationError as error:
        raise CheckpointError(str(error)) from error
    if not (isinstance(named, type) and issubclass(named, base)):
        raise CheckpointError(f"{folder}: its {group}._target_={target}: is not a {base.__name__}; refused")
    return named
