"""What users' own code does to a step acts on the fast path as on Lightning's own loop, or the run takes that loop and says so."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as L
import torch
from engine_fits import assert_same, fit, graphs, images
from pytorch_lightning.callbacks import BackboneFinetuning, Callback, GradientAccumulationScheduler, LambdaCallback
from torch import Tensor, nn
from torch.nn.utils import prune

from vae_lightning import VAE, BetaVAE
from vae_lightning.engine import reason_against
from vae_lightning.models.base import Module
from vae_lightning.noise import Source
from vae_lightning.types import Noise, Terms

pytestmark = pytest.mark.usefixtures("graphs_as_traced")

SMALL: dict[str, Any] = {"latent_dim": 3, "net": {"name": "mlp", "hidden": [12]}}
SGD: dict[str, Any] = {"name": "sgd", "lr": 1e-4}
"""Under which a gradient that is a little off leaves a trace, as it does not under Adam."""


def small(kind: type[Module] = VAE, **arguments: Any) -> Callable[[], Module]:
    return lambda: kind(**{**SMALL, "optimizer": SGD, **arguments})


def said_of_steps(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "vae_lightning.engine.step"]


# ---- models


class EachEpoch(BetaVAE):
    """Changes as a new epoch starts."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.change(self.current_epoch)

    def change(self, epoch: int) -> None:
        self.beta = 1.0 + 5 * epoch


class OwnNumber(EachEpoch):
    weight = 1.0

    def change(self, epoch: int) -> None:
        self.weight = 1.0 + 5 * epoch

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.weight * terms.kl


class OwnTensor(OwnNumber):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.weight: Any = torch.ones(())

    def change(self, epoch: int) -> None:
        self.weight.fill_(1.0 + 5 * epoch)


class OwnBuffer(EachEpoch):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.register_buffer("weight", torch.ones(()))

    def change(self, epoch: int) -> None:
        self.weight.fill_(1.0 + 5 * epoch)

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.weight * terms.kl


class OwnSchedule(EachEpoch):
    def change(self, epoch: int) -> None:
        self.kl_weight: Any = (lambda step: torch.tensor(0.2)) if epoch else self.kl_weight


class Nested:
    def __init__(self) -> None:
        self.settings = {"weights": [1.0]}


class OwnObject(OwnNumber):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.nested = Nested()

    def change(self, epoch: int) -> None:
        self.nested.settings["weights"][0] = 1.0 + 5 * epoch

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.nested.settings["weights"][0] * terms.kl


class Learned(VAE):
    """A number in the objective that is learned."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.log_weight = nn.Parameter(torch.tensor(0.3))

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.log_weight.exp() * terms.kl + self.log_weight


class Thawed(EachEpoch):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.encoder.requires_grad_(False)

    def change(self, epoch: int) -> None:
        self.encoder.requires_grad_(epoch > 0)
        self.decoder.requires_grad_(epoch == 0)


class Hooked(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            self.decoder.register_forward_hook(lambda _, __, logits: 0.5 * logits)


class HookedWeights(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            self.decoder.output_bias.register_hook(lambda gradient: 0.5 * gradient)


class Pruned(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            prune.l1_unstructured(self.decoder.body[0], "weight", amount=0.5)


class Replaced(EachEpoch):
    """A new layer the optimizer does not know."""

    def change(self, epoch: int) -> None:
        if epoch:
            self.decoder.body[0] = nn.Linear(3, 12)


class OptimizerChanges(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            self.trainer.optimizers[0].param_groups[0].update(weight_decay=3.0, betas=(0.5, 0.5), lr=1e-3)


class OptimizerReloaded(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            optimizer = self.trainer.optimizers[0]
            state = copy.deepcopy(optimizer.state_dict())
            for own in state["state"].values():
                own["exp_avg"].mul_(-3)
            optimizer.load_state_dict(state)


class ParameterGroupAdded(EachEpoch):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.encoder.parameters(), lr=1e-4, fused=True)

    def change(self, epoch: int) -> None:
        self.decoder.requires_grad_(epoch > 0)
        if epoch:
            self.trainer.optimizers[0].add_param_group({"params": list(self.decoder.parameters()), "lr": 1e-3})


class OwnRate(VAE):
    """A schedule by epoch, whose rate the step reads from the optimizer."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-4, fused=True)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 20.0)]


class OwnMomentum(VAE):
    """A schedule of the rate and of the optimizer's betas, by step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-4, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=13, base_momentum=0.1, max_momentum=0.9)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Plateau(VAE):
    """A schedule that looks at a metric after every step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-4, fused=True)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "monitor": "train/loss", "strict": False},
        }


