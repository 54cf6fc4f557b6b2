"""Checkpoints on a full disk, and those a run goes on from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from vae_lightning.callbacks import AtomicCheckpointIO, BestCheckpoint
from vae_lightning.errors import StorageError
from vae_lightning.training import train

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[16]", "model.latent_dim=2")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("previous", [True, False])
def test_full_disk_is_one_line_and_leaves_the_previous_checkpoint(tmp_path: Path, previous: bool) -> None:
    path = tmp_path / "last.ckpt"
    if previous:
        AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    (tmp_path / ".last.ckpt.unfinished").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device") as refusal:
        AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.zeros(10_000)}, path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [file.name for file in tmp_path.iterdir()] == (["last.ckpt"] if previous else [])
    if previous:
        assert torch.load(path, weights_only=True) == {"step": 1}


def test_last_checkpoint_says_where_training_stands(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, "trainer.max_epochs=3", "trainer.max_steps=6", folder="within"))
    train(compose(*SMALL, "trainer.max_epochs=2", folder="whole"))
    within, whole = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("within", "whole"))
    assert (within["epoch"], within["global_step"]) == (1, 6)
    assert (whole["epoch"], whole["global_step"]) == (1, 8)


def test_best_checkpoint_goes_along_to_a_new_folder(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, "trainer.max_epochs=2", folder="first"))
    first = tmp_path / "first" / "checkpoints"
    resumed = train(
        compose(*SMALL, "trainer.max_epochs=3", "trainer.limit_train_batches=5", f"ckpt_path={first}/last.ckpt", folder="second")
    )
    callback = resumed.trainer.checkpoint_callback
    assert isinstance(callback, BestCheckpoint)
    assert Path(callback.best_model_path).parent == tmp_path / "second" / "checkpoints"
    best_of_first = torch.load(first / "best.ckpt", weights_only=True)["callbacks"][callback.state_key]["best_model_score"]
    assert callback.best_model_score is not None
    assert callback.best_model_score >= best_of_first
    assert (tmp_path / "second" / "checkpoints" / "best.ckpt").is_file()


def test_best_checkpoint_that_is_gone_is_not_pointed_to(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, folder="first"))
    checkpoints = tmp_path / "first" / "checkpoints"
    state = torch.load(checkpoints / "last.ckpt", weights_only=True)["callbacks"]
    callback = BestCheckpoint(dirpath=tmp_path / "second", filename="best", monitor="val/elbo", mode="max")
    (key,) = (key for key in state if key.startswith("BestCheckpoint"))
    (checkpoints / "best.ckpt").unlink()
    callback.load_state_dict(state[key])
    assert callback.best_model_path == ""
