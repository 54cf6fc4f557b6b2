"""Short fits on real MNIST that write to TensorBoard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
from pytorch_lightning.loggers import TensorBoardLogger
from short_fits import Fit, Written

from vae_lightning import MNISTDataModule


@pytest.fixture
def fit(mnist_root: Path, tmp_path: Path) -> Fit:
    """Train `model` for some epochs of two steps with callbacks, and test it."""

    def of(model: L.LightningModule, *callbacks: L.Callback, epochs: int = 1, test: bool = False, **data: Any) -> Any:
        few = {"val_size": 300, "batch_size": 32, "eval_batch_size": 100}
        module = MNISTDataModule(root=str(mnist_root), **{**few, **data})
        quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        limits = {"limit_train_batches": 2, "limit_test_batches": 3, "log_every_n_steps": 1, "accelerator": "cpu", "devices": 1}
        logger = TensorBoardLogger(tmp_path, name="tb", version="", default_hp_metric=False)
        trainer = L.Trainer(max_epochs=epochs, logger=logger, callbacks=list(callbacks), **quiet, **limits)
        trainer.fit(model, datamodule=module)
        if test:
            trainer.test(model, datamodule=module, verbose=False)
        return trainer, module

    return of


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], Written]:
    return lambda: Written(tmp_path / "tb")
