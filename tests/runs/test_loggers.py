"""Logs of a training that goes on in its folder."""

import csv
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from vae_lightning.runs.loggers import CSVLogger, TensorBoardLogger, cut_events, set_aside


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="")))


def test_rows_so_far_are_kept_and_those_trained_anew_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "csv" / "metrics.csv"
    first = CSVLogger(tmp_path, name="csv", version="")
    for step in range(4):  # validated after the second step
        first.log_metrics({"train/loss": step}, step)
        if step == 1:
            first.log_metrics({"val/loss": 9}, 2)
    first.save()
    set_aside(path, 2)
    again = CSVLogger(tmp_path, name="csv", version="")
    again.log_metrics({"train/loss": 20, "train/elbo": -20}, 2)
    again.save()
    kept = [(row["step"], row["train/loss"], row["val/loss"], row["train/elbo"]) for row in rows(path)]
    assert kept == [("0", "0", "", ""), ("1", "1", "", ""), ("2", "", "9", ""), ("2", "20", "", "-20")]
    assert [row["train/loss"] for row in rows(path.with_name("superseded.csv"))] == ["2", "3"]


def test_half_a_line_of_a_killed_training_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "csv" / "metrics.csv"
    path.parent.mkdir()
    path.write_bytes(b"loss,step\r\n1,0\r\n2")
    logger = CSVLogger(tmp_path, name="csv", version="")
    logger.log_metrics({"loss": 3}, 1)
    logger.save()
    assert [(row["loss"], row["step"]) for row in rows(path)] == [("1", "0"), ("2", None), ("3", "1")]


def test_hyperparameters_are_dropped_from_events_and_nothing_else(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    writer.add_scalar("loss", 1.5, 3)
    for summary in hparams({"lr": 0.1}, {})[1:]:
        writer._get_file_writer().add_summary(summary)
    writer.add_scalar("loss", 0.5, 4)
    writer.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"\x10\0\0")  # and a killed training left part of a record
    cut_events([path], 4)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(3, 1.5), (4, 0.5)]
    assert not [tag for tag in events.summary_metadata if tag.startswith("_hparams_/session")]


def test_what_has_no_split_comes_after_the_test_in_tensorboard(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tb", version="", default_hp_metric=False)
    logger.log_metrics({"epoch": 0, "lr-Adam": 0.1, "lr-AdamW/pg1": 0.2, "lr": 0.3, "test/elbo": -1.0, "learned": 2.0}, 3)
    logger.save()
    tags = EventAccumulator(str(tmp_path / "tb")).Reload().Tags()["scalars"]
    assert sorted(tags) == ["learned", "test/elbo", "train/epoch", "train/lr", "train/lr-Adam", "train/lr-AdamW/pg1"]
