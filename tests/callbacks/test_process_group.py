"""`LeavesItsGroup`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torchrun import TORCHRUN

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = """
import atexit, os
from pathlib import Path

def left():  # registered first, and so called last
    names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in os.listdir("/proc/self/task")]
    Path(f"threads_{os.getpid()}").write_text(" ".join(names))

atexit.register(left)
"""
SHAPES = [
    *("data=shapes2d", "data.train_size=20", "data.val_size=20", "data.test_size=20", "data.batch_size=10"),
    *("data.eval_batch_size=10", "model.net.hidden=[8]", "model.latent_dim=2", "trainer.max_epochs=1", "trainer.accelerator=cpu"),
    *("trainer.devices=2", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "callbacks=none"),
]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs to know the threads of a process")
@pytest.mark.parametrize(("start", "words"), [([], ["trainer.strategy=ddp_spawn"]), (TORCHRUN, [])], ids=["ddp_spawn", "torchrun"])
def test_no_thread_of_the_group_lives_as_a_process_ends(tmp_path: Path, start: list[str], words: list[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    line = [sys.executable, *start, str(REPOSITORY / "train.py"), *SHAPES, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    threads = [path.read_text().split() for path in tmp_path.glob("threads_*")]
    assert len(threads) >= 2
    assert not [name for names in threads for name in names if "gloo" in name]
