"""A Slurm of one node on this machine, for tests: `slurmctld`, `slurmd` and `munged` as Debian and Ubuntu package them."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTS = ("munged", "slurmctld", "slurmd", "srun")
CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=30
NodeName={host} CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    absent = [part for part in PARTS if shutil.which(part) is None]
    if absent:
        return f"{', '.join(absent)} missing: apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "slurmd needs root"


class DoesNotStartError(Exception):
    """Slurm is installed here, and this machine does not let it run."""


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A block with a Slurm, whose files are in `folder`; gives the environment variables of those who use it.

    Raises:
        DoesNotStartError: a part of it does not come up.
    """
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=folder, ports=_free_ports(2)))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{name}={folder / 'munge' / file}" for name, file in munge.items()]
    try:
        for words in (["munged", "--force", *options], ["slurmctld", "-c"], ["slurmd"]):
            started = subprocess.run(words, env=environment, check=False, capture_output=True, text=True, timeout=60)
            if started.returncode:
                raise DoesNotStartError(f"{words[0]} ends with status {started.returncode}: {started.stderr[-300:].strip()}")
        _wait_for_the_node(environment)
        yield environment
    finally:
        for file in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            _end(folder / file)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _wait_for_the_node(environment: dict[str, str]) -> None:
    until = time.monotonic() + 60
    while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout:
        if time.monotonic() > until:
            raise DoesNotStartError("its node does not come up within a minute")
        time.sleep(0.5)


def _end(file: Path) -> None:
    with suppress(OSError, ValueError):
        number = int(file.read_text())
        os.kill(number, signal.SIGTERM)
        for _ in range(100):
            os.kill(number, 0)
            time.sleep(0.1)
        os.kill(number, signal.SIGKILL)
