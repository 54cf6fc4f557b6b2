"""Callbacks and flags that change whatever a step depends on act on the fast path as on Lightning's own loop."""

import copy
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from engine_fits import SGD, Fit, assert_same_fit, fast_as_plain, fitted, graphs, images, small
from pytorch_lightning.callbacks import (
    Callback,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelPruning,
    StochasticWeightAveraging,
)
from pytorch_lightning.plugins.precision import Precision
from torch import Tensor

from vae_lightning import VAE, BetaVAE
from vae_lightning.engine import install
from vae_lightning.models.base import Module

pytestmark = pytest.mark.usefixtures("graphs_quickly_traced")

ADAM: dict[str, Any] = {"name": "adam", "lr": 1e-4}


class Calls(Callback):
    """Does something as an epoch starts, and says that it need not see every batch."""

    sees_every_batch = False

    def __init__(self, act: Callable[[L.Trainer, Any], object], epoch: int = 1) -> None:
        self.act, self.epoch = act, epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            self.act(trainer, pl_module)


class CallsWithin(Calls):
    """Does something after the second step of an epoch, where something is logged, so that Lightning sees the batch."""

    sees_every_batch = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None: ...

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.current_epoch == self.epoch and trainer.global_step % trainer.num_training_batches == 2:
            self.act(trainer, pl_module)


@torch.no_grad()
def halve_in_place(trainer: L.Trainer, model: Any) -> None:
    for parameter in model.decoder.parameters():
        parameter.mul_(0.5)


def halve_data(trainer: L.Trainer, model: Any) -> None:
    for parameter in model.decoder.parameters():
        parameter.data = 0.5 * parameter.data


def load_state(trainer: L.Trainer, model: Any) -> None:
    model.load_state_dict({name: 0.5 * value for name, value in model.state_dict().items()})


def load_by_assigning(trainer: L.Trainer, model: Any) -> None:
    """Replaces the parameters, so that the optimizer holds those that were."""
    model.load_state_dict({name: 0.5 * value for name, value in model.state_dict().items()}, assign=True)


def turn_state_round(trainer: L.Trainer, model: Any) -> None:
    for state in trainer.optimizers[0].state.values():
        state["exp_avg"].mul_(-3)


def replace_state(trainer: L.Trainer, model: Any) -> None:
    for state in trainer.optimizers[0].state.values():
        state["exp_avg_sq"] = 4 * state["exp_avg_sq"]
        state["step"] = torch.tensor(50.0)


def forget_state(trainer: L.Trainer, model: Any) -> None:
    trainer.optimizers[0].state.clear()


def raise_rate(trainer: L.Trainer, model: Any) -> None:
    trainer.optimizers[0].param_groups[0]["lr"] *= 20


def decay(trainer: L.Trainer, model: Any) -> None:
    trainer.optimizers[0].param_groups[0].update(weight_decay=3.0, eps=1e-2)


def another_optimizer(trainer: L.Trainer, model: Any) -> None:
    trainer.strategy.optimizers = [torch.optim.SGD(model.parameters(), lr=1e-3)]


def clip(trainer: L.Trainer, model: Any) -> None:
    trainer.gradient_clip_val = 0.05


def clip_harder(trainer: L.Trainer, model: Any) -> None:
    trainer.gradient_clip_val = 0.001
    trainer.gradient_clip_algorithm = L.trainer.trainer.GradClipAlgorithmType("value")


def clip_no_more(trainer: L.Trainer, model: Any) -> None:
    trainer.gradient_clip_val = None


def accumulate(trainer: L.Trainer, model: Any) -> None:
    trainer.accumulate_grad_batches = 2


def freeze(trainer: L.Trainer, model: Any) -> None:
    model.encoder.requires_grad_(False)


def evaluate(trainer: L.Trainer, model: Any) -> None:
    """Looks at the model in evaluation mode, as somebody who draws does."""
    model.eval()
    with torch.no_grad():
        model.reconstruct(torch.zeros(2, 1, 28, 28))
        torch.rand(7)
    model.train()


def hook(trainer: L.Trainer, model: Any) -> None:
    model.decoder.register_forward_hook(lambda _, __, logits: 0.5 * logits)


def anneal(trainer: L.Trainer, model: Any) -> None:
    model.beta = 6.0


def replace_net(trainer: L.Trainer, model: Any) -> None:
    """A copy of the decoder, which the optimizer does not know."""
    model.decoder = copy.deepcopy(model.decoder)


def add_callback(trainer: L.Trainer, model: Any) -> None:
    class Bends(Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Any) -> None:
            for parameter in pl_module.parameters():
                parameter.grad.mul_(-1)

    trainer.callbacks.append(Bends())  # type: ignore[attr-defined]


def stop(trainer: L.Trainer, model: Any) -> None:
    trainer.should_stop = True


def leave_gradients(trainer: L.Trainer, model: Any) -> None:
    """Leaves gradients behind, which are logged and go into no step."""
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e3)


ACTS = (
    *(halve_in_place, halve_data, load_state, load_by_assigning, turn_state_round, replace_state, forget_state, raise_rate, decay),
    *(another_optimizer, clip, clip_harder, clip_no_more, accumulate, freeze, evaluate, hook, anneal, replace_net, add_callback),
    *(stop, leave_gradients),
)


@functools.cache
def undisturbed(**flags: Any) -> Fit:
    return fitted(small(BetaVAE, optimizer=ADAM), images(), Path(), fast=False, max_epochs=3, **flags)


