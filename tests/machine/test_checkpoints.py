"""The newest whole checkpoint is found, whatever has become of the newest; a flipped bit is seen."""

import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch

from vae_lightning.errors import CheckpointError
from vae_lightning.machine.checkpoints import LAST, PREVIOUS, Progress, is_whole, newest_whole, read_any


def written(path: Path, step: int) -> Path:
    content: dict[str, Any] = {"state_dict": {"w": torch.full((100, 10), float(step))}, "global_step": step, "epoch": 0}
    torch.save(content, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path / PREVIOUS, 1)
    written(tmp_path / LAST, 2)
    return tmp_path


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_last_is_the_one_to_go_on_from(folder: Path) -> None:
    assert newest_whole(folder) == (folder / LAST, None)


def test_process_killed_between_two_renamings_leaves_the_previous(folder: Path) -> None:
    (folder / LAST).unlink()
    assert newest_whole(folder) == (folder / PREVIOUS, None)


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text", "weights of nothing"])
def test_damaged_one_gives_way_to_the_one_before_in_one_line(folder: Path, damage: str) -> None:
    last = folder / LAST
    whole = last.read_bytes()
    if damage == "bit":
        flip(last, len(whole) // 2)
    elif damage == "weights of nothing":
        torch.save({"w": 1}, last)
    else:
        last.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"last"}[damage])
    path, said = newest_whole(folder)
    assert path == folder / PREVIOUS
    assert said is not None
    assert str(last) in said
    assert said.endswith(f"goes on from the one before it, {PREVIOUS}")
    assert "\n" not in said
    with pytest.raises(CheckpointError, match=f"; the one before it is whole: {folder / PREVIOUS}$") as refusal:
        read_any(last)
    assert "\n" not in str(refusal.value)


def test_neither_is_whole(folder: Path) -> None:
    for name in (LAST, PREVIOUS):
        (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        newest_whole(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=f"neither {LAST} nor {PREVIOUS}"):
        newest_whole(folder)


def test_run_folder_will_do_too(folder: Path) -> None:
    (folder / "run").mkdir()
    for name in (LAST, PREVIOUS):
        (folder / "run" / "checkpoints").mkdir(exist_ok=True)
        (folder / name).rename(folder / "run" / "checkpoints" / name)
    assert newest_whole(folder / "run") == (folder / "run" / "checkpoints" / LAST, None)


def test_any_flipped_bit_is_seen_that_would_be_read(folder: Path) -> None:
    """A bit that nothing is read from, of an alignment or a date, may be flipped: then the content is as it was."""
    last = folder / LAST
    whole, content = last.read_bytes(), read_any(last)
    drawn = random.Random(0)
    with zipfile.ZipFile(last) as archive:
        (tensor,) = (entry for entry in archive.infolist() if "/data/" in entry.filename)
    within = range(tensor.header_offset + 200, tensor.header_offset + 200 + tensor.file_size - 200)
    for place in [*drawn.sample(range(len(whole)), 200), *drawn.sample(within, 50)]:
        flip(last, place, drawn.randrange(8))
        if is_whole(last):
            assert place not in within
            found = read_any(last)
            assert torch.equal(found["state_dict"]["w"], content["state_dict"]["w"])
            assert (found["global_step"], found["epoch"]) == (2, 0)
        last.write_bytes(whole)


def test_file_that_claims_more_than_it_is_is_damaged(folder: Path) -> None:
    with zipfile.ZipFile(folder / LAST, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 10_000_000)
    with pytest.raises(CheckpointError, match=r"is damaged.*compressed, as torch saves nothing"):
        read_any(folder / LAST)


class Steps(L.LightningModule):
    """Trains on batches of a number each."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight - batch).square().mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Stops(L.Callback):
    """What a checkpoint would say of a training's progress wherever one may be written, and what is true there."""

    def __init__(self) -> None:
        self.truth = {"epochs": 0, "batches": 0, "steps": 0}
        self.at: list[tuple[Progress, dict[str, int]]] = []

    def note(self, trainer: L.Trainer) -> None:
        if not trainer.sanity_checking:
            self.at.append((Progress.of(trainer._checkpoint_connector.dump_checkpoint()), dict(self.truth)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.note(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.truth["batches"] += 1
        self.truth["steps"] = trainer.global_step
        self.note(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.truth["batches"] == trainer.num_training_batches:
            self.truth |= {"epochs": trainer.current_epoch + 1, "batches": 0}
        self.note(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.truth |= {"epochs": trainer.current_epoch + 1, "batches": 0}  # also where no validation comes after the last batch
        self.note(trainer)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(6))
def test_progress_is_right_wherever_a_training_may_be_stopped(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    batches, epochs, together = chance.randint(1, 5), chance.randint(1, 3), chance.randint(1, 2)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    stops = Stops()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=together,
        val_check_interval=chance.randint(1, batches),
        callbacks=[stops],
        default_root_dir=tmp_path,
        **quiet,
    )
    loader = torch.utils.data.DataLoader(torch.arange(float(batches)), batch_size=1)
    trainer.fit(Steps(), loader, torch.utils.data.DataLoader(torch.zeros(2), batch_size=1))
    assert len(stops.at) > epochs * batches
    for found, truth in stops.at:
        assert vars(found) == truth
