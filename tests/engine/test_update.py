import copy
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, optim
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim import Optimizer

from vae_lightning.engine.update import Update, adam, clipped, update_of
from vae_lightning.engine.update.number import Untraceable
from vae_lightning.engine.update.proof import prove
from vae_lightning.engine.update.traced import TracedUpdate
from vae_lightning.engine.update.twin import twin_of
from vae_lightning.machine.compilation import compiled

SHAPES = ((8, 4), (8,), (4, 8))
STEPS = 20


def parameters(matrices: bool = False, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES if len(shape) == 2 or not matrices]


def gradients_of(trained: list[Tensor], step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(parameter.shape, generator=generator) for parameter in trained]


def give(trained: list[Tensor], gradients: list[Tensor]) -> None:
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient.clone()


class Trained:
    """Parameters and their optimizer, trained by a graph of its update wherever there is one."""

    def __init__(self, make: Callable[[Any], Optimizer], matrices: bool = False) -> None:
        self.parameters = parameters(matrices)
        self.optimizer = make(self.parameters)
        self.update: Update | None = None
        self.reason = ""
        self.graph_steps = self.missed = 0

    def step(self, gradients: list[Tensor]) -> None:
        if self.update is None or not self.update.fits(self.optimizer) or self.missed > 1:
            self.missed = 0
            update = update_of(self.optimizer, self.parameters)
            self.update, self.reason = (None, update) if isinstance(update, str) else (update, "")
            if self.update is not None:
                self.graph = traced(self.update, gradients)
        if self.update is not None and self.update.holds():
            self.graph(self.parameters, gradients, self.update.state, self.update.settings())
            self.update.advance()
            self.graph_steps += 1
            self.missed = 0
        else:
            give(self.parameters, gradients)
            self.update.plain_step() if self.update is not None else self.optimizer.step()
            self.missed += 1


def traced(update: Update, gradients: list[Tensor]) -> Callable[..., Any]:
    def apply(*arguments: Any) -> None:
        update.apply(*arguments)

    copies = [[tensor.clone() for tensor in tensors] for tensors in (update.parameters, gradients, update.state, update.settings())]
    return make_fx(apply)(*copies)


def assert_same(ours: Optimizer, theirs: Optimizer) -> None:
    """Parameters and state are equal within rounding, and a checkpoint has the same keys, shapes and dtypes."""
    a, b = ours.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for key, state in a["state"].items():
        assert state.keys() == b["state"][key].keys()
        torch.testing.assert_close(state, b["state"][key], rtol=1e-4, atol=1e-6)
    for group, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        torch.testing.assert_close(group["params"], other["params"], rtol=1e-4, atol=1e-5)


