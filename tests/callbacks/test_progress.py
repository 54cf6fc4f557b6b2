"""Timing counts images and leaves out what is not training; Ctrl-C ends a run after a whole step."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning import VAE
from vae_lightning.callbacks import StopOnInterrupt, Timing


def fit(tmp_path: Path, *callbacks: L.Callback, **trainer: Any) -> L.Trainer:
    images = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round()
    loader = DataLoader(TensorDataset(images, torch.zeros(64, dtype=torch.long)), batch_size=16)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    result = L.Trainer(callbacks=list(callbacks), default_root_dir=tmp_path, accelerator="cpu", **quiet, **trainer)
    result.fit(VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}), loader, loader)
    return result


def test_timing_leaves_the_first_step_and_validation_out(tmp_path: Path) -> None:
    class SlowValidation(L.Callback):
        def on_validation_start(self, *_: Any) -> None:
            time.sleep(0.5)

    started = time.time()
    timing = Timing(started)
    fit(tmp_path, timing, SlowValidation(), max_epochs=3, num_sanity_val_steps=0)
    assert timing.images == (3 + 4 + 4) * 16  # of four batches an epoch, the very first starts the clock
    assert timing.first_step_seconds is not None
    assert 0 < timing.first_step_seconds < time.time() - started
    assert timing.images_per_second is not None
    assert timing.training_seconds < time.time() - started - 3 * 0.5
    assert timing.images_per_second == pytest.approx(timing.images / timing.training_seconds)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_interrupt_ends_training_between_two_optimizer_steps(tmp_path: Path, accumulate: int) -> None:
    class PressAtThird(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    stop = StopOnInterrupt()
    trainer = fit(tmp_path, stop, PressAtThird(), max_epochs=5, min_epochs=5, accumulate_grad_batches=accumulate)
    assert stop.interrupted
    assert trainer.global_step == (3 if accumulate == 1 else 2)
    assert signal.getsignal(signal.SIGINT) is before