class HooksEveryModule(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            hook = nn.modules.module.register_module_forward_hook(
                lambda module, _, output: 0.5 * output if isinstance(module, nn.ReLU) else None
            )
            self.removed = hook.remove

    def on_train_end(self) -> None:
        self.removed()


class Unused(VAE):
    """A weight that the loss does not depend on, which a decay must not touch."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.unused = nn.Parameter(torch.ones(3))


class ReadsEpoch(VAE):
    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - (1 + 5 * self.current_epoch) * terms.kl


class ReadsMeans(VAE):
    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - (5.0 if self.epoch_means else 1.0) * terms.kl


class Logs(VAE):
    def terms(self, *arguments: Any) -> dict[str, Tensor]:
        terms = super().terms(*arguments)
        self.log("of_my_own", terms["kl"].mean(), on_epoch=True)
        return terms


class Counts(VAE):
    steps = 0

    def objective(self, terms: Terms) -> Tensor:
        self.steps += 1
        return terms.log_likelihood - self.steps * terms.kl


GLOBAL = {"weight": 1.0}


class ReadsGlobal(EachEpoch):
    def change(self, epoch: int) -> None:
        GLOBAL["weight"] = 1.0 + 5 * epoch

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - GLOBAL["weight"] * terms.kl


class OwnGenerator(VAE):
    """Draws within the objective from a generator of its own."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.source = np.random.default_rng(0)

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - (1 + 5 * self.source.random()) * terms.kl


class OwnNoise(VAE):
    """Draws before each step from a generator of its own."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.source = torch.Generator().manual_seed(0)

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        noise = super().draw_noise(x, source, training=training)
        return noise._replace(posterior=torch.randn(noise.posterior.shape, generator=self.source))


class PreparesNumber(OwnNumber):
    """Changes before each step, where no callback is called."""

    def change(self, epoch: int) -> None: ...

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        self.weight *= 1.2
        return super().draw_noise(x, source, training=training)


class OwnDropout(VAE):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))


class OwnNorm(VAE):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(12))


class EvaluationMode(EachEpoch):
    """Batch norm that stops learning; the graph must not go on with it, nor be taken before."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(12))

    def change(self, epoch: int) -> None:
        self.decoder.train(epoch == 0)


class Branches(VAE):
    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - (5 if float(terms.kl.mean()) > 0.01 else 1) * terms.kl


class AsksTwice(torch.optim.SGD):
    """Steps by the gradient where a first step would lead, as sharpness-aware ones do."""

    def step(self, closure: Any = None) -> Any:
        loss = closure()
        before = [p.detach().clone() for group in self.param_groups for p in group["params"]]
        super().step()
        closure()
        with torch.no_grad():
            for p, value in zip((p for group in self.param_groups for p in group["params"]), before, strict=True):
                p.copy_(value)
        super().step()
        return loss


class OwnOptimizer(VAE):
    def configure_optimizers(self) -> Any:
        return AsksTwice(self.parameters(), lr=1e-4)


class ReadsGlobalWithOwnOptimizer(ReadsGlobal):
    def configure_optimizers(self) -> Any:
        return AsksTwice(self.parameters(), lr=1e-4)


class QuasiNewton(VAE):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=1e-3, max_iter=3)


ADAM: dict[str, Any] = {"name": "adam", "lr": 1e-4}
DECAY: dict[str, Any] = {"name": "adamw", "lr": 1e-3, "weight_decay": 100.0}


