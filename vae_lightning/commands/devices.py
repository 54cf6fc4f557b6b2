"""Translate `trainer.gpus` into Lightning's accelerator and devices."""

from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vae_lightning.arguments import require
from vae_lightning.errors import ConfigurationError

__all__ = ["devices_of"]


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


def _in_a_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
