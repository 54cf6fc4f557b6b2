"""The moment of a command that several processes are: `${now:...}`, and so the run folder, is the same in all of them.

Hydra composes a config in each process of a training. Processes that Lightning starts inherit the first one's moment by an
environment variable; those that torchrun, srun or the user has started on each machine ask rank 0 for it, by torch's own store at
the address where they will meet to train.
"""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.devices import devices_of
from vae_lightning.commands.job import note_start, started_with
from vae_lightning.errors import ConfigurationError, one_line
from vae_lightning.machine.processes import is_alone

__all__ = ["agree_on_now"]

WAIT = timedelta(minutes=5)
"""How long a process waits for rank 0, which another machine may start later."""
KEY = "vae_lightning/now"
LAST_PORT = 65535

_stores: list[Any] = []
"""Rank 0 serves the moment until it ends."""


def agree_on_now(config: DictConfig) -> None:
    """Have `${now:...}` be the same in all processes of the training of `config`; nothing changes where one process trains.

    Raises:
        ConfigurationError: rank 0 cannot be reached, or a setting of the devices is wrong.
    """
    trainer = config.get("trainer")
    if trainer is None or is_alone({**trainer, **devices_of(trainer)}):
        return
    started = started_with() or _agreed(datetime.now().isoformat(), trainer.num_nodes)
    note_start(started)
    moment = datetime.fromisoformat(started)
    OmegaConf.register_new_resolver("now", lambda pattern: moment.strftime(pattern), use_cache=True, replace=True)


def _agreed(now: str, machines: int) -> str:
    """What rank 0 has given for `now`, of processes that Lightning has not started."""
    place = _meeting(os.environ, machines)
    if place is None:
        return now
    address, port, rank = place
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)  # torchrun itself serves then
    try:
        store = TCPStore(
            address, port, is_master=rank == 0 and not agent, timeout=WAIT, wait_for_workers=False, multi_tenant=not agent
        )
        if rank == 0:
            store.set(KEY, now)
            _stores.append(store)
            return now
        return str(store.get(KEY).decode())
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"trainer.num_nodes: the first process of this training cannot be reached at {address}:{port} (MASTER_ADDR, "
            f"MASTER_PORT): {one_line(error, 160)}"
        ) from error


def _meeting(environment: Mapping[str, str], machines: int) -> tuple[str, int, int] | None:
    """Where processes meet that were not started by Lightning, and which of them this is; None if this is the only one.

    >>> _meeting({"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}, 2)
    ('10.0.0.1', 29500, 1)
    >>> _meeting({"RANK": "3"}, 1) is None
    True

    Raises:
        ConfigurationError: `MASTER_PORT` is no port, or a machine that the user has started has no number below `machines`.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        rank = environment.get("RANK", "0")
    elif "SLURM_PROCID" in environment and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        return slurm.main_address, slurm.main_port, slurm.global_rank()
    elif machines > 1 and environment.get("LOCAL_RANK", "0") == "0":
        rank = environment.get("NODE_RANK", environment.get("GROUP_RANK", "0"))
        if not (rank.isdecimal() and int(rank) < machines):
            raise ConfigurationError(f"NODE_RANK={rank}: must be 0 to {machines - 1}, as trainer.num_nodes={machines}")
    else:
        return None
    if not {"MASTER_ADDR", "MASTER_PORT"} <= environment.keys() or not rank.isdigit():
        return None
    port = environment["MASTER_PORT"]
    if not (port.isdecimal() and 0 < int(port) <= LAST_PORT):
        raise ConfigurationError(f"MASTER_PORT={port}: must be a port, 1 to {LAST_PORT}")
    return environment["MASTER_ADDR"], int(port), int(rank)
