"""Translate `trainer.gpus` into Lightning's accelerator and devices."""

from collections.abc import Sequence
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vae_lightning.arguments import require
from vae_lightning.errors import ConfigurationError

__all__ = ["devices_of", "gpu_places", "gpus_of"]


def devices_of(trainer: DictConfig) -> dict[str, Any]:
    """Lightning's `accelerator` and `devices` for the setting `trainer.gpus`.

    Raises:
        ConfigurationError: there are not so many GPUs, or the setting contradicts another one.
    """
    gpus = trainer.gpus
    asked = {key: trainer[key] for key in ("accelerator", "devices") if trainer[key] != "auto"}
    if asked:
        if gpus != "auto":
            raise ConfigurationError(f"trainer.gpus={gpus}: give either it or trainer.{next(iter(asked))}, not both")
        return asked
    available = torch.cuda.device_count()
    if gpus == "auto":
        gpus = min(available, 1)
    require(gpus >= -1, "trainer.gpus", gpus, "auto, 0 (CPU), a number of GPUs, or -1 (all)")
    if gpus == 0:
        return {"accelerator": "cpu", "devices": 1}
    if available < max(gpus, 1):
        has = f"only {available} GPU(s)" if available else "no GPU that torch can use"
        raise ConfigurationError(f"trainer.gpus={gpus}: this machine has {has}; to run on the CPU: trainer.gpus=0")
    count = available if gpus == -1 else gpus
    return {"accelerator": "cuda", "devices": count}


def gpus_of(trainer: DictConfig) -> int:
    """How many of the GPUs that it may use a training takes; 0 if it runs on something else.

    Raises:
        ConfigurationError: as `devices_of`.
    """
    asked = devices_of(trainer)
    accelerator, devices = asked.get("accelerator", "auto"), asked.get("devices", "auto")
    available = torch.cuda.device_count()
    if accelerator not in ("auto", "cuda", "gpu"):
        return 0
    # a list names GPUs by their place among all
    count = int(devices) if isinstance(devices, int | str) and str(devices).isdigit() else available
    return min(count, available)


def gpu_places(names: Sequence[str], each: int) -> list[str]:
    """What each of the trainings that run at once is told that it may use, of the GPUs with these names.

    Args:
        each: how many GPUs a training takes.

    >>> gpu_places(["0", "1", "2", "3", "4"], 2), gpu_places(["0", "1"], 0)
    (['0,1', '2,3'], ['0', '1'])
    """
    size = max(each, 1)
    return [",".join(names[start : start + size]) for start in range(0, len(names) - size + 1, size)]


def _in_a_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