KINDS = [
    (optim.Adam, {}),
    (optim.Adam, {"fused": True, "weight_decay": 0.1}),
    (optim.Adam, {"amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    (optim.AdamW, {"fused": True}),
    (optim.AdamW, {"amsgrad": True, "betas": (0.5, 0.6), "eps": 1e-3}),
    (optim.SGD, {}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.RMSprop, {"momentum": 0.5, "centered": True}),
    (optim.Adagrad, {"lr_decay": 0.1}),
    (optim.NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    (optim.RAdam, {}),
    (optim.Adamax, {}),
    (optim.Adadelta, {}),
    (optim.Rprop, {}),
    (optim.ASGD, {}),
    (optim.Muon, {}),
    (optim.Adafactor, {}),
]


@pytest.mark.parametrize(("kind", "arguments"), KINDS, ids=lambda value: value.__name__ if isinstance(value, type) else str(value))
def test_a_graph_of_an_optimizer_steps_as_the_optimizer(kind: Any, arguments: dict[str, Any]) -> None:
    def make(trained: list[Tensor]) -> Optimizer:
        others = (
            [{"params": trained[1:], "lr": 0.02, "weight_decay": 0.05}] if kind is not optim.ASGD else [{"params": trained[1:]}]
        )
        return kind([{"params": trained[:1]}, *others], lr=0.1, **arguments)

    ours, reference = Trained(make, kind is optim.Muon), parameters(kind is optim.Muon)
    theirs = make(reference)
    schedules = [optim.lr_scheduler.ExponentialLR(optimizer, 0.9) for optimizer in (ours.optimizer, theirs)]
    for step in range(STEPS):
        gradients = gradients_of(reference, step)
        ours.step(gradients)
        give(reference, gradients)
        theirs.step()
        for schedule in schedules:
            schedule.step()
    assert ours.graph_steps >= STEPS - 6, ours.reason
    assert_same(ours.optimizer, theirs)


@pytest.mark.parametrize("kind", [optim.AdamW, optim.NAdam])
def test_a_graph_and_the_optimizers_own_step_take_turns_and_go_on_from_a_checkpoint(kind: Any) -> None:
    ours, reference = Trained(lambda trained: kind(trained, lr=0.1)), parameters()
    theirs = kind(reference, lr=0.1)
    for step in range(12):
        gradients = gradients_of(reference, step)
        give(reference, gradients)
        theirs.step()
        if step % 4 == 1:
            give(ours.parameters, gradients)
            ours.optimizer.step()
        else:
            ours.step(gradients)
        if step == 6:
            before = ours.update
            ours.optimizer.load_state_dict(copy.deepcopy(ours.optimizer.state_dict()))
            assert before is not None
            assert not before.fits(ours.optimizer), "whose tensors are others now"
    assert ours.graph_steps >= 7
    assert_same(ours.optimizer, theirs)


def test_settings_are_the_same_tensors_and_follow_the_groups() -> None:
    trained = parameters()
    optimizer = optim.AdamW(trained, lr=0.1)
    update = update_of(optimizer, trained)
    assert isinstance(update, Update)
    first = list(update.settings())
    optimizer.param_groups[0].update(lr=0.2, betas=(0.5, 0.7))
    assert all(a is b for a, b in zip(first, update.settings(), strict=True))
    assert [float(number) for number in first[:3]] == [0.2, 0.5, 0.7]
    assert first[0].dtype == torch.float64
    assert update.values() == [float(number) for number in first]
    assert update.fits(optimizer), "a schedule changes numbers"


def test_what_a_graph_freezes_is_noticed() -> None:
    def updated(**arguments: Any) -> tuple[Optimizer, Update]:
        trained = parameters()
        optimizer = optim.Adam(trained, **arguments)
        update = update_of(optimizer, trained)
        assert isinstance(update, Update)
        assert update.fits(optimizer)
        return optimizer, update

    def with_hook(optimizer: Optimizer) -> None:
        optimizer.register_step_post_hook(lambda *_: None)

    changes: list[Callable[[Optimizer], Any]] = [
        lambda optimizer: optimizer.param_groups[0].update(amsgrad=True),
        lambda optimizer: optimizer.param_groups[0].update(maximize=True),
        lambda optimizer: optimizer.param_groups[0].update(weight_decay=0.1),
        lambda optimizer: optimizer.param_groups[0]["params"].pop(),
        lambda optimizer: optimizer.add_param_group({"params": [torch.zeros(2)]}),
        lambda optimizer: setattr(optimizer, "step", lambda closure=None: None),
        lambda optimizer: optimizer.state.clear(),
        with_hook,
    ]
    for change in changes:
        optimizer, update = updated()
        change(optimizer)
        assert not update.fits(optimizer)
    optimizer, update = updated(weight_decay=0.1)
    optimizer.param_groups[0]["weight_decay"] = 0.2
    assert update.fits(optimizer)


@pytest.mark.parametrize("way", [{}, {"fused": True}, {"capturable": True}], ids=str)
def test_count_of_steps_lies_where_torch_has_it(way: dict[str, bool]) -> None:
    """Beside the weights for fused and capturable steps, which a GPU takes without asking the CPU; the device `meta` stands for it."""
    group: dict[str, object] = {"amsgrad": False, "fused": False, "capturable": False, **way}
    state = adam._fresh_state(torch.empty(3, device="meta"), group)
    assert state["step"].device.type == ("meta" if way else "cpu")
    assert state["exp_avg"].device.type == "meta"


def test_an_invalid_step_leaves_everything_as_it_was() -> None:
    trained = parameters()
    optimizer = optim.Adam(trained, lr=0.1)
    update = update_of(optimizer, trained)
    assert isinstance(update, Update)
    before = [tensor.clone() for tensor in (*trained, *update.state)]
    bad = [torch.full_like(parameter, torch.nan) for parameter in trained]
    update.apply(trained, bad, update.state, update.settings(), torch.tensor(False))
    assert all(torch.equal(a, b) for a, b in zip(before, (*trained, *update.state), strict=True))


class EveryThird(Optimizer):
    """Signed descent that counts on the host and takes a double step every third time, whose state is made anew."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "step": 0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            for parameter in group["params"]:
                state = self.state[parameter]
                state["mean"] = state.get("mean", torch.zeros_like(parameter)) * 0.5 + parameter.grad
                parameter.sub_(state["mean"].sign(), alpha=group["lr"] / group["step"] ** 0.5)
                if group["step"] % 3 == 0:
                    state["mean"] = state["mean"] * 2


class DecidesByValues(EveryThird):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if float(self.param_groups[0]["params"][0].grad.norm()) > 1:
            super().step()


class HidesItsRate(EveryThird):
    """Remembers its first learning rate, where no trace can see it."""

    rates: ClassVar[dict[int, float]] = {}

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        rate = self.rates.setdefault(0, 0.1)
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["mean"] = torch.zeros(()) + rate
            parameter.data.sub_(parameter.grad, alpha=rate)
        self.rates[0] = rate * 0.5


def beside_its_own_steps(kind: Any) -> tuple[Trained, Optimizer]:
    """Parameters trained by a graph of an optimizer of this kind, and one that has taken the same steps itself."""
    ours, reference = Trained(lambda trained: kind(trained, 0.1)), parameters()
    theirs: Optimizer = kind(reference, 0.1)
    for step in range(STEPS):
        gradients = gradients_of(reference, step)
        ours.step(gradients)
        give(reference, gradients)
        theirs.step()
    return ours, theirs


def test_a_foreign_optimizer_is_traced_where_its_steps_are_alike() -> None:
    ours, theirs = beside_its_own_steps(EveryThird)
    assert ours.graph_steps == pytest.approx(STEPS * 2 / 3, abs=2)
    assert_same(ours.optimizer, theirs)


@pytest.mark.parametrize("kind", [DecidesByValues, HidesItsRate])
def test_what_no_graph_can_do_is_left_to_the_optimizer(kind: Any) -> None:
    trained = parameters()
    optimizer = kind(trained, 0.1)
    for step in range(2):
        give(trained, gradients_of(trained, step))
        optimizer.step()
    before = [tensor.clone() for tensor in trained]
    assert isinstance(update_of(optimizer, trained), str)
    assert all(torch.equal(a, b) for a, b in zip(before, trained, strict=True)), "which were only copied"


class OutOfPlace(EveryThird):
    """Sums of products and of quotients that are scaled by the rate and make new tensors."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            for parameter in group["params"]:
                moved = torch.addcmul(parameter, parameter.grad, parameter.grad.abs(), value=-group["lr"])
                scale = parameter.grad.abs() + group["step"]
                parameter.copy_(torch.addcdiv(moved, parameter.grad, scale, value=-group["lr"]))


def test_products_and_quotients_that_make_new_tensors_are_traced() -> None:
    ours, theirs = beside_its_own_steps(OutOfPlace)
    assert ours.graph_steps == STEPS, ours.reason
    assert_same(ours.optimizer, theirs)


@pytest.mark.parametrize("rate", [0.1, 0.0])
def test_proof_finds_out_a_graph_that_does_not_follow_the_rate(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a warm-up begins at a rate of 0, at which no graph could be told from another."""
    trained = parameters()
    optimizer = OutOfPlace(trained, rate)
    give(trained, gradients_of(trained, 0))
    optimizer.step()
    update = TracedUpdate(optimizer, trained)
    prove(update.other_for(*twin_of(optimizer, trained)))
    frozen = update.other_for(*twin_of(optimizer, trained))
    first = [setting.clone() for setting in frozen.settings()]
    monkeypatch.setattr(frozen, "settings", lambda: first)
    with pytest.raises(Untraceable, match="misses the optimizer's own steps"):
        prove(frozen)


def test_proof_finds_out_a_graph_that_follows_the_rate_for_two_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = parameters(True)
    optimizer = optim.SGD(trained, lr=0.1)
    update = TracedUpdate(optimizer, trained)
    frozen = update.other_for(*twin_of(optimizer, trained))
    own, given = frozen.settings, list[list[Tensor]]()

    def settings() -> list[Tensor]:
        given.append(given[-1] if len(given) == 2 else [setting.clone() for setting in own()])
        return given[-1]

    monkeypatch.setattr(frozen, "settings", settings)
    with pytest.raises(Untraceable, match="misses the optimizer's own steps"):
        prove(frozen)
    assert len(given) == 3


# of Muon's five steps to an orthogonal matrix, which are alike, two: each is compiled
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(optim.AdamW, {}), (optim.Muon, {"ns_steps": 2}), pytest.param(optim.Muon, {}, marks=pytest.mark.slow)],
)
def test_an_update_compiles_behind_a_gradient(kind: Any, arguments: dict[str, Any]) -> None:
    trained, reference = parameters(True), parameters(True)
    optimizer, theirs = kind(trained, lr=0.1, **arguments), kind(reference, lr=0.1, **arguments)
    for each in (trained, reference):
        give(each, gradients_of(each, 0))
    optimizer.step()
    theirs.step()
    update = update_of(optimizer, trained)
    assert isinstance(update, Update)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))

    def loss_of(weights: list[Tensor], x: Tensor) -> Tensor:
        return (x @ weights[0].T @ weights[1].T).square().mean()

    def step(weights: list[Tensor], state: list[Tensor], settings: list[Tensor], x: Tensor) -> Tensor:
        gradients, loss = torch.func.grad_and_value(loss_of)(weights, x)
        update.apply(weights, gradients, state, settings)
        return loss

    start = [tensor.clone() for tensor in (*trained, *update.state)]
    graph = compiled(step, trained, update.state, update.settings(), x)
    assert graph is not None
    for tensor, value in zip((*trained, *update.state), start, strict=True):
        tensor.copy_(value)
    for rate in (0.1, 0.05, 0.02):
        optimizer.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = rate
        with torch.no_grad():
            graph(trained, update.state, update.settings(), x)
        give(reference, list(torch.func.grad(loss_of)(reference, x)))
        theirs.step()
    # Muon orthogonalizes in bfloat16
    torch.testing.assert_close(trained, reference, rtol=1e-4, atol=1e-5 if kind is optim.AdamW else 1e-2)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("value", [0.5, 100.0])
def test_clipped_is_torchs_clipping(algorithm: str, value: float) -> None:
    gradients = gradients_of(parameters(), 0)
    reference = parameters()
    give(reference, gradients)
    if algorithm == "norm":
        torch.nn.utils.clip_grad_norm_(reference, value)
    else:
        torch.nn.utils.clip_grad_value_(reference, value)
    graph = make_fx(lambda gradients, value: clipped(gradients, value, algorithm))(gradients, torch.tensor(1.0))
    torch.testing.assert_close(graph(gradients, torch.tensor(value)), [parameter.grad for parameter in reference])


def test_parameters_that_have_taken_other_numbers_of_steps_need_a_graph_of_their_own() -> None:
    """Parameters of as many steps share their bias corrections, so that a graph of theirs is not one of others."""
    trained = parameters()
    optimizer = optim.Adam(trained, lr=0.1)
    alike = update_of(optimizer, trained)
    assert isinstance(alike, Update)
    give(trained[1:], gradients_of(trained, 0)[1:])
    trained[0].grad = None
    optimizer.step()
    unlike = update_of(optimizer, trained)
    assert isinstance(unlike, Update)
    assert alike.form() != unlike.form()
