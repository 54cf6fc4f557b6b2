"""Frames of a training: dense at first, of test images, harmless, and complete after a resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import pytorch_lightning as L  # isort: skip
from vae_lightning import VAE, MNISTDataModule
from vae_lightning.callbacks import FrameRecorder
from vae_lightning.callbacks.animation import frame_steps
from vae_lightning.commands.train import train
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.errors import ConfigurationError, StorageError
from vae_lightning.noise import generator

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[32]", "model.latent_dim=2", "logger=none", "trainer.limit_train_batches=60")


def steps_of(folder: Path) -> list[int]:
    return [int(path.stem.partition("_")[2]) for path in sorted((folder / "animation").glob("step_*.npz"))]


@pytest.mark.parametrize("total", [1, 3, 60, 4300, 172_000])
def test_schedule_is_dense_at_the_start_and_ends_at_the_end(total: int) -> None:
    steps = frame_steps(total, 25)
    assert steps[0] == 0
    assert steps[-1] == total
    assert len(steps) == len(set(steps)) <= 25
    gaps = np.diff(steps[2:])
    assert np.diff(gaps).min(initial=0) >= -1, "gaps do not shrink, where there are two"


def test_frames_are_what_the_model_makes_of_test_images(compose: Compose, tmp_path: Path) -> None:
    result = train(compose(*SMALL, "callbacks.animation.frames=4", "callbacks.checkpoint=null"))
    steps = steps_of(tmp_path / "run")
    assert steps[0] == 0
    assert steps[-1] == 60
    assert isinstance(result.trainer.fit_loop.epoch_loop, ChunkLoop), "the fast path stays"
    model, data = result.model.eval(), result.data
    x, y = data.evaluation_images("test")  # type: ignore[attr-defined]
    with np.load(tmp_path / "run" / "animation" / f"step_{60:09d}.npz") as frame:
        expected = (model.reconstruct(x[:100], y[:100]) * 255).round().squeeze(1)  # type: ignore[operator]
        assert (torch.from_numpy(frame["reconstructions"]).float() - expected).abs().max() <= 1
        corner = model.decode(torch.tensor([[-4.0, 4.0]])) * 255  # type: ignore[operator]
        assert (torch.from_numpy(frame["decoded"][0]).float() - corner[0, 0]).abs().max() <= 1
        assert frame["z"].shape == (5000, 2)
        assert frame["epoch"] == 1


def test_recording_changes_nothing_of_the_training(compose: Compose, tmp_path: Path) -> None:
    plain = train(compose(*SMALL, folder="plain"))
    recorded = train(compose(*SMALL, "callbacks.animation.frames=5", folder="recorded"))
    assert plain.metrics == recorded.metrics
    assert not steps_of(tmp_path / "plain")


def test_run_that_goes_on_in_another_folder_has_all_frames(compose: Compose, tmp_path: Path) -> None:
    settings = (*SMALL, "callbacks.animation.frames=5", "trainer.max_epochs=2")
    train(compose(*settings, folder="whole"))
    train(compose(*settings, "trainer.max_steps=60", folder="part"))
    train(compose(*settings, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt", folder="rest"))
    whole, rest = steps_of(tmp_path / "whole"), steps_of(tmp_path / "rest")
    assert rest[0] == 0
    assert rest[-1] == whole[-1] == 120
    last = [np.load(tmp_path / name / "animation" / f"step_{120:09d}.npz")["decoded"] for name in ("whole", "rest")]
    assert (last[0] == last[1]).all()


def test_classifier_and_fast_dev_run_record_nothing(compose: Compose, tmp_path: Path) -> None:
    frames = "callbacks.animation.frames=5"
    train(compose("model=cnn", "logger=none", frames, folder="cnn"))
    train(compose(*SMALL, frames, "trainer.fast_dev_run=true", folder="dev"))
    assert not steps_of(tmp_path / "cnn")
    assert not steps_of(tmp_path / "dev")


def test_conditional_model_is_recorded_with_every_label(compose: Compose, tmp_path: Path) -> None:
    result = train(compose("model=cvae_mlp", *SMALL, "callbacks.animation.frames=2", "callbacks.checkpoint=null"))
    assert steps_of(tmp_path / "run") == [0, 60]
    model = result.model.eval()
    with np.load(tmp_path / "run" / "animation" / f"step_{60:09d}.npz") as frame:
        z = torch.randn(400, 2, generator=generator("animation", "prior"))[:1]
        each = model.decode(z.expand(10, 2), torch.arange(10)) * 255  # type: ignore[operator]
        assert (torch.from_numpy(frame["decoded"][:10]).float() - each[:, 0]).abs().max() <= 1


def test_second_training_in_a_folder_leaves_no_frame_of_the_first(mnist_root: Path, tmp_path: Path) -> None:
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    for batches in (6, 4):
        recorder = FrameRecorder(str(tmp_path / "frames"), frames=2)
        trainer = L.Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=batches, callbacks=[recorder], **off)
        trainer.fit(VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}), datamodule=MNISTDataModule(str(mnist_root)))
    assert sorted(path.stem for path in (tmp_path / "frames").iterdir()) == ["step_000000000", "step_000000004"]


def test_training_that_ends_early_has_its_end_recorded_and_epochs_count_batches(mnist_root: Path, tmp_path: Path) -> None:
    class Stops(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step >= 30

    data = MNISTDataModule(str(mnist_root), batch_size=100)
    recorder = FrameRecorder(str(tmp_path / "frames"), frames=5)
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=9, limit_train_batches=40, accumulate_grad_batches=2, callbacks=[recorder, Stops()], **off
    )
    trainer.fit(VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}), datamodule=data)
    last = sorted((tmp_path / "frames").glob("*.npz"))[-1]
    assert int(last.stem.partition("_")[2]) == trainer.global_step < 60
    assert np.load(last)["epoch"] == pytest.approx(trainer.global_step / 20)


def test_wrong_number_and_full_disk_are_one_line(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"callbacks.animation.frames=1: must be 0 \(none\) or at least 2"):
        train(compose(*SMALL, "callbacks.animation.frames=1"))
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "animation").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="could not be written"):
        train(compose(*SMALL, "callbacks.animation.frames=5", folder="blocked"))
