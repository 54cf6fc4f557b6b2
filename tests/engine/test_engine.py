"""The fast path takes the steps that Lightning's own loop takes, and gives way where it cannot."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader, IterableDataset

from vae_lightning import VAE
from vae_lightning.callbacks import Timing
from vae_lightning.commands.train import Result, train
from vae_lightning.engine import install, reason_against, step
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.models.base import Module

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[32]", "model.latent_dim=3")
MODELS = {
    "vae": (*SMALL, "model.net.dropout=0.2", "model.num_samples=2"),
    "beta_vae": (*SMALL, "model.lr_schedule.name=cosine", "trainer.gradient_clip_val=0.5", "model.kl_warmup_steps=20"),
    "iwae": (*SMALL, "model.doubly_reparameterised=true", "trainer.precision=bf16-mixed"),
    "cvae_cnn3": ("trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=value"),
    "cnn": ("model.optimizer.name=rmsprop",),
}


Log = list[dict[str, str]]


def run(compose: Compose, tmp_path: Path, path: str, *overrides: str) -> tuple[Result, Log, dict[str, torch.Tensor]]:
    """Result, all that was logged but times, and the last weights of a run with `trainer.compile` = `path`."""
    result = train(compose("logger=csv", f"trainer.compile={path}", *overrides, folder=path))
    assert isinstance(result.trainer.fit_loop.epoch_loop, ChunkLoop) == (path != "false")
    (log,) = (tmp_path / path).glob("**/metrics.csv")
    rows = [{key: v for key, v in row.items() if not key.startswith("time/")} for row in csv.DictReader(log.open())]
    weights = torch.load(tmp_path / path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return result, rows, weights


def assert_close(log: Log, other: Log, within: float) -> None:
    """Everything logged is the same but for rounding."""
    for line, counterpart in zip(log, other, strict=True):
        values, counterparts = ({key: float(v or "nan") for key, v in row.items()} for row in (line, counterpart))
        assert values == pytest.approx(counterparts, rel=within, abs=within, nan_ok=True)


@pytest.mark.parametrize("model", MODELS)
def test_uncompiled_steps_are_the_plain_ones_to_the_bit(compose: Compose, tmp_path: Path, model: str) -> None:
    settings = (f"model={model}", *MODELS[model], "trainer.limit_train_batches=8", "trainer.max_epochs=2")
    (plain, _, weights), (fast, _, others) = (run(compose, tmp_path, path, *settings) for path in ("false", "auto"))
    assert plain.metrics == fast.metrics
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


@pytest.mark.parametrize(
    "settings",
    [
        ("trainer.limit_train_batches=13", "trainer.log_every_n_steps=4", "trainer.max_epochs=3"),
        ("trainer.limit_train_batches=13", "trainer.val_check_interval=5", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"),
        ("trainer.limit_train_batches=60", "trainer.max_steps=67", "trainer.max_epochs=3", "trainer.log_every_n_steps=25"),
        ("trainer.limit_train_batches=10", "trainer.val_check_interval=7", "trainer.check_val_every_n_epoch=null"),
        ("trainer.limit_train_batches=4", "trainer.max_epochs=6", "model.lr_schedule.name=cosine", "trainer.log_every_n_steps=3"),
        (
            "trainer.limit_train_batches=4",
            "trainer.max_epochs=9",
            "callbacks=early_stopping",
            "callbacks.early_stopping.patience=1",
        ),
    ],
)
def test_counters_keep_their_meaning(compose: Compose, tmp_path: Path, settings: tuple[str, ...]) -> None:
    (plain, log, _), (fast, other, _) = (run(compose, tmp_path, path, *SMALL, *settings) for path in ("false", "auto"))
    assert log == other
    assert plain.trainer.global_step == fast.trainer.global_step
    loops = [result.trainer.fit_loop.state_dict() for result in (plain, fast)]
    assert loops[0] == loops[1]


@pytest.mark.parametrize(
    "settings",
    [
        ("model=vae", *SMALL, "trainer.limit_train_batches=100"),
        pytest.param(("model=cvae_cnn2", "trainer.limit_train_batches=10"), marks=[pytest.mark.slow, pytest.mark.exhaustive]),
        pytest.param(("model=cvae_cnn3", "trainer.limit_train_batches=10"), marks=pytest.mark.slow),
        pytest.param(("model=cnn", "trainer.limit_train_batches=3"), marks=[pytest.mark.slow, pytest.mark.exhaustive]),  # a minute
    ],
    ids=lambda settings: settings[0],
)
def test_compiled_steps_are_the_plain_ones_within_rounding(compose: Compose, tmp_path: Path, settings: tuple[str, ...]) -> None:
    both = ("trainer.max_epochs=2", "trainer.log_every_n_steps=5")
    (_, log, weights), (_, other, others) = (run(compose, tmp_path, path, *settings, *both) for path in ("false", "true"))
    assert_close(log, other, 1e-4)
    for name, value in weights.items():
        assert torch.allclose(value, others[name], atol=2e-3), name


@pytest.mark.slow
def test_compiled_run_is_the_same_every_time_and_resumes_exactly(compose: Compose, tmp_path: Path) -> None:
    # of three batches an epoch, the last has 40 images only
    settings = (*SMALL, "trainer.compile=true", "data.val_size=59800", "data.batch_size=80", "trainer.limit_train_batches=1.0")
    first, again = (train(compose(*settings, "trainer.max_epochs=2", folder=name)) for name in ("first", "again"))
    assert first.metrics == again.metrics
    train(compose(*settings, "trainer.max_epochs=2", "trainer.max_steps=2", folder="part"))
    rest = train(compose(*settings, "trainer.max_epochs=2", f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt", folder="rest"))
    assert rest.metrics == first.metrics


def test_second_fit_steps_with_its_own_optimizer(tmp_path: Path) -> None:
    states = []
    for fast in (False, True):
        torch.manual_seed(0)
        model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
        trainer = quiet_trainer(tmp_path, max_epochs=1)
        if fast:
            assert install(trainer, model) is None
        for epochs in (1, 2):
            trainer.fit_loop.max_epochs = epochs
            trainer.fit(model, DataLoader([(torch.zeros(1, 28, 28), torch.tensor(0))] * 12, batch_size=4))
        states.append([*model.parameters(), *(state["step"] for state in trainer.optimizers[0].state.values())])
    assert all(torch.equal(*pair) for pair in zip(*states, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", [("model=vae", *SMALL), ("model=cvae_cnn3",)])
def test_captured_steps_on_a_gpu_are_the_plain_ones_within_rounding(
    compose: Compose, tmp_path: Path, model: tuple[str, ...]
) -> None:
    both = (*model, "trainer.gpus=1", "trainer.limit_train_batches=100", "trainer.max_epochs=2", "trainer.log_every_n_steps=5")
    (_, log, _), (_, other, _) = (run(compose, tmp_path, path, *both) for path in ("false", "true"))
    assert_close(log, other, 1e-3)


def test_compiler_that_fails_is_said_and_done_without(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch._inductor, "standalone_compile", fail)
    with pytest.warns(UserWarning, match="without compiling \\(no C\\+\\+ compiler\\)"):
        compiled = run(compose, tmp_path, "true", *SMALL)[0]
    assert compiled.metrics == run(compose, tmp_path, "false", *SMALL)[0].metrics


def test_only_long_runs_are_compiled_of_themselves(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(step.Step, "_compiled", lambda *_: compiled.append(True))
    run(compose, tmp_path, "auto", *SMALL)
    assert not compiled
    for number, enough in enumerate((4, 3)):  # of four steps
        monkeypatch.setattr(step, "COMPILE_FROM", enough)
        compiled.clear()
        train(compose(*SMALL, folder=f"long {number}"))
        assert compiled


# ---- where Lightning's own loop stays


class OwnStep(VAE):
    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx)


class SeesBatches(L.Callback):
    def on_train_batch_end(self, *_: Any) -> None: ...


def quiet_trainer(tmp_path: Path, **arguments: Any) -> L.Trainer:
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(**{"accelerator": "cpu", "default_root_dir": tmp_path, **off, **arguments})


@pytest.mark.parametrize(
    ("model", "arguments", "reason"),
    [
        (VAE, {}, None),
        (VAE, {"precision": "bf16-mixed", "max_time": "00:01:00:00"}, None),
        (OwnStep, {}, "OwnStep has its own training_step"),
        (L.LightningModule, {}, "LightningModule is not one of this project's models"),
        (VAE, {"callbacks": [SeesBatches()]}, "SeesBatches has on_train_batch_end; if it can do without"),
        (VAE, {"accumulate_grad_batches": 2}, "accumulate_grad_batches"),
        (VAE, {"precision": "64-true"}, "precision=64-true"),
        (VAE, {"detect_anomaly": True}, "detect_anomaly"),
        (VAE, {"devices": 2, "strategy": "ddp_spawn"}, "several devices"),
    ],
)
def test_what_needs_every_step_keeps_lightnings_loop(
    tmp_path: Path, model: type[L.LightningModule], arguments: dict[str, Any], reason: str | None
) -> None:
    trainer = quiet_trainer(tmp_path, **arguments)
    found = reason_against(trainer, model())
    assert found == install(trainer, model())
    assert (reason in found) if reason and found else reason is found
    assert isinstance(trainer.fit_loop.epoch_loop, ChunkLoop) == (reason is None)


def test_every_model_of_the_project_may_take_the_fast_path(tmp_path: Path) -> None:
    for kind in Module.__subclasses__() + VAE.__subclasses__():
        if kind.__module__.startswith("vae_lightning."):
            assert reason_against(quiet_trainer(tmp_path), kind()) is None, kind


def test_data_of_unknown_length_is_validated_after_its_last_batch(tmp_path: Path) -> None:
    class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            return iter([(torch.zeros(1, 28, 28), torch.tensor(0))] * 70)

    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    assert install(trainer, model) is None
    trainer.fit(model, DataLoader(Stream(), batch_size=1), DataLoader(Stream(), batch_size=10))
    assert trainer.global_step == 140
    assert "val/elbo" in model.evaluation_means


def test_every_epoch_has_its_speed_however_short(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL, "logger=csv", "trainer.limit_train_batches=3", "trainer.max_epochs=3"))
    (log,) = (tmp_path / "run").glob("**/metrics.csv")
    speeds = [float(row["time/images_per_second"]) for row in csv.DictReader(log.open()) if row["time/images_per_second"]]
    assert len(speeds) == 3
    assert min(speeds) > 0


def test_callbacks_see_the_first_step_those_that_are_logged_and_the_last_of_an_epoch(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    whole = Timing.on_train_batch_end

    def noted(self: Timing, trainer: L.Trainer, *arguments: Any) -> None:
        seen.append(trainer.global_step)
        whole(self, trainer, *arguments)

    monkeypatch.setattr(Timing, "on_train_batch_end", noted)
    result = train(compose(*SMALL, "trainer.limit_train_batches=80", "trainer.max_epochs=2"))
    assert isinstance(result.trainer.fit_loop.epoch_loop, ChunkLoop)
    assert seen == [1, 50, 80, 100, 150, 160]
