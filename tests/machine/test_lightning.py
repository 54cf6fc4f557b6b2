"""What Lightning keeps private is read by public names, and says what it says."""

from datetime import timedelta
from pathlib import Path

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.loggers import TensorBoardLogger

from vae_lightning.machine.lightning import (
    WritingCSVLogger,
    allowed_seconds,
    batches_of_unfinished_epoch,
    begins_an_epoch,
    detects_anomaly,
    has_trainer,
    may_stop_now,
    purge_from,
    saves_between_validations,
)


def trainer(**arguments: object) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(**quiet, **arguments)  # type: ignore[arg-type]


def test_trainer_is_known_once_it_is_attached() -> None:
    model = L.LightningModule()
    assert not has_trainer(model)
    model.trainer = trainer()
    assert has_trainer(model)


@pytest.mark.parametrize("wanted", [False, True])
def test_anomaly_detection_is_what_was_asked_for(wanted: bool) -> None:
    assert detects_anomaly(trainer(detect_anomaly=wanted)) is wanted


def test_training_may_stop_when_it_is_told_to_and_has_trained_enough() -> None:
    long, short = trainer(min_epochs=2, max_epochs=3), trainer(max_epochs=3)
    assert not may_stop_now(short)
    long.should_stop = short.should_stop = True
    assert may_stop_now(short)
    assert not may_stop_now(long)


def test_checkpoint_in_the_middle_becomes_the_beginning_of_an_epoch() -> None:
    one = trainer()
    one.fit_loop.restarting = True
    begins_an_epoch(one)
    assert not one.fit_loop.restarting
    assert not one.fit_loop.epoch_loop.restarting


@pytest.mark.parametrize(("limits", "expected"), [({"max_steps": 5}, 2), ({"max_epochs": 2}, None), ({"max_epochs": 0}, None)])
def test_batches_of_an_epoch_that_training_ended_within(limits: dict[str, int], expected: int | None) -> None:
    one = trainer(**limits, accelerator="cpu", limit_train_batches=3)
    one.fit(BoringModel(), torch.utils.data.DataLoader(torch.zeros(8, 32), batch_size=2))
    assert batches_of_unfinished_epoch(one) == expected


@pytest.mark.parametrize(
    ("settings", "between"),
    [
        ({}, False),
        ({"every_n_epochs": 2}, False),
        ({"every_n_train_steps": 5}, True),
        ({"train_time_interval": timedelta(1)}, True),
    ],
)
def test_checkpoint_says_when_it_saves(settings: dict[str, object], between: bool) -> None:
    assert saves_between_validations(ModelCheckpoint(**settings)) is between  # type: ignore[arg-type]


def test_timer_says_how_long_it_lets_train() -> None:
    assert allowed_seconds(Timer("00:00:01:30")) == 90
    assert allowed_seconds(Timer()) is None


def test_tensorboard_is_purged_from_a_step_unless_its_user_said_from_which(tmp_path: Path) -> None:
    ours, users = TensorBoardLogger(str(tmp_path / "a")), TensorBoardLogger(str(tmp_path / "b"), purge_step=3)
    for logger in (ours, users):
        purge_from(logger, 8)
        logger.experiment.add_scalar("x", 1.0, 9)
        logger.finalize("success")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    def purged(folder: Path) -> list[int]:
        (file,) = folder.rglob("events.*")
        return [event.step for event in EventFileLoader(str(file)).Load() if event.HasField("session_log")]

    assert purged(tmp_path / "a") == [8]
    assert purged(tmp_path / "b") == [3]


@pytest.mark.parametrize("columns", [[], ["step", "val/elbo"]])
def test_csv_logger_adds_to_the_columns_that_it_is_told(tmp_path: Path, columns: list[str]) -> None:
    class Logger(WritingCSVLogger):
        def columns_of(self, path: Path) -> list[str]:
            assert path == file
            return columns

    file = tmp_path / "csv" / "version_0" / "metrics.csv"
    file.parent.mkdir(parents=True)
    if columns:
        file.write_text("step,val/elbo\n0,-9.0\n")
    logger = Logger(str(tmp_path), name="csv", version=0)
    logger.log_metrics({"val/elbo": -3.0}, step=1)
    logger.save()
    lines = file.read_text().split()
    assert lines[-1] in ("1,-3.0", "-3.0,1")
    assert len(lines) == (3 if columns else 2)
