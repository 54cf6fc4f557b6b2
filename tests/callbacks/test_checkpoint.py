"""Checkpoints on a full disk, and those a run goes on from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from vae_lightning.callbacks import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint, Timing
from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError, StorageError
from vae_lightning.machine import files

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[16]", "model.latent_dim=2")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("previous", [True, False])
def test_full_disk_is_one_line_and_leaves_the_previous_checkpoint(
    tmp_path: Path, previous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    if previous:
        AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "full")
    (tmp_path / ".last.ckpt.full.unfinished").symlink_to("/dev/full")
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


def test_damaged_best_checkpoint_counts_as_gone(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, folder="first"))
    checkpoints = tmp_path / "first" / "checkpoints"
    (checkpoints / "best.ckpt").write_bytes(b"cut")
    resumed = train(compose(*SMALL, "trainer.max_epochs=2", f"ckpt_path={checkpoints}/last.ckpt", folder="second"))
    assert torch.load(tmp_path / "second" / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    assert resumed.objective is not None


@pytest.mark.parametrize(
    "setting",
    ["save_top_k=3", "save_top_k=-1", "save_last=true", "every_n_train_steps=2", "save_on_train_epoch_end=true", "filename=x"],
)
def test_setting_under_which_best_is_not_the_best_is_refused(compose: Compose, tmp_path: Path, setting: str) -> None:
    new = "" if setting.startswith(("filename", "save_on_train_epoch_end")) else "+"
    with pytest.raises(ConfigurationError, match=f"callbacks.checkpoint.{setting.partition('=')[0]}=.*: "):
        train(compose(*SMALL, f"{new}callbacks.checkpoint.{setting}"))
    assert not (tmp_path / "run").exists()


def test_others_may_be_kept_beside_the_best(compose: Compose, tmp_path: Path) -> None:
    beside = [
        "+callbacks.all._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        f"+callbacks.all.dirpath={tmp_path}/all",
        "+callbacks.all.save_top_k=-1",
    ]
    result = train(compose(*SMALL, *beside, "trainer.max_epochs=2"))
    assert len(list((tmp_path / "all").iterdir())) == 2
    assert Path(result.trainer.checkpoint_callback.best_model_path).name == "best.ckpt"  # type: ignore[union-attr]


def test_signal_to_stop_that_has_to_wait_costs_neither_checkpoints_nor_the_fast_path(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Early stopping signals after the second of four epochs that are to be trained at least."""
    saved, seen = [], []
    whole = Timing.on_train_batch_end
    monkeypatch.setattr(LastCheckpoint, "_save", lambda _, trainer: saved.append(trainer.global_step))
    monkeypatch.setattr(Timing, "on_train_batch_end", lambda self, t, *a: (seen.append(t.global_step), whole(self, t, *a)))
    early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1e9")
    result = train(compose(*SMALL, *early, "trainer.limit_train_batches=20", "trainer.min_epochs=4", "trainer.max_epochs=9"))
    assert result.trainer.global_step == 80
    assert sorted(set(saved)) == [20, 40, 60, 80]
    assert len(saved) <= 8, "after its validation and at its end, of which the second writes nothing"
    assert seen == [1, 20, 40, 50, 60, 80], "the first batch, the last of each epoch, and what is logged"


def test_least_number_of_steps_is_kept_to_the_step(compose: Compose) -> None:
    early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "+callbacks.early_stopping.min_delta=1e9")
    limits = ("trainer.limit_train_batches=20", "trainer.min_steps=47", "trainer.max_epochs=9")
    for path in ("auto", "false"):
        result = train(compose(*SMALL, *early, *limits, f"trainer.compile={path}", folder=path))
        assert result.trainer.global_step == 47