@pytest.mark.parametrize(
    ("kind", "optimizer", "graphs_made", "said"),
    [
        (EachEpoch, SGD, 1, None),
        (OwnNumber, SGD, 2, None),
        (OwnTensor, SGD, 2, None),
        (OwnBuffer, SGD, 1, None),
        (OwnSchedule, SGD, 2, None),
        (OwnObject, SGD, 2, None),
        (Learned, SGD, 1, None),
        (Thawed, SGD, 2, None),
        (Hooked, SGD, 1, "decoder has a hook"),
        (HookedWeights, SGD, 1, "has a hook"),
        (Pruned, SGD, 1, "decoder.body.0 has a hook"),
        (Replaced, SGD, 1, "the optimizer does not hold every parameter"),
        (OptimizerChanges, ADAM, 2, None),
        (OptimizerReloaded, ADAM, 1, None),
        (ParameterGroupAdded, SGD, 2, None),
        (OwnRate, SGD, 1, None),
        (OwnMomentum, SGD, 1, None),
        (Plateau, SGD, 0, "a schedule looks at a metric after every step"),
        (HooksEveryModule, SGD, 1, "every module has a hook"),
        (Unused, DECAY, 1, None),
        (ReadsEpoch, SGD, 0, "ReadsEpoch reads its current_epoch"),
        (ReadsMeans, SGD, 0, "ReadsMeans reads its epoch_means"),
        (Logs, SGD, 0, "Logs reads its log"),
        (Counts, SGD, 0, "computing the loss changes steps"),
        (ReadsGlobal, SGD, 1, "the compiled loss is"),
        (ReadsGlobalWithOwnOptimizer, SGD, 1, "the compiled loss is"),
        (OwnGenerator, SGD, 0, "the loss of the same batch is"),
        (OwnNoise, SGD, 1, None),
        (PreparesNumber, SGD, 0, "preparing a step changes weight"),
        (OwnDropout, SGD, 0, "torch's global generator"),
        (OwnNorm, SGD, 0, "computing the loss changes decoder.body.1.1.running_mean"),
        (EvaluationMode, SGD, 0, "computing the loss changes"),
        (Branches, SGD, 0, "goes on without compiling"),
        (OwnOptimizer, SGD, 1, None),
        (QuasiNewton, SGD, 1, None),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.filterwarnings("ignore:goes on without compiling")
def test_own_model_takes_the_same_steps(
    kind: type[Module],
    optimizer: dict[str, Any],
    graphs_made: int,
    said: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build = small(kind, optimizer=optimizer)
    plain, _ = fit(build, tmp_path, fast=False)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        fast, trainer = fit(build, tmp_path, fast=True)
    assert_same(plain, fast, within=1e-6)
    assert graphs(trainer) == graphs_made
    lines = [*said_of_steps(caplog), *(str(w.message) for w in warned if "without compiling" in str(w.message))]
    assert len(lines) == (said is not None), lines
    assert (said or "") in "".join(lines)


def test_what_changes_every_epoch_is_compiled_a_few_times_and_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (plain, _), (fast, trainer) = (fit(small(OwnNumber), tmp_path, fast=way, max_epochs=6) for way in (False, True))
    assert_same(plain, fast, within=1e-6)
    assert graphs(trainer) == 4
    assert "the model changes again and again (weight)" in caplog.text


def test_second_fit_of_a_trained_model_goes_on_with_it(tmp_path: Path) -> None:
    (plain, _), (fast, trainer) = (fit(small(optimizer=ADAM), tmp_path, fast=way, fits=2) for way in (False, True))
    assert_same(plain, fast, within=1e-6)
    assert graphs(trainer) == 1


def test_another_model_is_not_taken_for_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, trainer = fit(small(), tmp_path, fast=True)
    first = {name: value.clone() for name, value in trainer.lightning_module.state_dict().items()}
    before, other = small()(), small()()
    other.load_state_dict(before.state_dict())
    trainer.fit_loop.max_epochs = 3
    mine = trainer.lightning_module
    trainer.fit(other, images())
    assert "another model is trained" in caplog.text
    assert_same(first, mine.state_dict(), within=0)
    assert not torch.equal(other.decoder.output_bias, before.decoder.output_bias)


# ---- callbacks and flags


class ChangesBeta(Callback):
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.beta = 1.0 + 5 * trainer.current_epoch


class Declared(ChangesBeta):
    sees_every_batch = False


class Overrides(Declared):
    """What is declared of the parent says nothing of this."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.beta = 1.0 + trainer.global_step


class DeclaredFor(Callback):
    sees_every_batch = True

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None: ...


class ComesLate(Declared):
    """Adds a callback that sees every batch while training goes on."""

    sees_every_batch = False

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch:
            trainer.callbacks.append(Overrides())  # type: ignore[attr-defined]


class Finetuning(BackboneFinetuning):
    def freeze_before_training(self, pl_module: Any) -> None:
        self.freeze(pl_module.encoder)

    def finetune_function(self, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.encoder, optimizer, lr=1e-3)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None: ...


@pytest.mark.parametrize(
    ("settings", "graphs_made", "said"),
    [
        ({"callbacks": [ChangesBeta]}, 0, "ChangesBeta has on_train_epoch_start; if it can do without most batches"),
        ({"callbacks": [Declared]}, 1, None),
        ({"callbacks": [Overrides]}, 0, "Overrides has on_train_batch_end"),
        ({"callbacks": [DeclaredFor]}, 0, "DeclaredFor has on_train_epoch_start"),
        ({"callbacks": [ComesLate]}, 1, "Overrides has on_train_batch_end"),
        ({"callbacks": [lambda: LambdaCallback(on_train_batch_end=lambda *_: None)]}, 0, "LambdaCallback has on_train_batch_end"),
        ({"callbacks": [Finetuning]}, 0, "Finetuning has on_train_epoch_start"),
        (
            {"callbacks": [lambda: GradientAccumulationScheduler({1: 2})]},
            0,
            "trainer.accumulate_grad_batches is not 1",
        ),
        ({"profiler": "simple"}, 0, "SimpleProfiler measures each of its parts"),
        ({"accumulate_grad_batches": 2}, 0, "trainer.accumulate_grad_batches is not 1"),
        ({"gradient_clip_val": 0.1}, 1, None),
        ({"reload_dataloaders_every_n_epochs": 1}, 1, None),
        ({"max_steps": 7}, 1, None),
    ],
)
def test_callback_or_flag_acts_as_on_lightnings_loop(
    settings: dict[str, Any], graphs_made: int, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (plain, _), (fast, trainer) = (fit(small(BetaVAE), tmp_path, fast=way, **settings) for way in (False, True))
    assert_same(plain, fast, within=1e-6)
    assert graphs(trainer) == graphs_made
    assert bool(said_of_steps(caplog)) == (graphs_made > 0 and said is not None)
    assert (said or "") in (caplog.text if graphs_made else reason_against(trainer, trainer.lightning_module) or "")
