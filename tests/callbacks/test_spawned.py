"""A process that spawned others for a training stands where they stood; `tests/test_ranks.py` has real ones."""

import copy
from pathlib import Path

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from vae_lightning.callbacks import BringsBack, Timing, spawned
from vae_lightning.machine.lightning import purge_from


class Means(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.epoch_means: dict[str, float] = {}


def test_steps_metrics_and_timings_come_back_and_nothing_is_hidden_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    logger = TensorBoardLogger(tmp_path)
    purge_from(logger, 251)
    here = L.Trainer(accelerator="cpu", devices=2, strategy="ddp_spawn", logger=logger, **quiet)  # type: ignore[arg-type]
    child, trained, model = copy.copy(here), Means(), Means()
    child.fit_loop = copy.deepcopy(here.fit_loop)
    child.fit_loop.epoch_progress.current.completed = 3
    child.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 720
    child.fit_loop.epoch_loop._batches_that_stepped = 720
    times, timing = Timing(0.0), Timing(0.0)
    times.first_step_seconds, times.images, times.training_seconds = 7.0, 100, 2.0
    trained.epoch_means = {"train/kl": 1 / 3}
    BringsBack(times).teardown(child, trained, "fit")
    assert spawned.BROUGHT not in here.callback_metrics, "this process was not spawned"
    monkeypatch.setattr(spawned, "parent_process", lambda: "another")
    BringsBack(times).teardown(child, trained, "fit")
    torch.save(dict(here.callback_metrics), tmp_path / "passed on")
    here.callback_metrics.update(torch.load(tmp_path / "passed on", weights_only=True))
    BringsBack(timing).received(here, model)
    assert (here.global_step, here.current_epoch) == (720, 3)
    assert here.fit_loop.epoch_loop._batches_that_stepped == 720, "by which the final validation and test are logged"
    assert model.epoch_means == {"train/kl": 1 / 3}, "in double precision"
    assert (timing.first_step_seconds, timing.images_per_second) == (7.0, 50.0)
    assert "purge_step" not in logger._kwargs
    assert not here.callback_metrics
