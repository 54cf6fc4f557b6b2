"""Long trainings and many trainings in one process hold no more memory at their end than after their beginning.

A sweep gives each job a process of its own; many trainings are in one process where a program or a notebook calls `train`.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = ("data=shapes2d", "data.train_size=256", "data.val_size=64", "data.test_size=64", "data.batch_size=32")
SMALL = (*SHAPES, "model.net.hidden=[32]", "model.latent_dim=2", "trainer.gpus=0", "trainer.enable_progress_bar=false")
MEGABYTES = 3.0
"""How much more may be held; the config of every job would be 7 MB more, and every job's data 9."""


MANY = """
import sys, hydra
repository, count, *words = sys.argv[1:]
sys.path.insert(0, repository)
from vae_lightning.commands.commandline import register_resolvers
from vae_lightning.commands.train import train
register_resolvers()
with hydra.initialize_config_dir(f"{repository}/conf", version_base="1.3"):
    for seed in range(int(count)):
        train(hydra.compose("train", [*words, f"seed={seed}", f"run_dir=runs/{seed}", "name=many"]))
"""
"""A program that trains many models; its arguments: the checkout, how many, and settings."""


COMMAND = (str(REPOSITORY / "train.py"),)


def megabytes(folder: Path, *words: str) -> list[float]:
    noting = ("+callbacks.noting._target_=resident.Resident", f"+callbacks.noting.file={folder / 'megabytes'}")
    where = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words, *SMALL, *noting], cwd=folder, env=where, check=True, capture_output=True)
    return [float(line) for line in (folder / "megabytes").read_text().split()]


def growth(held: list[float]) -> float:
    """From the second fifth, when everything is imported and compiled, to the last one."""
    fifth = len(held) // 5
    return statistics.median(held[-fifth:]) - statistics.median(held[fifth : 2 * fifth])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what is resident")
@pytest.mark.parametrize(
    ("count", "words"),
    [
        (20, (*COMMAND, "trainer.max_epochs=20", "+callbacks.noting.epochs=true")),
        pytest.param(
            50,
            ("-c", MANY, str(REPOSITORY), "50", "trainer.max_epochs=1", "+callbacks.noting.epochs=false"),
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["epochs", "trainings"],
)
def test_memory_stays_as_it_is(tmp_path: Path, count: int, words: tuple[str, ...]) -> None:
    held = megabytes(tmp_path, *words)
    assert len(held) == count
    assert growth(held) < MEGABYTES, held
