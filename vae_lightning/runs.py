"""A run folder: what is written into one, how to find one, and how to load the model and data of one safely.

outputs/<name>/<time>/
    .hydra/config.yaml        what was asked
    checkpoints/best.ckpt     the weights that were best on validation; last.ckpt: where training stands
    tensorboard/              scalars
    metrics.json              what came out, with provenance
    animation/                frames of the training, if they were asked for
    evaluation/               what evaluate.py found: report.json, report.md, report.html, figures/
"""

import contextlib
import csv
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from vae_lightning import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import pytorch_lightning as L  # isort: skip
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from vae_lightning.arguments import check
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.models.base import CHECKPOINT_FORMAT, Module
from vae_lightning.shell import script, shell_quoted
from vae_lightning.storage import write_bytes
from vae_lightning.version import __version__

__all__ = ["LoadedRun", "asked_with", "discard_unused", "find", "history", "load", "provenance", "record", "write_json"]

CONFIG = Path(".hydra", "config.yaml")
TRUSTED = ("vae_lightning", "torch")
"""Packages whose classes a run folder may name: loading a folder from somebody else must not run their code."""
VERSIONS = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


# ---- writing


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content`, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def discard_unused(folder: Path) -> None:
    """Remove the folder that Hydra made for a run that was refused, if there is nothing in it but Hydra's own files."""
    known = {".hydra", "train.log"}
    if folder.is_dir() and (folder / CONFIG).is_file() and {path.name for path in folder.iterdir()} <= known:
        shutil.rmtree(folder, ignore_errors=True)


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
        return "vae_lightning.training.train"
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


# ---- finding


def find(run: str | None, ckpt_path: str | None, outputs: str | Path = "outputs", key: str = "run") -> tuple[Path, Path]:
    """The run folder and the checkpoint that `run` (a folder, or "latest") or `ckpt_path` names.

    `key` is what the user calls `run`, for the errors.
    """
    if (run is None) == (ckpt_path is None):
        raise ConfigurationError("run: give either run=<folder>, run=latest or ckpt_path=<file>")
    if ckpt_path is not None:
        checkpoint = Path(ckpt_path)
        if not checkpoint.is_file():
            raise CheckpointError(f"ckpt_path={ckpt_path}: there is no such file")
        for folder in checkpoint.resolve().parents:
            if (folder / CONFIG).is_file():
                return folder, checkpoint
        raise CheckpointError(f"ckpt_path={ckpt_path}: is not in a run folder (none above it has {CONFIG})")
    folder = latest(outputs) if run == "latest" else Path(str(run))
    if not folder.is_dir():
        raise CheckpointError(f"{key}={run}: there is no such folder")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{key}={run}: is not a run folder (it has no {CONFIG})")
    for name in ("best", "last"):
        checkpoint = folder / "checkpoints" / f"{name}.ckpt"
        if checkpoint.is_file():
            return folder, checkpoint
    raise CheckpointError(f"{key}={run}: has no checkpoint (no checkpoints/best.ckpt or last.ckpt); train it first")


def latest(outputs: str | Path) -> Path:
    """The run folder below `outputs` whose checkpoint is newest."""
    checkpoints = sorted(Path(outputs).glob("**/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not checkpoints:
        raise CheckpointError(f"run=latest: there is no run with a checkpoint below {outputs}; train one first: python train.py")
    return checkpoints[-1].parent.parent


# ---- what was written


def history(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Optimizer steps and values of each metric that the training in `folder` logged; empty if it has no log that is known."""
    rows = _from_tensorboard(folder / "tensorboard") or _from_csv(folder / "csv" / "metrics.csv")
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

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged ({error}); remove it, the run can do without") from error
    return content if isinstance(content, dict) else {}


def asked_with(folder: Path) -> str | None:
    """The command line that started the run in `folder`, also of one that did not end; None if it was not the command line."""
    path = folder / ".hydra" / "overrides.yaml"
    overrides = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else None
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
    return {key: [(event.step, event.value) for event in events.Scalars(key)] for key in events.Tags()["scalars"]}


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


Class = TypeVar("Class")


def load(folder: Path, checkpoint: Path, data_overrides: dict[str, Any] | None = None) -> LoadedRun:
    """Load model and data of a run. Nothing outside this project and torch is imported, and no pickle is executed.

    Args:
        data_overrides: data arguments that say where files lie on this machine: `root`, `static_root`.

    Raises:
        CheckpointError: the folder or checkpoint is damaged, foreign, or from a version that cannot be read.
    """
    config = _config(folder)
    content = _checkpoint(checkpoint)
    model_class = _trusted(config, "model", Module, folder)
    data_class = _trusted(config, "data", L.LightningDataModule, folder)
    made_by = f"made by vae_lightning {content['vae_lightning'].get('version')}, this is {__version__}"
    try:
        check(model_class, content["hyper_parameters"], "model")
        model = model_class(**content["hyper_parameters"])
        model.load_state_dict(content["state_dict"])
        arguments = {**_arguments(config, "data"), **(data_overrides or {})}
        check(data_class, arguments, "data")
        data = data_class(**arguments)
    except (ConfigurationError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint}: does not fit this version ({made_by}): {' '.join(str(error).split())[:300]}"
        ) from error
    return LoadedRun(folder, checkpoint, model.eval(), data, content.get("global_step", 0), content.get("epoch", 0), config)


def _config(folder: Path) -> DictConfig:
    try:
        config = OmegaConf.load(folder / CONFIG)
    except Exception as error:  # yaml has many kinds of error, and all mean the same here
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({type(error).__name__})") from error
    if not isinstance(config, DictConfig) or "model" not in config or "data" not in config:
        raise CheckpointError(f"{folder / CONFIG}: has no model and data, so it is not of a training run")
    return config


def _arguments(config: DictConfig, group: str) -> dict[str, Any]:
    try:
        plain = OmegaConf.to_container(config[group], resolve=True)
    except OmegaConfBaseException as error:
        raise CheckpointError(f"{CONFIG}: {group} cannot be resolved ({' '.join(str(error).split())})") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key != "_target_"}


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in many ways
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: is damaged, or holds more than weights and plain values ({reason})") from error
    if not isinstance(content, dict) or "vae_lightning" not in content or "hyper_parameters" not in content:
        raise CheckpointError(f"{path}: is not a checkpoint of this project")
    found = content["vae_lightning"].get("format")
    if found != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path}: has checkpoint format {found}, this version reads {CHECKPOINT_FORMAT}; evaluate it with "
            f"vae_lightning {content['vae_lightning'].get('version')}, which made it"
        )
    return content


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
