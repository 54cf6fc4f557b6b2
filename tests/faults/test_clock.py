"""Runs that begin in the same microsecond, and so would take the same folder: one has it, and the others are told so."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.train import train

Compose = Callable[..., DictConfig]
SHAPES = ("data=shapes2d", "data.train_size=200", "data.val_size=100", "data.test_size=100")
SMALL = (*SHAPES, "model.net.hidden=[8]", "model.latent_dim=2", "callbacks.latents=null", "trainer.log_every_n_steps=1")


def _train(start: "multiprocessing.synchronize.Barrier", cfg: DictConfig, results: "multiprocessing.SimpleQueue[object]") -> None:
    start.wait()
    try:
        results.put((int(cfg.seed), dict(train(cfg).metrics)))
    except BaseException as error:
        results.put(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("count", [2, 6])
def test_of_runs_that_begin_at_once_one_has_the_folder(compose: Compose, tmp_path: Path, count: int) -> None:
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(count), fork.SimpleQueue()
    configs = [compose(*SMALL, f"seed={seed}") for seed in range(count)]
    processes = [fork.Process(target=_train, args=(start, cfg, results)) for cfg in configs]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    winners = [result for result in found if isinstance(result, tuple)]
    refused = [result for result in found if isinstance(result, str)]
    assert len(winners) == 1, refused
    assert all(line.startswith(f"ConfigurationError: hydra.run.dir={tmp_path / 'run'}: ") for line in refused), refused
    (seed, metrics), folder = winners[0], tmp_path / "run"
    assert OmegaConf.load(folder / ".hydra" / "config.yaml").seed == seed
    written = json.loads((folder / "metrics.json").read_text())
    assert (written["metrics"], written["provenance"]["seed"]) == (metrics, seed)
    assert len(list((folder / "tensorboard").glob("events*"))) == len(set((folder / "tensorboard").glob("events*.*")))