@pytest.mark.parametrize("when", [Calls, pytest.param(CallsWithin, marks=pytest.mark.slow)])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_what_a_callback_changes_acts_from_the_next_step_on(
    act: Callable[[L.Trainer, Any], object], when: type[Calls], tmp_path: Path
) -> None:
    flags = {"gradient_clip_val": 0.05} if act is clip_no_more else {}
    fit = fast_as_plain(small(BetaVAE, optimizer=ADAM), tmp_path, callbacks=[lambda: when(act)], max_epochs=3, **flags)
    assert graphs(fit.trainer) > 0
    pairs = itertools.zip_longest(fit.logged, undisturbed(**flags).logged, fillvalue={})
    if (act, when) != (leave_gradients, Calls):
        assert all(row == pytest.approx(other, rel=1e-6) for row, other in pairs) == (act is evaluate)


@pytest.mark.parametrize("act", [halve_in_place, halve_data, load_state, freeze], ids=lambda act: act.__name__)
def test_what_a_callback_changes_acts_in_mixed_precision_too(act: Callable[[L.Trainer, Any], object], tmp_path: Path) -> None:
    acts = [lambda: CallsWithin(act)]
    fit = fast_as_plain(small(BetaVAE), tmp_path, callbacks=acts, max_epochs=3, precision="bf16-mixed", within=1e-3)
    assert graphs(fit.trainer) > 0


# ---- Lightning's own callbacks, and flags


class OwnPrecision(Precision):
    """Scales each gradient before the optimizer gets it."""

    def optimizer_step(self, optimizer: Any, model: Any, closure: Any, **settings: Any) -> Any:
        def scaled() -> Any:
            loss = closure()
            for parameter in model.parameters():
                parameter.grad.mul_(0.5)
            return loss

        return super().optimizer_step(optimizer, model, scaled, **settings)


class SavesWithin(Callback):
    """Keeps the weights at every batch, and changes nothing."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.kept = copy.deepcopy(pl_module.state_dict())


@pytest.mark.parametrize(
    ("settings", "compiled"),
    [
        ({"callbacks": [lambda: StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1, annealing_epochs=1)]}, None),
        ({"callbacks": [lambda: EMAWeightAveraging(decay=0.5)]}, None),
        ({"callbacks": [lambda: GradientAccumulationScheduler({0: 1, 1: 3})]}, None),
        ({"callbacks": [lambda: ModelPruning("l1_unstructured", amount=0.3, parameter_names=["weight"])]}, None),
        ({"callbacks": [lambda: LearningRateMonitor("step", log_momentum=True, log_weight_decay=True)]}, None),
        ({"callbacks": [SavesWithin]}, False),
        ({"accumulate_grad_batches": 4}, False),
        ({"overfit_batches": 2}, True),
        ({"limit_train_batches": 0.5}, True),
        ({"limit_train_batches": 1}, True),
        ({"min_steps": 14, "max_epochs": 1}, True),
        ({"max_epochs": -1, "max_steps": 8}, True),
        ({"detect_anomaly": True}, False),
        ({"precision": "64-true"}, False),
        ({"precision": "bf16-true"}, False),
        ({"log_every_n_steps": 1}, True),
        ({"log_every_n_steps": 100}, True),
        ({"profiler": "advanced"}, False),
        ({"fast_dev_run": True, "logger": None}, None),
        ({"inference_mode": False, "gradient_clip_val": 0.05, "precision": "bf16-mixed"}, None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flag_or_callback_of_lightning_acts_as_on_its_own_loop(
    settings: dict[str, Any], compiled: bool | None, tmp_path: Path
) -> None:
    within = 1e-3 if "bf16" in settings.get("precision", "") else 1e-6
    fit = fast_as_plain(small(), tmp_path, **{"max_epochs": 3, "within": within, **settings})
    assert compiled in (None, graphs(fit.trainer) > 0)


def test_precision_of_a_users_own_scales_the_gradients(tmp_path: Path) -> None:
    fits = [fitted(small(), images(), tmp_path, fast=fast, plugins=[OwnPrecision()]) for fast in (False, True)]
    assert_same_fit(*fits, within=1e-6)


# ---- one training after another


def trained_again(folder: Path, fast: bool, **changed: Any) -> tuple[dict[str, Tensor], L.Trainer]:
    """A model that one Trainer has trained, and then another one, of other settings."""
    torch.manual_seed(0)
    model: Module = VAE(latent_dim=3, net={"name": "mlp", "hidden": [12]}, optimizer=ADAM)
    off = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    for settings in ({}, changed):
        trainer = L.Trainer(**{"accelerator": "cpu", "max_epochs": 1, "default_root_dir": folder, **off, **settings})
        if fast:
            assert install(trainer, model, compile=True) is None
        trainer.fit(model, images())
    return dict(model.state_dict()), trainer


@pytest.mark.parametrize("changed", [{}, {"gradient_clip_val": 0.05}, {"max_epochs": 2}, {"precision": "bf16-mixed"}])
def test_another_trainer_goes_on_with_a_model(changed: dict[str, Any], tmp_path: Path) -> None:
    (plain, _), (fast, trainer) = (trained_again(tmp_path, way, **changed) for way in (False, True))
    assert graphs(trainer) == 1
    within = 1e-3 if changed.get("precision") else 1e-6
    for name, value in plain.items():
        torch.testing.assert_close(value, fast[name], rtol=within, atol=within, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("size", [4, 8, 5])
def test_second_fit_may_have_other_batches(size: int, tmp_path: Path) -> None:
    weights = []
    for fast in (False, True):
        torch.manual_seed(0)
        model: Any = small(optimizer=SGD)()
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            default_root_dir=tmp_path,
        )
        if fast:
            assert install(trainer, model, compile=True) is None
        trainer.fit(model, images())
        trainer.validate(model, images(), verbose=False)
        trainer.fit_loop.max_epochs = 2
        trainer.fit(model, torch.utils.data.DataLoader(images().dataset, batch_size=size))
        weights.append(dict(model.state_dict()))
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-6, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
