"""The two files of a model for others: its weights, which no code is needed to read, and what builds the model.

    model.safetensors    the weights
    config.json          what the model is: its class and arguments; of a run, also its data and where the training stood

Neither can hold code, so a folder of a stranger's is read without running anything of it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError, one_line
from vae_lightning.machine.checkpoints import CHECKPOINT_FORMAT, migrate
from vae_lightning.machine.files import write_bytes, write_json
from vae_lightning.machine.reading import TEXT, content_within, memory, require_inside
from vae_lightning.version import __version__

__all__ = ["CARDS_BEGIN", "CONFIG", "WEIGHTS", "is_pretrained", "read_config", "read_pretrained", "write_pretrained"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARDS_BEGIN = b"---\nlibrary_name: vae_lightning\n"
"""How every card of `vae-export` begins."""
DIGEST = "weights_sha256"
"""The key in `config.json` of the SHA-256 of the weights' file; early folders have none."""
FORMAT = 1
"""The format of `config.json` that this version writes, and the newest that it reads."""


def is_pretrained(folder: Path) -> bool:
    """Whether `folder` holds a model for others."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def write_pretrained(folder: Path, state: Mapping[str, Any], config: Mapping[str, Any], dtype: torch.dtype | None = None) -> None:
    """Write the weights `state` and what builds their model into `folder`.

    Args:
        config: plain values: `model`, its arguments with its import path under `_target_`; anything else that JSON can hold.
        dtype: of weights that are floating-point numbers, in the file; None: their own. A model that is built from it has its own.

    Raises:
        StorageError: the folder cannot be written, or `state` holds more than tensors.
        ConfigurationError: numbers of `state` are too large for `dtype`.
    """
    from safetensors.torch import save

    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise StorageError(f"{folder / WEIGHTS}: holds tensors only, and the model's {others[0]} is none")
    # copies, as the format has no two tensors that share memory
    tensors = {name: _as(value.detach().cpu().clone().contiguous(), dtype) for name, value in state.items()}
    for name, value in tensors.items():
        if value.is_floating_point() and bool((value.isfinite() != state[name].detach().cpu().isfinite()).any()):
            raise ConfigurationError(f"dtype={str(dtype).removeprefix('torch.')}: is too small for numbers in {name}; leave it out")
    weights = save(tensors, metadata={"format": "pt", "vae_lightning": __version__})
    write_bytes(folder / WEIGHTS, weights)
    stamp = {"format": FORMAT, "vae_lightning": __version__, "checkpoint_format": CHECKPOINT_FORMAT}
    write_json(folder / CONFIG, {**stamp, DIGEST: hashlib.sha256(weights).hexdigest(), **config})


def _as(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def read_config(folder: Path, within: Path | None = None) -> dict[str, Any]:
    """What `config.json` of `folder` says, with a `model` in it.

    Args:
        within: what links may lead to, as those of the hub's own copies do; None: the folder alone.

    Raises:
        CheckpointError: it is missing, damaged, of a later version, or not of this project.
    """
    path = folder / CONFIG
    try:
        config = json.loads(content_within(path, TEXT, within or folder))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file, so {folder} holds no model for others") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error, 200)})") from error
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("_target_"), str) or "vae_lightning" not in config:
        raise CheckpointError(f"{path}: says of no model of this project what builds it")
    made_by = one_line(str(config["vae_lightning"]), 40)
    for key, known in (("format", FORMAT), ("checkpoint_format", CHECKPOINT_FORMAT)):
        if type(config.get(key)) is not int or config[key] > known:
            held = one_line(str(config.get(key)), 40)
            raise CheckpointError(f"{path}: has {key} {held}, this version reads {known}; it was made by vae_lightning {made_by}")
    content: dict[str, Any] = config
    return content


def read_pretrained(folder: Path, within: Path | None = None) -> dict[str, Any]:
    """The content of `folder` in the form of a checkpoint: `state_dict`, `hyper_parameters`, `epoch`, `global_step`, ....

    Args:
        within: what links may lead to; None: the folder alone.

    Raises:
        CheckpointError: a file is missing, damaged, too large, or of a later version.
    """
    config = read_config(folder, within)
    training = config.get("training")
    place = training if isinstance(training, dict) else {}
    if any(type(place.get(key, 0)) is not int or not 0 <= place.get(key, 0) < 2**63 for key in ("epoch", "global_step")):
        raise CheckpointError(f"{folder / CONFIG}: its training.epoch and training.global_step must be numbers of at least 0")
    content = {
        "state_dict": _weights(folder, within or folder, config.get(DIGEST)),
        "hyper_parameters": {key: value for key, value in config["model"].items() if key != "_target_"},
        "vae_lightning": {"version": config["vae_lightning"], "format": config["checkpoint_format"]},
        "epoch": place.get("epoch", 0),
        "global_step": place.get("global_step", 0),
        "data": {"settings": place.get("settings")},
    }
    migrate(content)
    return content


def _weights(folder: Path, within: Path, digest: object) -> dict[str, Tensor]:
    """The weights in `folder`, if they are those of the SHA-256 `digest`; None: of a version that noted none."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / WEIGHTS
    try:
        require_inside(path, within)
        if path.exists() and not path.is_file():  # a pipe would keep its reader waiting
            raise CheckpointError(f"{path}: is no file")
        size = path.stat().st_size
        if (most := memory()) is not None and size > most:
            raise CheckpointError(f"{path}: is larger than this machine's memory")
        content = path.read_bytes()
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise CheckpointError(f"{path}: is damaged, or not the file that {CONFIG} was written with; fetch or export both again")
        tensors: dict[str, Tensor] = load(content)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged, or no safetensors file ({one_line(error, 120)})") from error
    return tensors
