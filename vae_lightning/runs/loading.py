"""A run folder: what is written into one, how to find one, and how to load the model and data of one safely.

outputs/<name>/<time>/
    .hydra/config.yaml        what was asked
    checkpoints/best.ckpt     the weights that were best on validation; last.ckpt: where training stands
    tensorboard/              scalars
    metrics.json              what came out, with provenance
    animation/                frames of the training, if they were asked for
    evaluation/               what evaluate.py found: report.json, report.md, report.html, figures/; see `reports.folder`
"""

import contextlib
import csv
import hashlib
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from vae_lightning.arguments import check
from vae_lightning.errors import CheckpointError, VAELightningError
from vae_lightning.machine.checkpoints import read
from vae_lightning.machine.files import finite, write_bytes
from vae_lightning.machine.shell import script, shell_quoted
from vae_lightning.models.base import Module
from vae_lightning.runs.finding import CONFIG, find, located
from vae_lightning.version import __version__

__all__ = ["LoadedRun", "asked_with", "find", "history", "load", "provenance", "record", "write_json"]

log = logging.getLogger(__name__)

TRUSTED = ("vae_lightning", "torch")
"""Packages whose classes a run folder may name: loading a folder from somebody else must not run their code."""
VERSIONS = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


# ---- writing


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, whole or not at all; null stands for what is not finite, for which JSON has no number."""
    write_bytes(path, (json.dumps(finite(content), indent=2, allow_nan=False) + "\n").encode())


def provenance(seed: int, data_checksums: dict[str, str]) -> dict[str, Any]:
    """What is needed to know where a figure came from, and to make it again."""
    return {
        "command": command(),
        "seed": seed,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "versions": {"python": platform.python_version(), "vae_lightning": __version__, **_versions()},
        "data_checksums": data_checksums,
        "machine": machine(),
    }


def command() -> str:
    """The command line that makes this run, also for one job of a sweep."""
    if not HydraConfig.initialized():
        return "vae_lightning.commands.train.train"
    words = (shell_quoted(word, "utf-8") for word in (script("train.py"), *HydraConfig.get().overrides.task))
    return " ".join(["python", *words])


def machine() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count(), "gpus": gpus}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    """Git's answer about the code that is running; None where it is not in a repository."""
    here = Path(__file__).resolve().parent
    try:
        result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


# ---- what was written


def history(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Optimizer steps and values of each metric that the training in `folder` logged; empty if it has no log that is known.

    A log that is damaged, or somebody else's, is said in a line and left out.
    """
    rows: dict[str, list[tuple[int, float]]] = {}
    for of, path in ((_from_tensorboard, folder / "tensorboard"), (_from_csv, folder / "csv" / "metrics.csv")):
        try:
            rows = rows or of(path)
        except Exception as error:  # each reader has its own errors, and all mean the same here
            log.warning("%s: cannot be read (%s), so no curves of it", path, _one_line(error))
    # after training, the best checkpoint is validated and tested, and logged at the step where training ended
    ends = {step for key, points in rows.items() if key.startswith("test/") for step, _ in points}
    logged: dict[str, tuple[Tensor, Tensor]] = {}
    for key, points in rows.items():
        kept = sorted(point for point in points if point[0] not in ends or not key.startswith("val/"))
        if kept:
            steps, values = zip(*kept, strict=True)
            logged[key] = torch.tensor(steps), torch.tensor(values, dtype=torch.float64)
    return logged


def record(folder: Path) -> dict[str, Any]:
    """The content of `metrics.json` of the run in `folder`; empty if its training did not end.

    A file that is damaged, or somebody else's, is said in a line and left out.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and isinstance(content.get("provenance", {}), dict):
            return content
        reason = "is not a record of this project"
    except (OSError, ValueError, RecursionError) as error:
        reason = f"cannot be read ({_one_line(error)})"
    log.warning("%s: %s, so the report has no provenance", path, reason)
    return {}


def asked_with(folder: Path) -> str | None:
    """The command line that started the run in `folder`, also of one that did not end; None if it was not the command line."""
    path = folder / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return None
    try:
        overrides = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # yaml has many kinds of error, and all mean the same here
        log.warning("%s: cannot be read (%s), so the report has no command", path, _one_line(error))
        return None
    if not isinstance(overrides, list):
        return None
    return " ".join(["python", "train.py", *(shell_quoted(str(word), "utf-8") for word in overrides)])


def _from_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # 0 is all: a run that goes on has several files, and a page of figures wants every point
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1, "histograms": 1})
    events.Reload()
    logged = {key: [(event.step, event.value) for event in events.Scalars(key)] for key in events.Tags()["scalars"]}
    if not logged:  # the reader says nothing of a file that it cannot read
        raise ValueError("its event files hold no metric")
    return logged


def _from_csv(path: Path) -> dict[str, list[tuple[int, float]]]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    logged: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for key, value in row.items():
            with contextlib.suppress(ValueError, TypeError):  # a cell is empty; a killed training left half a line
                logged.setdefault(key, []).append((int(row["step"]), float(value)))
    return logged


# ---- loading


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
        reason = f"{error} is missing" if isinstance(error, KeyError) else _one_line(error)
        raise CheckpointError(f"{what}: {reason}") from error


def _digest(state: dict[str, Any]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


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
