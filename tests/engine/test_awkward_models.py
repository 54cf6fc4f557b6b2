"""Models of users whose parts do what no part of this project does train on the fast path as on Lightning's own loop."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from engine_fits import EachEpoch, fast_as_plain, graphs, small
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from vae_lightning import VAE
from vae_lightning.models import M2
from vae_lightning.models.base import Module
from vae_lightning.objectives.goals import Objective
from vae_lightning.types import Terms

pytestmark = pytest.mark.usefixtures("graphs_quickly_traced")

# ---- weights


class WeightNormed(VAE):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        parametrizations.weight_norm(self.decoder.body[0])


class Orthogonal(VAE):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        parametrizations.orthogonal(self.decoder.body[0])


class SpectrallyNormed(VAE):
    """Looks for the largest singular value as it goes, in a buffer."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        parametrizations.spectral_norm(self.decoder.body[0])


class Positive(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.abs()


class ParametrizedLate(EachEpoch):
    """A weight becomes a function of itself, and stays the optimizer's."""

    def change(self, epoch: int) -> None:
        if epoch:
            parametrize.register_parametrization(self.decoder.body[0], "weight", Positive())


class Tied(VAE):
    """A decoder that goes back by the encoder's weight."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[0] = nn.Linear(12, 12)
        self.decoder.body.insert(0, nn.Linear(3, 12))
        self.decoder.body[1].weight = nn.Parameter(torch.eye(12))
        self.decoder.body.insert(2, nn.Linear(12, 12))
        self.decoder.body[2].weight = self.decoder.body[1].weight


class TiedLate(EachEpoch):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body.insert(1, nn.Linear(12, 12))
        self.decoder.body.insert(2, nn.Linear(12, 12))

    def change(self, epoch: int) -> None:
        if epoch:
            self.decoder.body[2].weight = self.decoder.body[1].weight


class Frozen(VAE):
    """Learns all but one layer, whose weight is decayed if it is given a gradient of zero."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[0].requires_grad_(False)


class FrozenByHalves(EachEpoch):
    """Freezes a weight and not its bias, then the bias and not its weight."""

    def change(self, epoch: int) -> None:
        self.decoder.body[0].weight.requires_grad_(epoch > 0)
        self.decoder.body[0].bias.requires_grad_(epoch == 0)


class SetAnew(EachEpoch):
    """Puts other values into its weights by all ways there are."""

    def change(self, epoch: int) -> None:
        if epoch:
            self.decoder.output_bias.data = torch.full_like(self.decoder.output_bias, -0.5)
            with torch.no_grad():
                self.decoder.body[0].weight.mul_(-1)
            self.encoder.load_state_dict({name: 0.5 * value for name, value in self.encoder.state_dict().items()})


class InOtherMemory(EachEpoch):
    """Lays a weight out anew, column by column; torch's fused Adam would not take its state along."""

    def change(self, epoch: int) -> None:
        if epoch:
            weight = self.decoder.body[0].weight
            weight.data = weight.data.t().contiguous().t()


# ---- numbers


class Temperature(VAE):
    """A learned temperature of the logits."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def likelihood(self, *arguments: Any, **settings: Any) -> Any:
        return type(self.likelihood_of)().forward(
            super().likelihood(*arguments, **settings).base_dist.logits / self.log_temperature.exp()
        )


class LearnedWeight(Objective):
    """An objective with a parameter, which goes with any model."""

    def __init__(self) -> None:
        super().__init__()
        self.log_weight = nn.Parameter(torch.zeros(()))

    def forward(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.log_weight.exp() * terms.kl + self.log_weight


class RaisedBeta(Objective):
    """An objective with a number that nobody declared, which grows in `change`."""

    beta = 1.0

    def forward(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.beta * terms.kl


class LearnsObjective(VAE):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.objective_of = LearnedWeight()


class AnnealsPart(EachEpoch):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.objective_of = RaisedBeta()

    def change(self, epoch: int) -> None:
        self.objective_of.beta = 1.0 + 5 * epoch


class AnnealsLayer(EachEpoch):
    """A number of a layer deep within the decoder."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = nn.Sequential(nn.LeakyReLU(0.1))

    def change(self, epoch: int) -> None:
        self.decoder.body[1][0].negative_slope = 0.1 + 0.5 * epoch


class AnnealsLikelihood(EachEpoch):
    def change(self, epoch: int) -> None:
        self.likelihood_of.min_scale = 0.02 + 0.05 * epoch


class Declares(EachEpoch):
    """A number that is declared may change as often as it likes."""

    numbers: ClassVar[tuple[str, ...]] = (*VAE.numbers, "weight")
    weight = 1.0

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.weight = 1.0

    def change(self, epoch: int) -> None:
        self.weight = 1.0 + 5 * epoch

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - self.weight * terms.kl


class AnnealsAlpha(M2):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.alpha = 1.0 + 5 * self.current_epoch


# ---- modules


class SwapsActivation(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch:
            self.decoder.body[1] = nn.Tanh()


class Unhooked(EachEpoch):
    """A hook that goes away as training goes on."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.handle = [self.decoder.register_forward_hook(lambda _, __, logits: 0.5 * logits)]

    def change(self, epoch: int) -> None:
        if epoch:
            self.handle[0].remove()


class HookedForAnEpoch(EachEpoch):
    def change(self, epoch: int) -> None:
        if epoch == 1:
            self.handle = [
                self.encoder.register_full_backward_hook(
                    lambda _, gradients, __: (None if gradients[0] is None else 0.5 * gradients[0],)
                )
            ]
        if epoch == 2:
            self.handle[0].remove()


class HookedTensor(VAE):
    """Scales a gradient half way, by a hook on a tensor that is not a parameter."""

    def forward(self, *arguments: Any, **settings: Any) -> Any:
        draw = super().forward(*arguments, **settings)
        if draw.z.requires_grad:
            draw.z.register_hook(lambda gradient: 0.5 * gradient)
        return draw


class Patched(EachEpoch):
    """A method is replaced on the object, not in the class."""

    def change(self, epoch: int) -> None:
        if epoch:
            whole = self.decoder.forward
            self.decoder.forward = lambda *arguments, **settings: 0.5 * whole(*arguments, **settings)


class Evaluates(EachEpoch):
    """Switches everything to evaluation and back again; dropout of ours does not look at it, and torch's does."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))

    def change(self, epoch: int) -> None:
        self.train(epoch > 0)


class NormedByBatch(VAE):
    """Batch norm that uses the batch's own moments only, so that nothing changes."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(12, track_running_stats=False))


class CompiledNet(VAE):
    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.decoder.body[1] = torch.compile(nn.Sequential(nn.ReLU(), nn.Tanh()), backend="eager")


class Checkpointed(VAE):
    """Computes a layer twice, to save memory."""

    def likelihood(self, *arguments: Any, **settings: Any) -> Any:
        from torch.utils.checkpoint import checkpoint

        return checkpoint(super().likelihood, *arguments, use_reentrant=False, **settings)


class OwnGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 0.25 * gradient


class ReversesGradient(VAE):
    """A gradient that is not the derivative."""

    def terms(self, output: Any, *arguments: Any) -> dict[str, Tensor]:
        return super().terms(output._replace(z=OwnGradient.apply(output.z)), *arguments)


class Sorts(VAE):
    """Operations beside the usual ones: sorting, choosing, cumulating."""

    def objective(self, terms: Terms) -> Tensor:
        best = terms.log_likelihood.sort().values.cumsum(0).flip(0)
        return torch.where(terms.kl > terms.kl.median(), best, terms.log_likelihood) - terms.kl


GLOBAL_STATE: list[Tensor] = [torch.ones(())]


class FillsGlobal(EachEpoch):
    """A tensor outside of the model, whose values change."""

    def change(self, epoch: int) -> None:
        GLOBAL_STATE[0].fill_(1.0 + 5 * epoch)

    def objective(self, terms: Terms) -> Tensor:
        return terms.log_likelihood - GLOBAL_STATE[0] * terms.kl


ADAM: dict[str, Any] = {"name": "adam", "lr": 1e-4}
DECAY: dict[str, Any] = {"name": "adamw", "lr": 1e-3, "weight_decay": 100.0}
OF_M2: dict[str, Any] = {"num_classes": 10, "classifier": {"name": "classifier_mlp", "hidden": [8]}}
PIXELS: dict[str, Any] = {"likelihood": "gaussian_per_pixel"}


@pytest.mark.parametrize(
    ("kind", "settings", "compiled"),
    [
        (WeightNormed, {}, True),
        (Orthogonal, {}, None),
        (SpectrallyNormed, {}, False),
        (ParametrizedLate, {}, True),
        (Tied, {}, True),
        (TiedLate, {}, True),
        (Frozen, {"optimizer": DECAY}, True),
        (FrozenByHalves, {"optimizer": DECAY}, True),
        (SetAnew, {}, True),
        (InOtherMemory, {}, True),
        (InOtherMemory, {"optimizer": {**ADAM, "fused": False}}, True),
        (Temperature, {}, True),
        (LearnsObjective, {"optimizer": ADAM}, True),
        (AnnealsPart, {}, True),
        (AnnealsLayer, {}, True),
        (AnnealsLikelihood, PIXELS, True),
        (Declares, {}, True),
        (AnnealsAlpha, OF_M2, True),
        (SwapsActivation, {}, True),
        (Unhooked, {}, None),
        (HookedForAnEpoch, {}, True),
        (HookedTensor, {}, None),
        (Patched, {}, True),
        (Evaluates, {}, None),
        (NormedByBatch, {}, True),
        (CompiledNet, {}, None),
        (Checkpointed, {}, None),
        (ReversesGradient, {}, None),
        (Sorts, {}, None),
        (FillsGlobal, {}, None),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
@pytest.mark.filterwarnings("ignore:goes on without compiling")
def test_own_part_takes_the_same_steps(kind: type[Module], settings: dict[str, Any], compiled: bool | None, tmp_path: Path) -> None:
    """`compiled` is None where either way will do, as long as the steps are the same."""
    fit = fast_as_plain(small(kind, **settings), tmp_path, max_epochs=3)
    assert compiled in (None, graphs(fit.trainer) > 0)


@pytest.mark.parametrize("kind", [SetAnew, ParametrizedLate, Tied, FrozenByHalves, Declares], ids=lambda kind: kind.__name__)
def test_own_part_takes_the_same_steps_in_mixed_precision(kind: type[Module], tmp_path: Path) -> None:
    fit = fast_as_plain(small(kind), tmp_path, max_epochs=3, precision="bf16-mixed", within=1e-3)
    assert graphs(fit.trainer) > 0


# ---- hooks of the model


class OwnStep(VAE):
    def training_step(self, *arguments: Any) -> Tensor:
        return 2 * super().training_step(*arguments)


class OwnOptimizerStep(VAE):
    def optimizer_step(self, *arguments: Any, **settings: Any) -> None:
        super().optimizer_step(*arguments, **settings)
        with torch.no_grad():
            self.decoder.output_bias.clamp_(max=1e-3)


class OwnClipping(VAE):
    def configure_gradient_clipping(self, *arguments: Any, **settings: Any) -> None:
        for parameter in self.parameters():
            parameter.grad.sign_()  # type: ignore[union-attr]


class OwnBackward(VAE):
    def backward(self, loss: Tensor, *arguments: Any, **settings: Any) -> None:
        (2 * loss).backward()


class OwnLoss(VAE):
    def functional_loss(self, *arguments: Any, **settings: Any) -> Any:
        loss, terms = super().functional_loss(*arguments, **settings)
        return 3 * loss, terms


class AfterBatches(VAE):
    def on_train_batch_end(self, *arguments: Any) -> None:
        super().on_train_batch_end(*arguments)
        with torch.no_grad():
            self.decoder.output_bias.mul_(0.5)


class OwnTransfer(VAE):
    """Images are turned round on their way to a step."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0].flip(-1), batch[1]


class OwnBeforeTransfer(VAE):
    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0].flip(-2), batch[1]


class OwnMove(VAE):
    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        return 1 - batch[0], batch[1]


class PatchedHook(EachEpoch):
    """A hook that is put on the object, while training goes on."""

    def change(self, epoch: int) -> None:
        if epoch:
            self.on_after_backward = lambda: [p.grad.mul_(-1) for p in self.parameters()]  # type: ignore[method-assign, union-attr]


@pytest.mark.parametrize(
    ("kind", "compiled"),
    [
        (OwnStep, False),
        (OwnOptimizerStep, False),
        (OwnClipping, False),
        (OwnBackward, False),
        (OwnLoss, False),
        (AfterBatches, False),
        (OwnTransfer, None),
        (OwnBeforeTransfer, None),
        (OwnMove, None),
        (PatchedHook, True),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_own_hook_is_called(kind: type[Module], compiled: bool | None, tmp_path: Path) -> None:
    fit = fast_as_plain(small(kind), tmp_path)
    assert compiled in (None, graphs(fit.trainer) > 0)


# ---- the optimizers of a model


class TwoGroups(VAE):
    def configure_optimizers(self) -> Any:
        groups = [{"params": list(self.encoder.parameters()), "lr": 1e-3}, {"params": list(self.decoder.parameters())}]
        return torch.optim.AdamW(groups, lr=1e-4, weight_decay=0.3)


class TwoGroupsAnnealed(TwoGroups):
    """A schedule for each group, by every second step."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: 0.5**step, lambda step: 2.0**step])
        return [optimizer], [{"scheduler": schedule, "interval": "step", "frequency": 2}]


class LooksAhead(torch.optim.Adam):
    """Draws every third step back to where it was two steps before."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.taken = getattr(self, "taken", 0) + 1
        if self.taken % 3 == 0:
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(0.9)
        return loss


class OfAdamsFamily(VAE):
    """A subclass of an optimizer is not taken for its parent."""

    def configure_optimizers(self) -> Any:
        return LooksAhead(self.parameters(), lr=1e-4)


class HookedOptimizer(VAE):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-4)
        optimizer.register_step_post_hook(lambda *_: self.halve(self.decoder.output_bias))
        optimizer.register_step_pre_hook(lambda *_: self.halve(self.decoder.body[0].weight))
        return optimizer

    @torch.no_grad()
    def halve(self, weight: Tensor) -> None:
        weight.mul_(0.5)


class PatchedOptimizer(VAE):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-4)
        whole = optimizer.step

        def step(closure: Any = None) -> Any:
            loss = whole(closure)
            self.decoder.output_bias.data.mul_(0.5)
            return loss

        optimizer.step = step  # type: ignore[method-assign]
        return optimizer


class ByHand(VAE):
    """Optimizes by hand, every step twice."""

    def __init__(self, **vae: Any) -> None:
        super().__init__(**vae)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss)
            optimizer.step()
        return loss


