"""Whether this process is a whole training or one of several processes of a training.

Lightning takes the process's rank from environment variables such as RANK and SLURM_PROCID. These variables are also set around a
training on one device that is no rank of anything: in the shell of an allocation, in a pod, in a notebook on a cluster. Lightning
would then take the training for a later rank, which neither logs nor saves.
"""

import os
from collections.abc import Mapping
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only

from vae_lightning.errors import ConfigurationError

__all__ = ["is_alone", "own_environment", "started_by"]


def is_alone(arguments: Mapping[str, Any]) -> bool:
    """Whether these arguments of Lightning's Trainer ask for one device of one machine."""
    devices = arguments.get("devices", "auto")
    one = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    return arguments.get("num_nodes", 1) == 1 and (one or (devices == "auto" and arguments.get("accelerator") == "cpu"))


def own_environment(arguments: Mapping[str, Any]) -> list[ClusterEnvironment]:
    """Lightning's plugin that makes a training on one device a process of rank 0; none for a training on several devices.

    Raises:
        ConfigurationError: a launcher started several processes for a training on one device.
    """
    if not is_alone(arguments):
        return []
    launcher, count = started_by()
    if count > 1:
        raise ConfigurationError(
            f"devices: {launcher} started {count} processes and one device was asked for: each would train the same; "
            f"give devices={count}, or start one process"
        )
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    return [LightningEnvironment()]


def started_by() -> tuple[str, int]:
    """What started this process, "torchrun" or "srun", and how many of its kind; ("", 1) if it is alone."""
    for launcher, count in (("torchrun", _started_by_torchrun()), ("srun", _started_by_srun())):
        if count > 1:
            return launcher, count
    return "", 1


def _started_by_torchrun() -> int:
    return _number("WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else 1


def _started_by_srun() -> int:
    # SLURM_NTASKS is set in the shell of an allocation too, where one process was started
    return _number("SLURM_STEP_NUM_TASKS") if "SLURM_PROCID" in os.environ else 1


def _number(variable: str) -> int:
    value = os.environ.get(variable, "1")
    return int(value) if value.isdigit() else 1
