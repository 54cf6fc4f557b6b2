"""Numbers at the ends of their range: a training has finite figures, is refused before its first step, or stops with what went wrong."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import pytorch_lightning as L
import torch
from lightning_fabric.connector import _PRECISION_INPUT
from omegaconf import DictConfig

from vae_lightning.commands.rehearsal import REFUSED
from vae_lightning.commands.train import train
from vae_lightning.distributions.likelihoods import LIKELIHOODS
from vae_lightning.errors import ConfigurationError, NotFiniteError

Compose = Callable[..., DictConfig]
SHAPES = ("data=shapes2d", "data.train_size=65", "data.val_size=33", "data.test_size=33", "data.eval_batch_size=32")
NARROW = ("model.net.hidden=[8]", "callbacks=none", "logger=none", "trainer.max_epochs=2")
WHOLE = ("trainer.limit_train_batches=null", "trainer.limit_val_batches=null", "trainer.limit_test_batches=null")
SMALL = (*SHAPES, *NARROW, *WHOLE)
"""Last batches of one image: 65 = 2 * 32 + 1, and 33 = 32 + 1."""


def options(kinds: Any) -> list[Any]:
    return [option for kind in get_args(kinds) for option in (options(kind) if get_args(kind) else [kind])]


def strict(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("precision", options(_PRECISION_INPUT))
def test_every_precision_trains_or_is_refused_before_training(compose: Compose, tmp_path: Path, precision: object) -> None:
    cfg = compose(*SMALL, "model.latent_dim=2", f"trainer.precision={precision}")
    if precision in REFUSED:
        with pytest.raises(ConfigurationError, match=rf"^trainer\.precision={precision}: "):
            train(cfg)
        assert not (tmp_path / "run").exists()
        return
    metrics = train(cfg).metrics
    assert metrics["test/elbo"] < 0
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("loop", ["auto", pytest.param("false", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "settings",
    [
        ("model.latent_dim=1",),
        ("model.latent_dim=1000",),
        ("model.latent_dim=2", "data.batch_size=1", "data.eval_batch_size=1"),
        ("model=iwae", "model.latent_dim=1", "data.batch_size=1"),
        ("model=cnn", "~model.net.hidden"),
    ],
    ids=lambda settings: " ".join(settings),
)
def test_sizes_at_the_ends_of_their_range_train(compose: Compose, settings: tuple[str, ...], loop: str) -> None:
    small = [word for word in SMALL if "model=cnn" not in settings or not word.startswith("model.net")]
    words = [word for word in settings if not word.startswith("~")]
    result = train(compose(*small, *words, f"trainer.compile={loop}"))
    batches = 65 if "data.batch_size=1" in settings else 3
    assert result.trainer.global_step == 2 * batches, "the last batch of one image is a step too"
    assert all(math.isfinite(value) for value in result.metrics.values())


class Sets(L.Callback):
    """Lets the linear layer `name` give `value` whatever goes into it."""

    def __init__(self, name: str, value: float) -> None:
        self.name, self.value = name, value

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        layer = pl_module.get_submodule(self.name)
        with torch.no_grad():
            layer.get_parameter("weight").zero_()
            layer.get_parameter("bias").fill_(self.value)


def setting(name: str, value: float) -> tuple[str, ...]:
    kind = f"{Sets.__module__}.Sets"
    return (f"+callbacks.sets._target_={kind}", f"+callbacks.sets.name={name}", f"+callbacks.sets.value={value}")


SGD = ("model.latent_dim=2", "model.optimizer.name=sgd", "model.optimizer.lr=1e-30", "trainer.max_epochs=1")


@pytest.mark.parametrize("loop", ["auto", pytest.param("false", marks=pytest.mark.slow)])
@pytest.mark.parametrize("value", [-1000.0, -200, -80, 0, 30, 120, 1000])
def test_extreme_log_variances_train_or_stop_by_name(compose: Compose, tmp_path: Path, value: float, loop: str) -> None:
    cfg = compose(*SMALL, *SGD, *setting("encoder.log_variance", value), f"trainer.compile={loop}")
    if abs(value) < 87:  # the variance is a float32 that is neither 0 nor infinite
        metrics = train(cfg).metrics
        exact = 0.5 * 2 * (math.exp(value) - 1 - value)
        assert metrics["train/kl"] == pytest.approx(exact, rel=1e-3, abs=0.3)
        return
    with pytest.raises(
        NotFiniteError, match=r"the loss of step 1 \(epoch 0\) is not finite; the first tensor that is not: .*; try"
    ) as error:
        train(cfg)
    assert len(error.value.record["images"]) == 32
    assert strict(tmp_path / "run" / "metrics.json")["not_finite"]["step"] == 0
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [-1e6, -100.0, 100.0, 1e6])
@pytest.mark.parametrize("likelihood", sorted(LIKELIHOODS))
def test_saturated_outputs_have_finite_likelihoods_and_gradients(likelihood: str, value: float) -> None:
    module = LIKELIHOODS[likelihood]()
    outputs = torch.full((4, module.outputs, 3, 3), value, requires_grad=True)
    x = torch.linspace(0, 1, 36).reshape(4, 1, 3, 3)
    x = x.round() if module.binary else x
    log_likelihood = module(outputs).log_prob(x)
    assert log_likelihood.shape == (4,)
    assert log_likelihood.isfinite().all()
    log_likelihood.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("infinity", [math.nan, math.inf])
def test_loss_that_is_lost_says_all_that_is_needed(compose: Compose, tmp_path: Path, infinity: float) -> None:
    with pytest.raises(NotFiniteError, match=r"step 1 \(epoch 0\).*weights decoder\.\S*bias; try a smaller learning rate") as error:
        train(compose(*SMALL, *SGD, *setting("decoder.body.2", infinity)))
    record = strict(tmp_path / "run" / "metrics.json")
    assert record["not_finite"]["epoch"] == 0
    assert len(set(record["not_finite"]["images"])) == 32
    assert record["not_finite"]["first_tensor"].startswith("weights decoder.")
    assert str(tmp_path / "run" / "metrics.json") in str(error.value)