class StateOfTensors(VAE):
    """A learning rate that is a tensor, which a schedule changes in place."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=torch.tensor(1e-4), capturable=False, foreach=False)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 20.0)]


OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adam", "lr": 1e-4, "amsgrad": True},
    {"name": "adam", "lr": 1e-4, "maximize": True},
    {"name": "adam", "lr": 1e-4, "fused": False, "foreach": True, "weight_decay": 0.1},
    {"name": "adamw", "lr": 1e-4, "betas": [0.5, 0.6], "eps": 1e-3, "weight_decay": 0.3},
    {"name": "sgd", "lr": 1e-4, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"name": "rmsprop", "lr": 1e-4, "centered": True, "momentum": 0.5},
    {"name": "torch.optim.Adagrad", "lr": 1e-4, "lr_decay": 0.1},
    {"name": "torch.optim.NAdam", "lr": 1e-4},
    {"name": "torch.optim.Adamax", "lr": 1e-4},
    {"name": "torch.optim.Rprop", "lr": 1e-4},
]


@pytest.mark.parametrize(
    "kind",
    [TwoGroups, TwoGroupsAnnealed, OfAdamsFamily, HookedOptimizer, PatchedOptimizer, ByHand, StateOfTensors],
    ids=lambda kind: kind.__name__,
)
def test_own_optimizer_takes_its_own_steps(kind: type[Module], tmp_path: Path) -> None:
    fast_as_plain(small(kind), tmp_path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda spec: "-".join(map(str, spec.values())))
@pytest.mark.parametrize(
    "clipped",
    [
        {},
        pytest.param({"gradient_clip_val": 0.05}, marks=pytest.mark.slow),
        pytest.param({"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}, marks=pytest.mark.slow),
    ],
)
def test_optimizer_of_torch_takes_its_own_steps(optimizer: dict[str, Any], clipped: dict[str, Any], tmp_path: Path) -> None:
    fit = fast_as_plain(small(optimizer=optimizer), tmp_path, **clipped)
    assert graphs(fit.trainer) == 1
