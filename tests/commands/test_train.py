"""A training run: reproducible, resumable within an epoch, and all of it in its folder."""

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig, open_dict
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning import VAE, MNISTDataModule
from vae_lightning.commands.config import check_config
from vae_lightning.commands.train import _of_a_child, train
from vae_lightning.commands.treatments import treatment_of
from vae_lightning.errors import ConfigurationError, DataError, NotFiniteError, StorageError

CONF = Path(__file__).resolve().parents[2] / "conf"
Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[32]", "model.latent_dim=3")


@pytest.mark.parametrize("model", ["vae", "cvae_cnn3", "cnn"])
def test_same_seed_gives_the_same_metrics_to_the_bit(compose: Compose, model: str) -> None:
    first, again = (train(compose(f"model={model}", folder=name)).metrics for name in ("a", "b"))
    other = train(compose(f"model={model}", "seed=1", folder="c")).metrics
    assert first == again
    assert first != other


@pytest.mark.parametrize("model", ["model=vae model.net.dropout=0.2", "model=capacity_vae model.capacity_steps=10", "model=iwae"])
def test_resuming_within_an_epoch_is_exact(compose: Compose, tmp_path: Path, model: str) -> None:
    settings = [*model.split(), *SMALL, "trainer.max_epochs=2", "trainer.limit_train_batches=6"]
    whole = train(compose(*settings, folder="whole"))
    train(compose(*settings, "trainer.max_steps=4", folder="part"))
    rest = train(compose(*settings, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt", folder="rest"))
    assert rest.trainer.global_step == whole.trainer.global_step == 12
    # the weights training ended with, not those of the best checkpoint
    ends = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "rest")
    ]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_folder_holds_metrics_in_the_fixed_form_and_checkpoints_that_load_safely(compose: Compose, tmp_path: Path) -> None:
    result = train(compose(*SMALL))
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(record) == {"format", "metrics", "treatment", "model", "timing", "provenance"}
    assert set(record["model"]) == {"name", "parameters"}
    assert set(record["timing"]) == {"seconds", "images_per_second", "first_step_seconds"}
    provenance = {"command", "seed", "git_commit", "git_dirty", "versions", "data_checksums", "machine"}
    assert set(record["provenance"]) == provenance
    assert record["metrics"] == result.metrics
    assert record["treatment"] == treatment_of(result.model, result.data).plain
    assert {"train/elbo", "val/elbo", "test/elbo"} <= set(result.metrics)
    assert result.objective == result.metrics["val/elbo"]
    for name in ("best", "last"):
        path = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
        torch.load(path, weights_only=True)
        assert VAE.load_from_checkpoint(path, weights_only=True).latent_dim == 3
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    "setting",
    [
        "trainer.gradient_clip_val=0.1",
        "trainer.gradient_clip_val=0.1 trainer.precision=bf16-mixed",
        "trainer.precision=bf16-mixed",
        "trainer.accumulate_grad_batches=2",
        "trainer.limit_val_batches=0",
        "trainer.fast_dev_run=true",
        "trainer.enable_checkpointing=false",
        "callbacks.checkpoint=null",
        "logger.tensorboard=null",
        "model.lr_schedule.name=cosine",
        "model.start_from_mean=true",
        "data.permute_pixels=true",
        "data.binarization=threshold",
    ],
)
def test_setting_trains(compose: Compose, setting: str) -> None:
    metrics = train(compose(*SMALL, *setting.split())).metrics
    assert all(value == value for value in metrics.values())


def test_fused_optimizer_that_could_not_clip_is_refused(compose: Compose, tmp_path: Path) -> None:
    asked = ("trainer.gradient_clip_val=0.1", "trainer.precision=bf16-mixed", "+model.optimizer.fused=true")
    with pytest.raises(ConfigurationError, match=r"^model\.optimizer\.fused=True: clips no gradients in mixed precision"):
        train(compose(*SMALL, *asked))
    assert not (tmp_path / "run").exists()


