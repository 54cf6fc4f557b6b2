"""Timing counts images and leaves out what is not training; a signal ends a run after a whole step."""

import io
import json
import logging
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning import VAE
from vae_lightning.callbacks import StopOnInterrupt, Timing
from vae_lightning.commands.train import Result, train


def fit(tmp_path: Path, *callbacks: L.Callback, **trainer: Any) -> L.Trainer:
    images = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round()
    loader = DataLoader(TensorDataset(images, torch.zeros(64, dtype=torch.long)), batch_size=16)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    result = L.Trainer(callbacks=list(callbacks), default_root_dir=tmp_path, accelerator="cpu", **{**quiet, **trainer})
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


def test_epoch_is_a_line_of_the_log_with_what_its_own_validation_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vae_lightning.callbacks.progress")
    trainer = fit(tmp_path, Timing(time.time()), max_epochs=2, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    first, second = (line for line in caplog.messages if line.startswith("epoch "))
    assert re.fullmatch(r"epoch 1, step 4, [\d,]+ images/s", first)
    assert re.fullmatch(r"epoch 2, step 8, (val/\w+ -?[\d.]+, )+[\d,]+ images/s", second)
    assert f"val/elbo {float(trainer.callback_metrics['val/elbo']):.4g}, " in second


def test_epoch_is_a_line_where_no_progress_bar_can_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, Timing(time.time()), max_epochs=2, num_sanity_val_steps=0)
    assert "epoch " not in capsys.readouterr().out, "a training that was to be quiet"
    fit(tmp_path, Timing(time.time()), max_epochs=2, num_sanity_val_steps=0, enable_progress_bar=True)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert [line.split(", ")[:2] for line in said] == [["epoch 1", "step 4"], ["epoch 2", "step 8"]]


def test_output_that_nobody_reads_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(text)

    monkeypatch.setattr("sys.stdout", Closed())
    trainer = fit(tmp_path, Timing(time.time()), L.callbacks.ProgressBar(), max_epochs=2, enable_progress_bar=True)
    assert trainer.global_step == 8


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


# ---- a signal in a run


Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[16]", "model.latent_dim=2", "trainer.limit_train_batches=10", "trainer.log_every_n_steps=3")


def train_until(
    moment: str, number: signal.Signals, cfg: DictConfig, monkeypatch: pytest.MonkeyPatch, step: int = 0, fn: str = "fit"
) -> Result:
    """Train, and send signal `number` at hook `moment` at the first step that Lightning sees from `step` on."""
    whole, sent = getattr(Timing, moment), []

    def hook(self: Timing, trainer: L.Trainer, *rest: Any) -> None:
        whole(self, trainer, *rest)
        if not sent and trainer.global_step >= step and trainer.state.fn == fn:
            sent.append(trainer.global_step)
            signal.raise_signal(number)

    with monkeypatch.context() as patched:
        patched.setattr(Timing, moment, hook)
        result = train(cfg)
    assert sent
    return result


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_signal_leaves_a_run_that_says_so(compose: Compose, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    cfg = compose(*SMALL, "trainer.max_epochs=3", "logger=none")
    result = train_until("on_train_batch_end", number, cfg, monkeypatch, step=12)
    assert (result.signal, result.interrupted, result.trainer.global_step) == (number, True, 12)
    metrics = record(result.folder)
    assert (metrics["interrupted"], metrics["signal"]) == (True, number.name)
    assert {key.partition("/")[0] for key in metrics["metrics"]} == {"train", "val"}, "those of the last whole epoch"
    assert torch.load(result.folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12
    assert signal.getsignal(number) is before


def test_run_that_nobody_interrupts_says_nothing_of_it(compose: Compose) -> None:
    result = train(compose(*SMALL, "logger=none"))
    assert result.signal is None
    assert not {"interrupted", "signal"} & set(record(result.folder))


@pytest.mark.parametrize(
    ("moment", "step", "fn"),
    [("on_validation_end", 0, "validate"), ("on_validation_start", 0, "validate"), ("on_validation_end", 0, "fit")],
)
def test_signal_in_a_validation(compose: Compose, monkeypatch: pytest.MonkeyPatch, moment: str, step: int, fn: str) -> None:
    """Within training the validation is done first, at the end it is not waited for."""
    cfg = compose(*SMALL, "trainer.max_epochs=2" if fn == "fit" else "trainer.max_epochs=1", "logger=none")
    result = train_until(moment, signal.SIGTERM, cfg, monkeypatch, step, fn)
    metrics = record(result.folder)
    assert (metrics["interrupted"], metrics["signal"], result.trainer.global_step) == (True, "SIGTERM", 10)
    assert not any(key.startswith("test/") for key in metrics["metrics"])
    assert (result.folder / "checkpoints" / "last.ckpt").is_file()


def test_signal_while_a_graph_is_compiled(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_lightning.machine import compilation

    def slow(*_: Any, **__: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("compiling went on")

    monkeypatch.setattr(compilation, "_compiled", slow)
    result = train(compose(*SMALL, "trainer.compile=true", "trainer.max_epochs=100", "logger=none"))
    assert result.signal == signal.SIGTERM
    assert result.trainer.global_step <= 3
    assert not (result.folder / "checkpoints" / "last.ckpt").exists(), "a step that was not compiled is no step of this training"
