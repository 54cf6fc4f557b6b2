"""Models that are trained in a stack come out as they would alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from vae_lightning import CVAE, IWAE, VAE, BetaVAE
from vae_lightning.callbacks import LastCheckpoint
from vae_lightning.data import ImageDataModule
from vae_lightning.engine.stacked import train_stacked
from vae_lightning.errors import ConfigurationError, NotFiniteError

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

MLP = {"name": "mlp", "hidden": [12]}
NUMBER = 90
"""Training images: eleven batches of eight, and two more."""


class Toy(ImageDataModule):
    """Small random images with labels."""

    label_names = ("zero", "one", "two")
    image_shape = (1, 8, 8)

    def read(self) -> dict[str, tuple[Tensor, Tensor]]:
        source = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (NUMBER, *self.image_shape), dtype=torch.uint8, generator=source)
        labels = torch.arange(NUMBER) % 3
        return {"train": (images, labels), "val": (images[:10], labels[:10]), "test": (images[:10], labels[:10])}


class Losses(L.Callback):
    """Notes the loss of each batch that Lightning sees."""

    sees_every_batch = False

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses[trainer.global_step] = float(outputs["loss"])


class Run:
    """A training with a run folder of its own."""

    def __init__(self, folder: Path, build: Callable[[], Any], callbacks: Sequence[L.Callback] = (), **arguments: Any) -> None:
        seed, data = arguments.pop("data_seed", 0), arguments.pop("data", {})
        torch.manual_seed(seed)
        self.folder, self.model = folder, build()
        self.data = Toy(batch_size=8, eval_batch_size=10, seed=seed, **data)
        self.losses = Losses()
        off = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
        defaults: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 5, "enable_checkpointing": True}
        own = [self.losses, LastCheckpoint(str(folder)), *callbacks]
        self.trainer = L.Trainer(**off, **{**defaults, **arguments}, callbacks=own, logger=CSVLogger(folder, "", ""))

    def alone(self) -> "Run":
        self.trainer.fit(self.model, datamodule=self.data)
        return self

    @property
    def training(self) -> tuple[Any, ...]:
        return self.trainer, self.model, self.data


def both(folder: Path, *descriptions: dict[str, Any]) -> tuple[list[Run], list[Run], list[Exception | None]]:
    """The trainings that `descriptions` are arguments of, each alone, and stacked, and how the stacked ones ended."""
    alone = [Run(folder / f"alone_{n}", **description) for n, description in enumerate(descriptions)]
    for run in alone:
        try:
            run.alone()
        except NotFiniteError:
            pass
    stacked = [Run(folder / f"stacked_{n}", **description) for n, description in enumerate(descriptions)]
    return alone, stacked, train_stacked([run.training for run in stacked])


def assert_same(alone: Run, stacked: Run, within: float = 1e-4) -> None:
    seen = stacked.losses.losses
    assert max(alone.losses.losses) == max(seen)
    assert [alone.losses.losses[step] for step in seen] == pytest.approx(list(seen.values()), rel=within)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(stacked.model.state_dict()[name], value, rtol=10 * within, atol=10 * within, msg=name)
    assert sorted(path.name for path in alone.folder.iterdir()) == sorted(path.name for path in stacked.folder.iterdir())
    lines, others = ((run.folder / "metrics.csv").read_text().splitlines() for run in (alone, stacked))
    assert lines[0] == others[0]
    for line, other in zip(lines, others, strict=True):
        for value, of_other in zip(line.split(","), other.split(","), strict=True):
            assert value == of_other or float(value) == pytest.approx(float(of_other), rel=10 * within, abs=1e-3)


KINDS: dict[str, Callable[..., Any]] = {"vae": VAE, "beta": BetaVAE, "iwae": IWAE, "cvae": CVAE}
DIFFERENCES: dict[str, list[dict[str, Any]]] = {
    "vae": [{"kl_warmup_steps": 0}, {"kl_warmup_steps": 30}],
    "beta": [{"beta": 4.0}, {"beta": 0.5}],
    "iwae": [{"num_samples": 3}, {"num_samples": 3, "kl_warmup_steps": 9}],
    "cvae": [{"num_classes": 3}, {"num_classes": 3}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_a_stack_come_out_as_they_would_alone(kind: str, tmp_path: Path) -> None:
    def description(seed: int) -> dict[str, Any]:
        optimizer = {"name": "adam", "lr": [1e-3, 3e-3][seed]}
        shared = {"latent_dim": 2, "net": MLP, "image_shape": (1, 8, 8), "seed": seed, "optimizer": optimizer}
        return {"build": lambda: KINDS[kind](**shared, **DIFFERENCES[kind][seed]), "data_seed": seed}

    alone, stacked, errors = both(tmp_path, *map(description, range(2)))
    assert errors == [None, None]
    for run, of_stack in zip(alone, stacked, strict=True):
        assert_same(run, of_stack)