def test_users_own_trainer_and_data_train_our_model(tmp_path: Path) -> None:
    data = TensorDataset(torch.rand(64, 1, 28, 28).round(), torch.randint(0, 10, (64,)))
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [16]})
    before = model.decoder.output_bias.detach().clone()
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(model, DataLoader(data, batch_size=16))
    assert not torch.equal(before, model.decoder.output_bias)


def test_users_own_module_trains_on_our_data(mnist_root: Path, tmp_path: Path) -> None:
    class Linear(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(784, 10)
            self.losses: list[float] = []

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
            x, y = batch
            loss = torch.nn.functional.cross_entropy(self.layer(x.flatten(1)), y)
            self.losses.append(float(loss))
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    model = Linear()
    trainer = L.Trainer(
        max_epochs=1,
        limit_train_batches=40,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, datamodule=MNISTDataModule(root=str(mnist_root)))
    assert model.losses[-1] < 0.5 * model.losses[0]


PLAIN = """
import pytorch_lightning as L
import torch


class Plain(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.layer(x.flatten(1)), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Silent(Plain):
    def validation_step(self, batch, batch_idx):
        self.log("val/mine", self.training_step(batch, batch_idx))

    test_step = validation_step
"""


@pytest.mark.parametrize(
    ("name", "said", "metrics"),
    [
        ("Plain", ["a Plain: has no validation_step, so there are no such metrics", "a Plain: has no test_step"], set()),
        (
            "Silent",
            ["monitor=val/loss: is not logged by validation_step, so no best.ckpt is kept; logged are: val/mine"],
            {"val/mine"},
        ),
    ],
)
def test_model_that_is_not_validated_or_logs_no_loss_is_trained_to_its_end(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    said: list[str],
    metrics: set[str],
) -> None:
    (tmp_path / "plain_parts.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    cfg = compose("trainer.max_epochs=2")
    with open_dict(cfg):
        cfg.model = {"_target_": f"plain_parts.{name}"}
    result = train(cfg)
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]) == metrics
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} - {"last.previous.ckpt"} == {"last.ckpt"}
    for line in said:
        assert len([message for message in caplog.messages if message.startswith(line)]) == 1
    assert result.folder == tmp_path / "run"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_dim=abc", "model.latent_dim='abc'"),
        ("model.latent_dim=true", "model.latent_dim=True"),
        ("model.latent_dim=0", "model.latent_dim=0: must be at least 1"),
        ("model.net.hidden=[]", "model.net.hidden"),
        ("model.net.activation=rellu", "did you mean relu"),
        ("+model.optimizer.weight_decy=1", "did you mean model.optimizer.weight_decay"),
        ("data.batch_size=0", "data.batch_size=0"),
        ("data.val_size=60000", "data.val_size=60000"),
        ("data.binarization=dinamic", "data.binarization"),
        ("trainer.max_epochs=x", "trainer.max_epochs='x'"),
        ("trainer.precision=foo", "trainer.precision"),
        ("trainer.gpus=-2", "trainer.gpus=-2"),
        ("trainer.strategy=foo", "strategy"),
        ("seed=abc", "seed=abc"),
        ("trainer.threads=0", "trainer.threads=0: must be auto"),
        ("trainer.threads=two", "trainer.threads='two'"),
        ("+foo=1", "foo: no such key"),
        ("trainer.min_epochs=none", "; write null"),
        ("model.latent_dim=1e1", "; write 10"),
        ("model.latent_dim=99999999999999999999", "model: "),
        ("callbacks.checkpoint.mode=foo", "callbacks.checkpoint: "),
        ("trainer.profiler=foo", "trainer: "),
        ("+model.optimizer.foreach=true", "model.optimizer.foreach=True"),
    ],
)
def test_wrong_value_is_refused_by_name_before_anything_is_written(
    compose: Compose, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        train(compose(override))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_data_that_are_not_there_are_named_as_they_were_asked_for(kind: str, tmp_path: Path) -> None:
    own = [f"data={kind}", f"data.path={tmp_path}/none", f"run_dir={tmp_path}/run", "name=test"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", own)
    with pytest.raises(DataError, match=rf"^data\.path={tmp_path}/none: there is no such"):
        train(cfg)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_missing_gpu_is_said_with_the_way_out(compose: Compose) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.gpus=0"):
        check_config(compose("trainer.gpus=1"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.binarization=none"],
        ["model/likelihood=gaussian"],
        ["model/likelihood=continuous_bernoulli"],
        ["model/likelihood=gaussian_per_pixel"],
        ["model/likelihood=logistic_mixture"],
        ["model.likelihood.name=foreign_nets.LaplaceLikelihood"],
    ],
)
def test_pair_whose_figure_is_no_elbo_of_binary_data_is_warned_of(compose: Compose, overrides: list[str]) -> None:
    with pytest.warns(UserWarning, match="is not an ELBO of binary data|bound those of dynamically binarized"):
        check_config(compose(*overrides))


@pytest.mark.parametrize("variables", [{"RANK": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}])
def test_training_among_ranks_that_are_not_its_own_logs_and_saves(
    compose: Compose, tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    train(compose(*SMALL))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_nothing_is_advertised(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        check_config(compose(*SMALL))
    assert any("GPU available" in message for message in caplog.messages)
    assert not any("Tip" in message for message in caplog.messages)


def test_no_summary_is_none(compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    train(compose(*SMALL, "trainer.enable_model_summary=null", "callbacks.model_summary=null"))
    assert "MLPEncoder" not in capsys.readouterr().out


def test_threads_are_those_asked_for_and_of_the_next_run_its_own(compose: Compose) -> None:
    before = torch.get_num_threads()
    train(compose(*SMALL, f"trainer.threads={before + 1}", "logger=none"))
    assert torch.get_num_threads() == before + 1
    train(compose(*SMALL, "logger=none", folder="again"))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("threads", "words", "said"), [(2, (), True), (1, (), False), (2, ("trainer.threads=2",), False)])
def test_training_on_a_busy_machine_says_what_may_be_faster(
    compose: Compose,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    threads: int,
    words: tuple[str, ...],
    said: bool,
) -> None:
    monkeypatch.setattr("vae_lightning.commands.train.THREADS", threads)
    monkeypatch.setattr("vae_lightning.commands.train.load_of_others", lambda: 10.75)
    before = torch.get_num_threads()
    train(compose(*SMALL, *words, "logger=none"))
    torch.set_num_threads(before)
    line = "other programs use this machine (load 10.8), where trainer.threads=1 may be several times faster"
    assert (line in caplog.messages) == said


# ---- a run that goes wrong


def test_several_processes_for_one_device_are_refused_by_the_settings_name(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"^trainer\.devices: torchrun started 2 .* give trainer\.devices=2,"):
        train(compose(*SMALL))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [[], ["callbacks.histograms.every_n_epochs=1"], ["trainer.compile=false", "logger=csv"]])
def test_loss_that_is_not_finite_ends_the_run_and_names_the_images(compose: Compose, tmp_path: Path, more: list[str]) -> None:
    broken = ["model/likelihood=gaussian", "data.binarization=none", "model.likelihood.scale=1e-30", *more]
    with pytest.raises(
        NotFiniteError, match=r"the loss of step 1 \(epoch 0\) is not finite.*log_likelihood of the images.*metrics\.json"
    ):
        train(compose(*SMALL, *broken))
    text = (tmp_path / "run" / "metrics.json").read_text()
    record = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    numbers = record["not_finite"]["images"]
    assert len(set(numbers)) == 32
    assert record["not_finite"]["images_not_finite"] == numbers
    (batch, *_) = MNISTDataModule(root=compose().data.root, binarization="none", batch_size=32).train_dataloader()
    data = MNISTDataModule(root=compose().data.root, binarization="none")
    assert torch.equal(data.evaluation_images("train")[0][numbers], batch.images / 255)


def test_figure_that_is_not_finite_at_the_end_is_null_and_an_error(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = VAE.terms

    def broken(self: VAE, *arguments: Any) -> dict[str, torch.Tensor]:
        found = terms(self, *arguments)
        return {**found, "elbo": found["elbo"] / 0} if self._trainer and self.trainer.state.fn == TrainerFn.TESTING else found

    monkeypatch.setattr(VAE, "terms", broken)
    with pytest.raises(NotFiniteError, match="test/elbo: not finite at the end of training"):
        train(compose(*SMALL))
    record = json.loads((tmp_path / "run" / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["metrics"]["test/elbo"] is None
    assert record["metrics"]["val/elbo"] < 0


@pytest.mark.parametrize("nothing", ["trainer.limit_train_batches=0", "trainer.max_epochs=0", "trainer.max_steps=0", None])
def test_training_without_a_step_says_so(compose: Compose, caplog: pytest.LogCaptureFixture, nothing: str | None) -> None:
    train(compose("model.net.hidden=[16]", "model.latent_dim=3", "logger=none", *([nothing] if nothing else ())))
    assert ("no step was trained" in caplog.text) == (nothing is not None)


class LosesWeights(L.Callback):
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with torch.no_grad():
            next(pl_module.parameters()).fill_(math.nan)


def test_images_are_promised_only_where_they_are_known(compose: Compose, tmp_path: Path) -> None:
    own = (
        "model.net.hidden=[16]",
        "model.latent_dim=3",
        "logger=none",
        f"+callbacks.mine._target_={LosesWeights.__module__}.LosesWeights",
    )
    with pytest.raises(NotFiniteError, match=r"val/loss.*metrics\.json says so too$"):
        train(compose(*own))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["not_finite"]["images"] is None


def test_error_of_ours_in_a_process_that_lightning_started_is_ours_here() -> None:
    trace = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  ...\n"
    for said, kind, words in (
        (
            "vae_lightning.errors.NotFiniteError: the loss of step 1 is not finite\n",
            NotFiniteError,
            "the loss of step 1 is not finite",
        ),
        ("vae_lightning.errors.StorageError: x: could not be written\n", StorageError, "x: could not be written"),
        ("RuntimeError: another\n", ProcessRaisedException, f"{trace}RuntimeError: another\n"),
    ):
        found = _of_a_child(ProcessRaisedException(trace + said, 0, 1))
        assert type(found) is kind
        assert str(found) == words


PROBE = """
import sys
from pathlib import Path

import pytorch_lightning as L


class Probe(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        Path("modules").write_text("\\n".join(sys.modules))
        raise KeyboardInterrupt
"""
LATER = (
    *("IPython", "matplotlib", "pandas", "scipy", "sklearn", "torchmetrics.functional", "torchvision"),
    *("vae_lightning.evaluation", "vae_lightning.figures", "vae_lightning.reports", "vae_lightning.testing"),
)
"""Modules that a training imports when it needs them, if ever, and not before its first step: each costs tenths of a second."""


@pytest.mark.slow
def test_first_step_waits_for_no_import_of_what_is_needed_later(mnist_root: Path, tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    settings = (f"data.root={mnist_root}", "model.net.hidden=[32]", "+callbacks.probe._target_=probe.Probe")
    command = [sys.executable, str(CONF.parent / "train.py"), *settings]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (tmp_path / "modules").is_file(), ended.stderr[-2000:]
    imported = set((tmp_path / "modules").read_text().split())
    assert "vae_lightning.engine.step" in imported
    assert not imported & set(LATER)


def test_best_is_judged_by_the_metric_that_was_asked_for(compose: Callable[..., DictConfig]) -> None:
    small = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100", "model.net.hidden=[8]")
    result = train(compose(*small, "monitor=val/kl", "monitor_mode=max", "trainer.max_epochs=2"))
    best: Any = result.trainer.checkpoint_callback
    assert (best.monitor, best.mode) == ("val/kl", "max")
    assert result.objective == result.metrics["val/kl"] == pytest.approx(float(best.best_model_score), rel=1e-6)
