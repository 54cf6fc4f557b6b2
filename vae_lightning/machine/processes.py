"""One training or one of several processes of it: what a launcher's environment variables say, and what was asked for.

Lightning takes its rank from variables such as RANK and SLURM_PROCID. They also stand around a training on one device that is
nobody's rank: in the shell of an allocation, in a pod, in a notebook on a cluster. It would then neither log nor save.
"""

import os
from collections.abc import Mapping
from typing import Any

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.rank_zero import rank_zero_only

from vae_lightning.errors import ConfigurationError

__all__ = ["is_alone", "own_environment"]


def is_alone(arguments: Mapping[str, Any]) -> bool:
    """Whether these arguments of Lightning's Trainer ask for one device of one machine."""
    devices = arguments.get("devices", "auto")
    one = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    return arguments.get("num_nodes", 1) == 1 and (one or (devices == "auto" and arguments.get("accelerator") == "cpu"))


def own_environment(arguments: Mapping[str, Any]) -> list[ClusterEnvironment]:
    """What makes a training on one device the only one of its kind; nothing for one on several.

    Raises:
        ConfigurationError: a launcher started several processes for it.
    """
    if not is_alone(arguments):
        return []
    for launcher, count in (("torchrun", _started_by_torchrun()), ("srun", _started_by_srun())):
        if count > 1:
            raise ConfigurationError(
                f"devices: {launcher} started {count} processes and one device was asked for: each would train the same; "
                f"give devices={count}, or start one process"
            )
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    return [LightningEnvironment()]


def _started_by_torchrun() -> int:
    return _number("WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else 1


def _started_by_srun() -> int:
    # that of the job, SLURM_NTASKS, is there in the shell of an allocation too
    return _number("SLURM_STEP_NUM_TASKS") if "SLURM_PROCID" in os.environ else 1


def _number(variable: str) -> int:
    value = os.environ.get(variable, "1")
    return int(value) if value.isdigit() else 1
