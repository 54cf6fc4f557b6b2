"""Short fits of any model on random images, on Lightning's own loop and on the fast path."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as L
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning import VAE, BetaVAE
from vae_lightning.engine import install
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.models.base import Module

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


# ---- all that comes out of a fit, and its comparison


class Memory(Logger):
    """A logger that keeps what it is given."""

    name, version = "memory", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({"step": float(step or 0), **metrics})

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...


class Fit(NamedTuple):
    """What came out of a training: all of it is the same on the fast path and on Lightning's own loop."""

    weights: Weights
    state: dict[str, Any]
    """The optimizer's, with its groups' numbers."""
    logged: list[dict[str, float]]
    trainer: L.Trainer


def fitted(
    build: Callable[[], L.LightningModule], data: Any, folder: Path, *, fast: bool, weights: Weights | None = None, **arguments: Any
) -> Fit:
    """A training of the model that `build` makes on a loader or a data module, with arguments of the Trainer."""
    torch.manual_seed(0)
    model, memory = build(), Memory()
    if weights is not None:
        model.load_state_dict(weights)
    off = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 2, "default_root_dir": folder, "logger": memory}
    trainer = L.Trainer(**{**off, **defaults, **arguments})
    if fast:
        install(trainer, model, compile=True)
    trainer.fit(model, **({"datamodule": data} if isinstance(data, L.LightningDataModule) else {"train_dataloaders": data}))
    (optimizer,) = trainer.optimizers
    after = {name: value.clone() for name, value in model.state_dict().items()}
    return Fit(after, copy.deepcopy(optimizer.state_dict()), memory.rows, trainer)


def assert_same_fit(fit: Fit, other: Fit, within: float = 1e-5, of_state: float = 1e-4) -> None:
    """Weights, optimizer state and everything logged are the same within rounding.

    Args:
        of_state: how far a number of the optimizer's may be off, to the largest one beside it.
    """
    assert_same(fit.weights, other.weights, within)
    assert fit.state["param_groups"] == other.state["param_groups"]
    assert fit.state["state"].keys() == other.state["state"].keys()
    for number, values in fit.state["state"].items():
        for name, value in values.items():
            counterpart = other.state["state"][number][name]
            scale = float(torch.as_tensor(value).abs().max()) or 1.0
            torch.testing.assert_close(value, counterpart, rtol=0, atol=of_state * scale, msg=lambda m, n=name: f"{n}: {m}")
    assert len(fit.logged) == len(other.logged)
    for row, counterpart in zip(fit.logged, other.logged, strict=True):
        assert row == pytest.approx(counterpart, rel=10 * within, abs=10 * within)


# ---- small models, and those that change as training goes on

SMALL: dict[str, Any] = {"latent_dim": 3, "net": {"name": "mlp", "hidden": [12]}}
SGD: dict[str, Any] = {"name": "sgd", "lr": 1e-4}
"""Under which a gradient that is a little off leaves a trace, as it does not under Adam."""


class EachEpoch(BetaVAE):
    """Changes as a new epoch starts."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.change(self.current_epoch)

    def change(self, epoch: int) -> None:
        raise NotImplementedError


def small(kind: type[Module] = VAE, **arguments: Any) -> Callable[[], Module]:
    return lambda: kind(**{**SMALL, "optimizer": SGD, **arguments})


def fast_as_plain(build: Callable[[], Module], folder: Path, *, within: float = 1e-6, **arguments: Any) -> Fit:
    """The fast one of two trainings of the model that `build` makes, which are found to be the same.

    Callbacks are given by what makes them, as either training has its own.
    """
    makers = arguments.pop("callbacks", ())
    fits = []
    for fast in (False, True):
        fits.append(fitted(build, images(), folder, fast=fast, callbacks=[make() for make in makers], **arguments))
    assert_same_fit(*fits, within=within, of_state=100 * within)
    return fits[-1]
