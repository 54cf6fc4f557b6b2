"""Where the processes that train one model meet: those of one machine on loopback, where no other machine reaches them.

Left alone, torch's store listens on every network interface, and gloo and NCCL on the first one that is not loopback; none asks
who it is that connects. Those of several machines meet where the environment says; if it does not, none would ever find another.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as L
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.lightning import meets_at, spawns

__all__ = ["on_loopback", "require_meeting_place"]

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
"""Environment variables with the network interface that processes exchange gradients through."""
PLACE = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""Environment variables with the address of the first machine, a port of it, and which machine this one is, from 0 on."""
_stores: list[object] = []
"""Stores of this process, which others need until they end."""


def require_meeting_place(trainer: L.Trainer) -> None:
    """Refuse a training on several machines that nobody has told where to meet, by a cluster, torchrun or the environment.

    The first of machines that are started by hand says that it waits for the others.

    Raises:
        ConfigurationError: names the environment variables that are missing.

    >>> require_meeting_place(L.Trainer(logger=False, accelerator="cpu"))  # one machine
    """
    if trainer.num_nodes == 1 or type(_environment(trainer)) is not LightningEnvironment:
        return
    given = os.environ.keys() | ({"NODE_RANK"} if "GROUP_RANK" in os.environ else set())  # Lightning takes both names
    missing = [name for name in PLACE if name not in given]
    if missing:
        raise ConfigurationError(
            f"trainer.num_nodes={trainer.num_nodes}: the machines cannot find each other, as {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not in the environment; start the same command on each of them by srun or "
            "torchrun, or with MASTER_ADDR=<the first machine> MASTER_PORT=29500 NODE_RANK=<0, 1, ...>"
        )
    if trainer.is_global_zero:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        log.warning("waits for the other machines of trainer.num_nodes=%d at %s", trainer.num_nodes, place)


@contextmanager
def on_loopback(trainer: L.Trainer) -> Iterator[None]:
    """A block in which the processes that `trainer` starts, if it does, find each other and exchange gradients through loopback.

    Those that torchrun, a cluster or a user starts, or whose meeting place is in the environment (`MASTER_ADDR`,
    `MASTER_PORT`), meet where they are told to.

    >>> with on_loopback(L.Trainer(logger=False, accelerator="cpu")):  # one process meets nobody
    ...     os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    """
    told = {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} & os.environ.keys()
    environment = _environment(trainer)
    if trainer.num_nodes > 1 or trainer.num_devices < 2 or type(environment) is not LightningEnvironment or told:
        yield
        return
    store = _store()
    if not spawns(trainer):
        _stores.append(store)
    meets_at(environment, store.port)
    # torchrun's word to its processes: rank 0 is to open no store, as there is one
    words = {"TORCHELASTIC_USE_AGENT_STORE": "True"} | dict.fromkeys(INTERFACES, _interface())
    added = {name: value for name, value in words.items() if value and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        if spawns(trainer):  # the next processes meet at a place of their own
            for name in ("MASTER_ADDR", "MASTER_PORT"):
                os.environ.pop(name, None)


def _environment(trainer: L.Trainer) -> object:
    """What tells Lightning of the other processes; None where there are none."""
    return getattr(trainer.strategy, "cluster_environment", None)


def _store() -> TCPStore:
    """A store that listens on loopback, at a port that was free."""
    door = socket.socket()
    door.bind((LOOPBACK, 0))
    door.listen()
    port = door.getsockname()[1]
    return TCPStore(LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=door.detach())


def _interface() -> str | None:
    """The name of the loopback interface; None where it is called neither as on Linux nor as on macOS."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
