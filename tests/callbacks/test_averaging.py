"""Averaged weights: the average of what each epoch ended with, beside a training that does not know of it, and the same after a resume."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from vae_lightning import runs
from vae_lightning.callbacks import AveragedWeights
from vae_lightning.commands.train import Result, train
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.errors import ConfigurationError

pytestmark = pytest.mark.usefixtures("graphs_quickly_traced")

Compose = Callable[..., DictConfig]
SMALL = ("model.net.hidden=[16]", "model.latent_dim=2", "logger=none", "trainer.limit_train_batches=10")
AVERAGED = ("callbacks=averaged_weights", "callbacks.averaged_weights.decay=0.5")


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return weights


def averaged_of(folder: Path) -> dict[str, torch.Tensor]:
    return weights_of(folder / "checkpoints" / "averaged.ckpt")


def trained(compose: Compose, folder: str, epochs: int, *words: str) -> Result:
    return train(compose(*SMALL, *words, f"trainer.max_epochs={epochs}", folder=folder))


def test_average_is_of_what_each_epoch_ended_with(compose: Compose, tmp_path: Path) -> None:
    # runs of one seed are the same as far as they go, so that shorter ones end with what the longer one had then
    constant = "model.lr_schedule.name=constant"
    ends = []
    for epochs in (1, 2):
        trained(compose, f"of{epochs}", epochs, constant)
        ends.append(weights_of(tmp_path / f"of{epochs}" / "checkpoints" / "last.ckpt"))
    result = trained(compose, "averaged", 3, constant, *AVERAGED)
    assert isinstance(result.trainer.fit_loop.epoch_loop, ChunkLoop), "the fast path stays"
    ends.append(weights_of(tmp_path / "averaged" / "checkpoints" / "last.ckpt"))
    averaged = averaged_of(tmp_path / "averaged")
    assert set(averaged) == set(ends[0])
    for name, weights in averaged.items():
        expected = (0.25 * ends[0][name] + 0.5 * ends[1][name] + ends[2][name]) / 1.75
        assert torch.allclose(weights, expected, rtol=1e-5, atol=1e-7), name


def test_training_does_not_know_of_it_and_goes_on_with_it(compose: Compose, tmp_path: Path) -> None:
    plain = trained(compose, "plain", 3)
    whole = trained(compose, "whole", 3, *AVERAGED)
    assert plain.metrics == whole.metrics
    trained(compose, "half", 1, *AVERAGED)
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    trained(compose, "more", 3, *AVERAGED, f"ckpt_path={last}")
    expected = averaged_of(tmp_path / "whole")
    assert all(torch.equal(weights, expected[name]) for name, weights in averaged_of(tmp_path / "more").items())


def test_several_averages_go_on_each_with_its_own(compose: Compose, tmp_path: Path) -> None:
    slower = "+callbacks.slower={_target_: vae_lightning.callbacks.AveragedWeights, dirpath: '${run_dir}/checkpoints', filename: slower.ckpt}"
    words = (*AVERAGED, slower, "callbacks.averaged_weights.decay=0.1")
    trained(compose, "whole", 2, *words)
    trained(compose, "half", 1, *words)
    trained(compose, "more", 2, *words, f"ckpt_path={tmp_path / 'half' / 'checkpoints' / 'last.ckpt'}")
    for name in ("averaged", "slower"):
        expected = weights_of(tmp_path / "whole" / "checkpoints" / f"{name}.ckpt")
        found = weights_of(tmp_path / "more" / "checkpoints" / f"{name}.ckpt")
        assert all(torch.equal(weights, expected[key]) for key, weights in found.items())
    assert not torch.equal(*(averaged_of(tmp_path / run)["encoder.loc.weight"] for run in ("whole", "half")))
    slow, fast = (weights_of(tmp_path / "whole" / "checkpoints" / f"{name}.ckpt") for name in ("slower", "averaged"))
    assert not torch.equal(slow["encoder.loc.weight"], fast["encoder.loc.weight"])


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt", "averaged", "../averaged.ckpt"])
def test_file_that_would_stand_in_anothers_place_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"filename=.*: must be the name of a file"):
        AveragedWeights("checkpoints", filename=name)


def test_average_is_loaded_as_any_checkpoint_is(compose: Compose, tmp_path: Path) -> None:
    trained(compose, "run", 2, *AVERAGED)
    folder, path = runs.find(None, str(tmp_path / "run" / "checkpoints" / "averaged.ckpt"))
    loaded, averaged = runs.load(folder, path), averaged_of(tmp_path / "run")
    assert all(torch.equal(weights, averaged[name]) for name, weights in loaded.model.state_dict().items())
    assert (loaded.epoch, loaded.step) == (1, 20)


def test_average_of_weights_in_half_precision_is_not_rounded_to_it() -> None:
    callback, model = AveragedWeights("checkpoints", decay=0.99), torch.nn.Linear(3, 2).to(torch.bfloat16)
    for epoch in range(100):
        trainer: Any = SimpleNamespace(is_last_batch=True, current_epoch=epoch)
        callback.on_train_batch_end(trainer, model, None, None, 0)  # type: ignore[arg-type]
    state = callback.state_dict()
    for name, weights in model.named_parameters():  # which stay as they are, as therefore does their average
        assert torch.allclose((state["sums"][name] / state["shares"]).float(), weights.float(), rtol=1e-5, atol=1e-7), name


def test_nothing_is_written_of_a_training_that_no_epoch_ended(compose: Compose, tmp_path: Path) -> None:
    trained(compose, "run", 1, *AVERAGED, "trainer.max_steps=5")
    assert not (tmp_path / "run" / "checkpoints" / "averaged.ckpt").exists()


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_share_that_does_not_fall_is_refused(decay: float) -> None:
    with pytest.raises(ConfigurationError, match=r"decay=.*: must be at least 0 and below 1"):
        AveragedWeights("checkpoints", decay=decay)
