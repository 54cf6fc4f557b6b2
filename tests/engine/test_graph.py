"""A whole step in one graph takes the steps that Lightning's own loop takes, on the images that lie in memory."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from omegaconf import DictConfig

from vae_lightning import VAE, MNISTDataModule
from vae_lightning.commands.train import Result, train
from vae_lightning.engine import install
from vae_lightning.engine.graph import StepGraph
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.errors import NotFiniteError
from vae_lightning.types import Terms

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

Compose = Callable[..., DictConfig]
SMALL = (
    "model.net.hidden=[16]",
    "model.latent_dim=3",
    "data.batch_size=16",
    "trainer.limit_train_batches=9",
    "trainer.max_epochs=2",
)
SEEN = ("trainer.log_every_n_steps=4", "logger=csv")


def graph_of(trainer: L.Trainer) -> StepGraph | None:
    loop = trainer.fit_loop.epoch_loop
    assert isinstance(loop, ChunkLoop)
    return loop.step._graph


def run(compose: Compose, tmp_path: Path, *overrides: str, folder: str, path: str) -> tuple[Result, list[dict[str, float]]]:
    result = train(compose(*SMALL, *SEEN, f"trainer.compile={path}", *overrides, folder=folder))
    (log,) = (tmp_path / folder).glob("**/metrics.csv")
    lines = csv.DictReader(log.open())
    return result, [{k: float(v or "nan") for k, v in line.items() if not k.startswith("time/")} for line in lines]


@pytest.mark.parametrize(
    "settings",
    [
        ("model=vae", "model.net.dropout=0.2", "model.num_samples=2", "data.augment_shift=2"),
        ("model=beta_vae", "trainer.gradient_clip_val=0.5", "model.lr_schedule.name=cosine", "data.binarization=threshold"),
        ("model=iwae", "trainer.gradient_clip_val=0.05", "trainer.gradient_clip_algorithm=value"),
        ("model=m2", "model.net.hidden=[16]", "data.num_labels=100", "data.labelled_batch_size=4"),
    ],
    ids=lambda settings: settings[0],
)
def test_whole_steps_are_the_plain_ones_within_rounding(compose: Compose, tmp_path: Path, settings: tuple[str, ...]) -> None:
    (plain, log), (whole, other) = (run(compose, tmp_path, *settings, folder=path, path=path) for path in ("false", "true"))
    graph = graph_of(whole.trainer)
    assert graph is not None
    assert graph.data is not None
    assert len(log) == len(other) > 4
    for line, counterpart in zip(log, other, strict=True):
        assert line == pytest.approx(counterpart, rel=1e-4, abs=1e-4, nan_ok=True)
    for name, value in plain.trainer.lightning_module.state_dict().items():
        torch.testing.assert_close(whole.trainer.lightning_module.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert plain.trainer.datamodule.state_dict() == whole.trainer.datamodule.state_dict()
    assert plain.trainer.fit_loop.state_dict() == whole.trainer.fit_loop.state_dict()


def test_bfloat16_products_read_kept_copies_of_the_weights(compose: Compose, tmp_path: Path) -> None:
    """Without a change of what autocast computes: the copies hold what converting would give."""
    settings = ("model=vae", "trainer.precision=bf16-mixed")
    (plain, log), (whole, other) = (run(compose, tmp_path, *settings, folder=path, path=path) for path in ("false", "true"))
    graph = graph_of(whole.trainer)
    assert graph is not None
    for twin, weight in zip(graph.state.twins, graph.state.trained, strict=True):
        assert torch.equal(twin, weight.bfloat16())
    assert other[-1]["train/loss"] == pytest.approx(log[-1]["train/loss"], rel=1e-2, nan_ok=True)
    assert whole.metrics["val/elbo"] == pytest.approx(plain.metrics["val/elbo"], rel=1e-2)


@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_resumes_to_the_bit_within_an_epoch(compose: Compose, tmp_path: Path, optimizer: str) -> None:
    settings = ("model=vae", f"model.optimizer.name={optimizer}", "model.optimizer.lr=1e-3")
    whole, _ = run(compose, tmp_path, *settings, folder="whole", path="true")
    run(compose, tmp_path, *settings, "trainer.max_steps=13", folder="part", path="true")
    checkpoint = f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt"
    rest, _ = run(compose, tmp_path, *settings, checkpoint, folder="rest", path="true")
    assert rest.metrics == whole.metrics
    for name, value in whole.trainer.lightning_module.state_dict().items():
        assert torch.equal(rest.trainer.lightning_module.state_dict()[name], value), name


class Breaks(VAE):
    def objective(self, terms: Terms) -> torch.Tensor:
        return terms.log_likelihood - terms.kl - torch.where(terms.step >= 6, math.nan, 0.0)


class OwnPreparation(MNISTDataModule):
    def prepared(self, images: torch.Tensor, labels: torch.Tensor, source: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = super().prepared(images, labels, source)
        return 1 - x, y


def fitted(data: L.LightningDataModule, model: VAE, tmp_path: Path, **arguments: Any) -> L.Trainer:
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", default_root_dir=tmp_path, max_epochs=1, limit_val_batches=0, **off, **arguments)
    assert install(trainer, model, compile=True) is None
    trainer.fit(model, datamodule=data)
    return trainer


def build(kind: type[VAE] = VAE) -> VAE:
    torch.manual_seed(0)
    return kind(latent_dim=3, net={"name": "mlp", "hidden": [16]})


def test_step_whose_loss_is_not_finite_leaves_all_as_it_was(mnist_root: Path, tmp_path: Path) -> None:
    data, before, model = MNISTDataModule(mnist_root, batch_size=16), build(), build(Breaks)
    with pytest.raises(NotFiniteError, match=r"the loss of step 7 \(epoch 0\) is not finite") as error:
        fitted(data, model, tmp_path, limit_train_batches=20)
    assert error.value.record["images"] == [int(n) for n in model.trainer.train_dataloader.image_numbers(6)]
    fitted(MNISTDataModule(mnist_root, batch_size=16), before, tmp_path, limit_train_batches=6)
    for name, value in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    assert all(float(state["step"]) == 6 for state in model.trainer.optimizers[0].state.values())


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_optimizer_that_makes_its_state_in_its_first_step_is_within_the_graph(name: str, mnist_root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VAE(latent_dim=3, net={"name": "mlp", "hidden": [16]}, optimizer={"name": name, "lr": 1e-4})
    graph = graph_of(fitted(MNISTDataModule(mnist_root, batch_size=16), model, tmp_path, limit_train_batches=4))
    assert graph is not None
    assert graph.update is not None


def test_own_preparation_of_images_stays_outside_of_the_graph(mnist_root: Path, tmp_path: Path) -> None:
    seen = []
    for kind in (OwnPreparation, MNISTDataModule):
        trainer = fitted(kind(mnist_root, batch_size=16), build(), tmp_path, limit_train_batches=4)
        graph = graph_of(trainer)
        assert graph is not None
        assert graph.update is not None
        seen.append((graph.data is None, trainer.lightning_module.decoder.output_bias.detach()))
    assert [outside for outside, _ in seen] == [True, False]
    assert not torch.allclose(seen[0][1], seen[1][1])
