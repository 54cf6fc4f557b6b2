"""Short fits of any model on random images, on Lightning's own loop and on the fast path."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning.engine import install
from vae_lightning.engine.loop import ChunkLoop

Weights = dict[str, Tensor]
STEPS = 6
"""Of an epoch."""


def images(labelled: bool = True) -> DataLoader[Any]:
    """Six batches of four binary images with labels; only a quarter of them have one unless `labelled`."""
    x = (torch.rand(4 * STEPS, 1, 28, 28, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    y = torch.arange(4 * STEPS) % 10
    return DataLoader(TensorDataset(x, y if labelled else torch.where(y % 4 == 3, y, -1)), batch_size=4)


def fit(
    build: Callable[[], L.LightningModule],
    folder: Path,
    *,
    fast: bool,
    labelled: bool = True,
    callbacks: Sequence[Callable[[], L.Callback]] = (),
    fits: int = 1,
    **arguments: Any,
) -> tuple[Weights, L.Trainer]:
    """Weights after two epochs, and the Trainer; with the fast path, if it takes the model, from the first step on."""
    torch.manual_seed(0)
    model = build()
    off = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 3, "default_root_dir": folder}
    trainer = L.Trainer(**{**off, **defaults, **arguments}, callbacks=[callback() for callback in callbacks])
    if fast:
        install(trainer, model, compile=True)
    for number in range(fits):
        trainer.fit_loop.max_epochs = (number + 1) * int({**defaults, **arguments}["max_epochs"])
        trainer.fit(model, images(labelled))
    return {name: value.clone() for name, value in model.state_dict().items()}, trainer


def graphs(trainer: L.Trainer) -> int:
    """How many graphs the fits of `trainer` compiled."""
    loop = trainer.fit_loop.epoch_loop
    return loop.step.graphs if isinstance(loop, ChunkLoop) else 0


def assert_same(weights: Weights, others: Weights, within: float = 1e-5) -> None:
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=within, atol=within, msg=lambda text, name=name: f"{name}: {text}")
