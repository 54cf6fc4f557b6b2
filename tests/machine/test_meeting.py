"""`on_loopback`, by real trainings of two processes whose ports are looked at while they train, and `require_meeting_place`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import pytorch_lightning as L

from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.meeting import require_meeting_place

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = [
    *("data=shapes2d", "data.train_size=20", "data.val_size=20", "data.test_size=20", "data.batch_size=10"),
    *("data.eval_batch_size=10", "model.net.hidden=[8]", "model.latent_dim=2", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("trainer.devices=2", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "callbacks=none"),
]
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
"""127.0.0.1, ::1 and ::ffff:127.0.0.1, as the kernel writes them."""
LISTENS = "0A"


def processes(session: int) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield int(path.name)


def doors(process: int) -> set[str]:
    """Addresses that a process listens at, as the kernel writes them."""
    found = set()
    try:
        own = {str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir()}
        for kind in ("tcp", "tcp6"):
            for line in Path(f"/proc/{process}/net/{kind}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENS and f"socket:[{fields[9]}]" in own:
                    found.add(fields[1].partition(":")[0])
    except OSError:  # it has just ended
        pass
    return found


def seen_while_training(folder: Path, *words: str, environment: Mapping[str, str] | None = None) -> set[str]:
    """The addresses that any process of a training of two listened at."""
    line = [sys.executable, str(REPOSITORY / "train.py"), *SHAPES, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    seen = set[str]()
    with (folder / "log.txt").open("w") as log:
        training = subprocess.Popen(line, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
        while training.poll() is None:
            seen |= {address for process in processes(training.pid) for address in doors(process)}
            time.sleep(0.1)
    assert training.returncode == 0, (folder / "log.txt").read_text()
    return seen


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs to know the ports of a process")
@pytest.mark.parametrize("strategy", ["ddp", pytest.param("ddp_spawn", marks=pytest.mark.exhaustive)])
def test_processes_of_one_machine_listen_on_loopback_alone(tmp_path: Path, strategy: str) -> None:
    seen = seen_while_training(tmp_path, f"trainer.strategy={strategy}")
    assert seen, "there is a door"
    assert seen <= LOOPBACK


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs to know the ports of a process")
def test_processes_meet_where_the_environment_says(tmp_path: Path) -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    seen = seen_while_training(tmp_path, environment={"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    assert seen - LOOPBACK, "torch's own store listens on every interface"


def trainer_of(machines: int) -> L.Trainer:
    return L.Trainer(num_nodes=machines, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, barebones=True)


@pytest.mark.parametrize("missing", [{"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"}, {"MASTER_ADDR"}, {"MASTER_PORT"}, {"NODE_RANK"}])
def test_machines_that_would_wait_for_ever_are_refused(monkeypatch: pytest.MonkeyPatch, missing: set[str]) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "0"}.items():
        monkeypatch.delenv(name, raising=False)
        if name not in missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"^trainer\.num_nodes=2: the machines cannot find each other, as ") as error:
        require_meeting_place(trainer_of(2))
    named = str(error.value).partition("in the environment")[0]
    assert {name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name in named} == missing


@pytest.mark.parametrize("rank", ["NODE_RANK", "GROUP_RANK"])
def test_first_machine_says_for_whom_it_waits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rank: str) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    for number, said in (("0", ["waits for the other machines of trainer.num_nodes=2 at 127.0.0.1:29500"]), ("1", [])):
        monkeypatch.setenv(rank, number)
        caplog.clear()
        require_meeting_place(trainer_of(2))
        assert [record.getMessage() for record in caplog.records if record.name.startswith("vae_lightning")] == said


def test_one_machine_needs_no_meeting_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    require_meeting_place(trainer_of(1))
