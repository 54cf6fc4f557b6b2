"""A process of a training that is killed ends the whole job within a minute, with a line, and leaves where it stood."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.data import has_len_all_ranks
from torch import Tensor

from vae_lightning.commands.config import lightning_errors
from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.checkpoints import newest_whole

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = (
    "data=shapes2d",
    "data.train_size=2000",
    "data.val_size=100",
    "data.test_size=100",
    "data.batch_size=50",
    "data.eval_batch_size=50",
)
LONG = (*SHAPES, "model.net.hidden=[8]", "model.latent_dim=2", "trainer.max_epochs=100000", "trainer.enable_progress_bar=false")
TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "callbacks.latents=null", "logger=none")


def children(pid: int) -> list[int]:
    found = [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class OfTwo(SingleDeviceStrategy):
    """A process beside another one that has a batch."""

    def reduce(self, tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return tensor + 1


def test_process_without_a_batch_is_refused_by_name() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"^data: a process has no batch of validation .* data\.eval_batch_size"),
        lightning_errors(),
    ):
        has_len_all_ranks([], OfTwo("cpu"), False)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs to know the processes of a process")
@pytest.mark.parametrize(("strategy", "victim"), [("ddp", "first"), ("ddp", "other"), ("ddp_spawn", "other")])
def test_rank_that_is_killed_ends_the_job_within_a_minute(tmp_path: Path, strategy: str, victim: str) -> None:
    words = (*LONG, *TWO, f"trainer.strategy={strategy}", "hydra.run.dir=run")
    err = tmp_path / "err"
    with err.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "train.py"), *words],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
        )
        deadline = time.monotonic() + 240
        while not (tmp_path / "run/checkpoints/last.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        assert process.poll() is None, err.read_text()
        ranks = [process.pid, *children(process.pid)]
        os.kill(ranks[0 if victim == "first" else -1], signal.SIGKILL)
        killed = time.monotonic()
        while any(map(alive, ranks)) and time.monotonic() - killed < 60:
            process.poll()
            time.sleep(0.1)
    left = [rank for rank in ranks if alive(rank)]
    for rank in left:
        os.kill(rank, signal.SIGKILL)
    said = err.read_text()
    assert not left, said
    assert process.wait() == (-signal.SIGKILL if victim == "first" else 1), said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert lines, said
    assert all("of this training" in line or "has died" in line for line in lines)
    assert victim == "first" or any("run/checkpoints" in line or "resume=" in line for line in lines)
    newest_whole(tmp_path / "run" / "checkpoints")
