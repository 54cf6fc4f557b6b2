"""What several tests need: real MNIST, and short runs of any config."""

import os
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from vae_lightning.commandline import register_resolvers
from vae_lightning.data import sources

REPOSITORY = Path(__file__).resolve().parent.parent
QUICK = [
    "trainer.gpus=0",
    "trainer.limit_train_batches=4",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.max_epochs=1",
    "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
    "data.batch_size=32",
    "data.eval_batch_size=100",
]


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A folder with real MNIST: VAE_LIGHTNING_DATA, or the repository's `data`, fetched to if need be."""
    root = Path(os.environ.get("VAE_LIGHTNING_DATA", REPOSITORY / "data"))
    sources.raw_folder("mnist", root)
    return root


@pytest.fixture
def compose(mnist_root: Path, tmp_path: Path) -> Callable[..., DictConfig]:
    """A config of a quick run on real MNIST, with the given overrides, that writes into a folder of its own."""
    register_resolvers()

    def of(*overrides: str, folder: str = "run", quick: bool = True) -> DictConfig:
        own = [f"data.root={mnist_root}", f"run_dir={tmp_path / folder}", "name=test"]
        with hydra.initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            return hydra.compose("train", [*own, *(QUICK if quick else ()), *overrides])

    return of
