"""Steps in one go are the steps one by one, whatever the schedule, and a chunk looks anew at what may have changed.

What a CUDA graph does with a function, `recorded` does here without a GPU: it keeps which tensors the function read and wrote, and
takes the same ones at every launch.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch

from vae_lightning import VAE, MNISTDataModule
from vae_lightning.engine import chunk, install, loop, step
from vae_lightning.engine.chunk import Chunks
from vae_lightning.engine.graph import StepGraph

RUNS: list[int] = []
"""For each launch of a captured chunk, how many it was of that chunk."""


def recorded(run: Callable[[], None]) -> Callable[[], None]:
    launches = 0

    def launch() -> None:
        nonlocal launches
        launches += 1
        RUNS.append(launches)
        run()

    return launch


def in_chunks(graph: StepGraph) -> Chunks | None:
    return Chunks(graph, recorded) if graph.data is not None else None


class Losses(L.Callback):
    """Logged metrics by step."""

    sees_every_batch = False

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.logged.append({name: float(value) for name, value in trainer.logged_metrics.items()})


def trained(root: Path, chunks: bool, monkeypatch: pytest.MonkeyPatch, **settings: object) -> tuple[VAE, L.Trainer, Losses]:
    torch.manual_seed(0)
    RUNS.clear()
    monkeypatch.setattr(step, "chunks_of", in_chunks if chunks else lambda graph: None)
    monkeypatch.setattr(loop, "CHUNK", 8)
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, seed=3, **settings)
    data = MNISTDataModule(str(root), batch_size=20)
    losses = Losses()
    trainer = L.Trainer(
        max_epochs=2,
        limit_train_batches=45,
        limit_val_batches=1,
        log_every_n_steps=8,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=5.0,
        callbacks=[losses],
    )
    assert install(trainer, model, compile=True) is None
    trainer.fit(model, data)
    return model, trainer, losses


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_steps_in_one_go_are_the_steps_one_by_one(schedule: str, mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, trainer, by_one = trained(mnist_root, False, monkeypatch, lr_schedule=schedule)
    many, other, by_many = trained(mnist_root, True, monkeypatch, lr_schedule=schedule)
    assert len(RUNS) >= 5
    assert max(RUNS) >= 2, "a captured chunk is launched again and again"
    assert trainer.global_step == other.global_step == 90
    assert by_one.logged == by_many.logged
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), many.state_dict().values(), strict=True))
    states = [t.optimizers[0].state_dict()["state"] for t in (trainer, other)]
    assert all(torch.equal(states[0][p][name], states[1][p][name]) for p in states[0] for name in states[0][p])
    assert trainer.fit_loop.epoch_loop.state_dict() == other.fit_loop.epoch_loop.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_counters_and_weights_agree_where_somebody_interrupts(
    schedule: str, mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: dict[int, list[torch.Tensor]] = {}

    def advanced(self: loop.ChunkLoop, *arguments: Any) -> None:
        advance(self, *arguments)
        weights[self.global_step] = [parameter.detach().clone() for parameter in self.trainer.lightning_module.parameters()]

    def interrupted(self: loop.ChunkLoop, *arguments: Any) -> None:
        count(self, *arguments)
        if self.trainer.global_step == 30:
            raise KeyboardInterrupt

    advance, count = loop.ChunkLoop._advance_unseen, loop.ChunkLoop._pass_over
    monkeypatch.setattr(loop.ChunkLoop, "_advance_unseen", advanced)
    trained(mnist_root, False, monkeypatch, lr_schedule=schedule)
    monkeypatch.setattr(loop.ChunkLoop, "_advance_unseen", advance)
    monkeypatch.setattr(loop.ChunkLoop, "_pass_over", interrupted)
    stopped: list[tuple[int, list[torch.Tensor]]] = []
    monkeypatch.setattr(
        Losses, "on_exception", lambda self, trainer, model, error: stopped.append(_present(trainer)), raising=False
    )
    with pytest.raises(SystemExit):
        trained(mnist_root, True, monkeypatch, lr_schedule=schedule)
    ((step_number, present),) = stopped
    assert all(torch.equal(*pair) for pair in zip(present, weights[step_number], strict=True))
    assert step_number == (31 if schedule == "constant" else 30), "a chunk that is launched already is counted to its end"


def _present(trainer: L.Trainer) -> tuple[int, list[torch.Tensor]]:
    return trainer.global_step, [parameter.detach().clone() for parameter in trainer.lightning_module.parameters()]


def test_tables_are_aligned() -> None:
    for dtype, each in ((torch.int64, 0), (torch.int32, 0), (torch.float64, 16), (torch.float32, 16)):
        table = chunk._table(3, 7, dtype, torch.device("cpu"), each)
        assert table.shape == (3, 7)
        assert all(row.data_ptr() % 16 == 0 for row in table)
        assert not each or all(number.data_ptr() % 16 == 0 for row in table for number in row)
