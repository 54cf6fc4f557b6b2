"""The file of a test's values of each image."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from vae_lightning.callbacks import value_recorder
from vae_lightning.commands.train import train
from vae_lightning.runs.history import per_image


def test_values_have_the_means_of_the_test(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    train(compose("model.net.hidden=[8]", "model.latent_dim=2", "trainer.limit_test_batches=2"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    values = per_image(tmp_path / "run")
    tested = {key.removeprefix("test/"): value for key, value in metrics.items() if key.startswith("test/")}
    assert set(values) == {*tested, "_images"}
    for name, value in tested.items():
        assert values[name].shape == (200,)
        assert values[name].mean() == pytest.approx(value, rel=1e-12), name
    assert np.allclose(values["elbo"], values["log_likelihood"] - values["kl"], rtol=1e-5)


def test_runs_of_other_models_have_the_same_images(compose: Callable[..., DictConfig], tmp_path: Path) -> None:
    for folder, settings in {"a": ["model.latent_dim=2"], "b": ["model.latent_dim=3", "seed=1", "data.eval_batch_size=60"]}.items():
        train(compose("model.net.hidden=[8]", "trainer.limit_test_batches=1", *settings, folder=folder))
    one, other = (per_image(tmp_path / folder)["_images"] for folder in "ab")
    assert np.array_equal(one[:60], other)
    assert len(set(other)) == 60


def test_file_that_cannot_be_written_is_said_and_costs_nothing_else(
    compose: Callable[..., DictConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_recorder.np, "savez", no_room)
        train(compose("model.net.hidden=[8]", "model.latent_dim=2"))
    assert (
        "test_per_image.npz: could not be written (No space left on device); the run has no values of single images" in caplog.text
    )
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not (tmp_path / "run" / "test_per_image.npz").exists()
