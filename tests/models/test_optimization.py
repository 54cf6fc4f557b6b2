"""Optimizers by name with checked arguments, and schedules against the papers they come from."""

import copy
import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from vae_lightning import VAE
from vae_lightning.errors import ConfigurationError
from vae_lightning.models import M2
from vae_lightning.models.groups import hidden_matrices
from vae_lightning.models.optimization import (
    OPTIMIZERS,
    build_optimizer,
    check_specs,
    direct_step,
    restore_layout,
    try_specs,
)
from vae_lightning.models.schedules import SteppedSchedule, build_schedule

REFUSED = {"lbfgs", "sparseadam"}
"""Optimizers of torch that cannot train these models: of several evaluations a step, and of sparse gradients."""


def parameter(dims: int = 1) -> nn.Parameter:
    return nn.Parameter(torch.tensor([3.0, -2.0]).view(2, *[1] * (dims - 1)))


def test_every_optimizer_of_torch_has_its_name() -> None:
    """Against torch's own list."""
    assert set(OPTIMIZERS) == {name.lower() for name in torch.optim.__all__ if name[0].isupper()} - {"optimizer"}


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - REFUSED))
def test_every_optimizer_descends_at_the_rate_asked_for(name: str) -> None:
    p = parameter(2)
    optimizer = build_optimizer([p], {"name": name, "lr": 0.05})
    assert optimizer.param_groups[0]["lr"] == 0.05
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = p.square().sum()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    # Adadelta and Adagrad slow down by themselves
    assert losses[-1] < 1e-9 or losses[-1] < losses[100] < losses[0]
    assert name in ("adadelta", "adagrad", "radam") or p.abs().max() < 0.3


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - REFUSED))
def test_rate_has_a_default_which_null_leaves(name: str) -> None:
    default = build_optimizer([parameter(2)], {"name": name}).param_groups[0]["lr"]
    assert default == build_optimizer([parameter(2)], {"name": name, "lr": None, "weight_decay": None}).param_groups[0]["lr"] > 0


@pytest.mark.parametrize(
    ("name", "message"), [("lbfgs", "several times a step"), ("sparseadam", "does not support dense gradients")]
)
def test_optimizer_that_cannot_train_these_models_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^optimizer\.name={name}: .*{message}"):
        check_specs({"name": name}, {"name": "constant"})


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_optimizer_is_fused_unless_gradients_are_scaled_or_it_was_said_otherwise(name: str) -> None:
    assert build_optimizer([parameter()], {"name": name}).defaults["fused"] is True
    assert build_optimizer([parameter()], {"name": name}, scaled=True).defaults["fused"] is False
    assert build_optimizer([parameter()], {"name": name, "fused": False}).defaults["fused"] is False


def test_further_arguments_are_torchs() -> None:
    spec = {"name": "adam", "lr": 1, "eps": 1e-4, "weight_decay": 0.1, "betas": [0.8, 0.9], "amsgrad": True}
    optimizer = build_optimizer([parameter()], spec)
    group = optimizer.param_groups[0]
    assert {key: group[key] for key in ("lr", "eps", "weight_decay", "amsgrad")} == {
        "lr": 1,
        "eps": 1e-4,
        "weight_decay": 0.1,
        "amsgrad": True,
    }
    assert tuple(group["betas"]) == (0.8, 0.9)
    assert spec["betas"] == [0.8, 0.9]
    assert "fused" not in spec


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "adam", "weight_decy": 0.1},
            r"optimizer\.weight_decy: no such key; did you mean optimizer\.weight_decay\?",
        ),
        ({"name": "rmsprp"}, r"optimizer\.name=rmsprp: unknown; did you mean rmsprop\?"),
        ({"lr": 0.1}, r"optimizer\.name=null: unknown"),
        ({"name": "adam", "lr": "fast"}, r"optimizer\.lr='fast': "),
        ({"name": "sgd", "momentum": "much"}, r"optimizer\.momentum='much': "),
    ],
)
def test_wrong_argument_is_refused_by_name(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_optimizer([parameter()], spec)


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, 0, -1])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_rate_must_be_positive(name: str, lr: float) -> None:
    with pytest.raises(ConfigurationError, match=r"optimizer\.lr=.*: must be positive"):
        build_optimizer([parameter()], {"name": name, "lr": lr})


@pytest.mark.parametrize(
    ("was", "now", "kept"),
    [
        ({"name": "adam"}, {"name": "adam", "lr": 0.5, "betas": [0.1, 0.2], "eps": 1e-3, "fused": False}, True),
        ({"name": "adam"}, {"name": "adamw"}, True),
        ({"name": "adam", "amsgrad": True}, {"name": "adam"}, True),
        ({"name": "adam"}, {"name": "adam", "amsgrad": True}, False),
        ({"name": "sgd"}, {"name": "sgd", "momentum": 0.9}, False),
        ({"name": "sgd", "momentum": 0.9}, {"name": "sgd", "momentum": 0.5}, True),
        ({"name": "rmsprop"}, {"name": "rmsprop", "centered": True}, False),
        ({"name": "adam"}, {"name": "adamax"}, False),
    ],
)
def test_optimizer_takes_of_a_checkpoint_the_moments_that_it_has_a_use_for(
    was: dict[str, Any], now: dict[str, Any], kept: bool
) -> None:
    old, new = (build_optimizer([p], spec) for p, spec in ((parameter(), was), (parameter(), now)))
    for optimizer in (old, new):
        p = optimizer.param_groups[0]["params"][0]
        p.grad = torch.ones(2)
        if optimizer is new:
            settings = {key: value for key, value in new.param_groups[0].items() if key != "params"}
            new.load_state_dict(old.state_dict())
            assert {key: value for key, value in new.param_groups[0].items() if key != "params"} == settings
            assert bool(new.state) == kept
        optimizer.step()


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "adam"},
        {"name": "adam", "weight_decay": 0.1, "eps": 1e-3, "betas": (0.5, 0.7), "maximize": True},
        {"name": "adamw", "weight_decay": 0.1},
        {"name": "adam", "amsgrad": True},
        {"name": "adam", "fused": False},
        {"name": "sgd", "momentum": 0.9},
    ],
)
def test_direct_step_is_the_optimizers_own(spec: dict[str, Any]) -> None:
    """At a rate that changes, to the bit, and its state with it."""
    ends = []
    for direct in (False, True):
        p = [nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3)), nn.Parameter(torch.ones(()))]
        optimizer = build_optimizer(p, {"lr": 0.1, **spec})
        step: Callable[[], object] = optimizer.step
        for number in range(20):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
            for parameter in p:
                parameter.grad = parameter.detach() ** 3 + number
            step()
            step = (direct_step(optimizer) or step) if direct and number == 0 else step
        ends.append([*p, *(value for state in optimizer.state.values() for value in state.values())])
    for one, other in zip(*ends, strict=True):
        assert one == other if not isinstance(one, torch.Tensor) else torch.equal(one, other)


def test_direct_step_leaves_hooks_and_own_steps_their_say() -> None:
    def stepped() -> torch.optim.Optimizer:
        optimizer = build_optimizer([parameter()], {"name": "adam", "lr": 0.1})
        optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
        optimizer.step()
        return optimizer

    assert direct_step(stepped()) is not None
    hooked, own, thawed = stepped(), stepped(), stepped()
    hooked.register_step_post_hook(lambda *_: None)
    own.step = lambda closure=None: None  # type: ignore[method-assign]
    thawed.param_groups[0]["params"].append(nn.Parameter(torch.ones(1)))
    thawed.param_groups[0]["params"][1].grad = torch.ones(1)
    assert [direct_step(optimizer) for optimizer in (hooked, own, thawed)] == [None, None, None]


def test_state_of_another_layout_counts_as_it_did() -> None:
    """A fused Adam would otherwise pair each weight with another's moments."""
    ends = []
    for other_layout in (False, True):
        source = torch.Generator().manual_seed(0)
        weight = torch.randn(4, 3, 2, 2, generator=source).to(memory_format=torch.channels_last)
        p = nn.Parameter(weight)
        optimizer = build_optimizer([p], {"name": "adam", "lr": 0.1})
        for number in range(2):
            p.grad = torch.randn(4, 3, 2, 2, generator=source).to(memory_format=torch.channels_last)
            optimizer.step()
            if other_layout and number == 0:
                state = optimizer.state[p]
                state.update({name: state[name].contiguous() for name in ("exp_avg", "exp_avg_sq")})
                restore_layout(optimizer)
        ends.append(p)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "adam", "foreach": True}, r"optimizer\.foreach=True: goes with fused=False only"),
        ({"name": "adam", "betas": [0.9, 1.0]}, r"optimizer\.betas=\[0\.9, 1\.0\]: Invalid beta"),
        ({"name": "adam", "eps": -1.0}, r"optimizer\.eps=-1\.0: Invalid epsilon"),
        ({"name": "sgd", "nesterov": True}, r"optimizer\.nesterov=True: Nesterov momentum requires"),
        ({"name": "sgd", "momentum": -1.0}, r"optimizer\.momentum=-1\.0"),
        ({"name": "adam", "fused": False, "differentiable": True}, r"optimizer\.differentiable=True"),
        ({"name": "adam", "lr": float("inf")}, r"optimizer\.lr=inf: must be positive and finite"),
    ],
)
def test_what_torch_would_refuse_at_the_first_step_is_refused_by_name(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        check_specs(spec, {"name": "constant"})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "spec", [{"name": "adam", "fused": False, "foreach": True}, {"name": "sgd", "nesterov": True, "momentum": 0.9}]
)
def test_what_torch_takes_is_taken(spec: dict[str, object]) -> None:
    check_specs(spec, {"name": "constant"})


# ---- optimizers and groups of one's own


class Rateless(Optimizer):
    """Steps by the sign of the gradient, and calls its rate by another name."""

    def __init__(self, params: Any, size: float = 0.1, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        assert isinstance(betas, tuple)
        super().__init__(params, {"size": size})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["size"] * p.grad.sign())


def weights_and_biases(model: nn.Module, decay: float = 0.1) -> list[dict[str, Any]]:
    weights = [p for p in model.parameters() if p.dim() > 1]
    biases = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": biases, "lr": 0.5}, {"params": weights, "weight_decay": decay}]


def reversed_groups(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [p]} for p in reversed(list(model.parameters()))]


def weights_alone(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [p for p in model.parameters() if p.dim() > 1]}]


def all_twice(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(model.parameters())} for _ in range(2)]


def others(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [parameter()]}]


def misspelt(model: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(model.parameters()), "weight_decy": 0.1}]


def broken(model: nn.Module) -> list[dict[str, Any]]:
    raise ValueError("two\nlines")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """This file as a package that can be imported by path."""
    module = ModuleType("mine")
    vars(module).update(globals())
    monkeypatch.setitem(sys.modules, "mine", module)
    return "mine"


def test_optimizer_of_ones_own_takes_its_arguments_and_no_rate_where_it_has_none(own: str) -> None:
    p = parameter()
    optimizer = build_optimizer([p], {"name": "mine.Rateless", "size": 0.5, "betas": [0.1, 0.2], "lr": None})
    p.grad = torch.tensor([1.0, -1.0])
    optimizer.step()
    assert p.tolist() == [2.5, -1.5]
    with pytest.raises(ConfigurationError, match=r"optimizer\.lr=0\.001: mine\.Rateless has no such argument; null leaves it out"):
        build_optimizer([p], {"name": "mine.Rateless", "lr": 0.001})


def test_torchs_optimizer_is_the_same_by_its_path() -> None:
    by_path, by_name = (build_optimizer([parameter()], {"name": name}) for name in ("torch.optim.AdamW", "adamw"))
    assert type(by_path) is type(by_name)
    assert by_path.defaults == by_name.defaults


def test_groups_are_those_of_ones_own_function(own: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    spec = {"name": "adam", "lr": 0.1, "groups": {"name": "mine.weights_and_biases", "decay": 0.3}}
    optimizer = build_optimizer(model, spec)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [(0.5, 0, 2), (0.1, 0.3, 2)]
    check_specs(spec, {"name": "step_lr", "step_size": 1})
    try_specs(model, spec, {"name": "one_cycle_lr", "max_lr": [0.1, 0.2]})
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert direct_step(optimizer) is None, "which is for one group"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("mine.weights_alone", r"optimizer\.groups=mine\.weights_alone: bias is in no group"),
        ("mine.all_twice", r"optimizer\.groups=mine\.all_twice: weight is in group 0 and in group 1"),
        ("mine.others", r"optimizer\.groups=mine\.others: group 0 has a parameter that is not the model's"),
        ("mine.misspelt", r"optimizer\.groups\[0\]\.weight_decy: no such key; did you mean"),
        ("mine.broken", r"optimizer\.groups=mine\.broken: calling it fails: ValueError: two lines"),
        ("mine.nothing", r"optimizer\.groups=mine\.nothing: mine has no nothing"),
        ("mine", r"optimizer\.groups=mine: give the import path of a function"),
        ({"name": "mine.weights_and_biases", "decy": 1}, r"optimizer\.groups\.decy: no such key; did you mean"),
    ],
)
def test_wrong_groups_are_refused_in_one_line(own: str, groups: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        try_specs(nn.Linear(2, 1), {"name": "adam", "groups": groups}, {"name": "constant"})
    assert "\n" not in str(refusal.value)


def test_optimizer_that_cannot_train_a_models_parameters_is_refused() -> None:
    check_specs({"name": "muon"}, {"name": "constant"})
    with pytest.raises(ConfigurationError, match=r"optimizer\.name=muon: Muon only supports 2D parameters"):
        try_specs(nn.Linear(2, 1), {"name": "muon"}, {"name": "constant"})


@pytest.mark.parametrize(("was", "now"), [(None, "mine.reversed_groups"), ("mine.reversed_groups", "mine.weights_and_biases")])
def test_moments_follow_their_parameters_into_other_groups(own: str, was: str | None, now: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    old, new = (build_optimizer(model, {"name": "adam", "groups": groups}) for groups in (was, now))
    for number, p in enumerate(model.parameters()):
        p.grad = torch.full_like(p, number + 1.0)
    old.step()
    new.load_state_dict(old.state_dict())
    for p in model.parameters():
        assert torch.equal(new.state[p]["exp_avg"], old.state[p]["exp_avg"])
    settings = [group.get("weight_decay") for group in new.param_groups]
    assert settings == ([0, 0.1] if now == "mine.weights_and_biases" else [0] * 4)


def test_state_that_depends_on_the_shape_is_kept_whole() -> None:
    """Adafactor keeps other numbers of a bias than of a weight."""
    model = nn.Linear(3, 2)
    old, new = (build_optimizer(model, {"name": "adafactor"}) for _ in range(2))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    old.step()
    new.load_state_dict(old.state_dict())
    assert [set(new.state[p]) for p in model.parameters()] == [set(old.state[p]) for p in model.parameters()]


SOAP = {"name": "pytorch_optimizer.SOAP", "lr": 0.1, "weight_decay": 0.0, "precondition_frequency": 2}
MUON = {"name": "pytorch_optimizer.Muon", "lr": 0.1, "groups": {"name": "hidden_matrices", "lr": 0.1}}


def chain(spec: dict[str, Any]) -> tuple[nn.Sequential, Optimizer]:
    """Three layers, the same at each call, and their optimizer."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 5))
    return net, build_optimizer(net, spec)


def descend(net: nn.Sequential, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        (net(torch.full((3, 5), float(step))) - 1).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("spec", [SOAP, MUON, {"name": "adam"}])
def test_steps_go_on_where_they_stood_also_where_groups_count_them(spec: dict[str, Any]) -> None:
    if "." in spec["name"]:
        pytest.importorskip("pytorch_optimizer")
    whole, optimizer = chain(spec)
    descend(whole, optimizer, range(7))
    first, before = chain(spec)
    descend(first, before, range(3))
    second, after = chain({**spec, "lr": 0.3})  # its own settings stay
    second.load_state_dict(first.state_dict())
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert after.param_groups[0]["lr"] == 0.3
    for group in after.param_groups:
        group["lr"] = spec.get("lr", 0.001)
    descend(second, after, range(3, 7))
    for wanted, found in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(wanted, found)


def test_schedulers_that_are_built_anew_leave_what_an_optimizer_counts() -> None:
    pytest.importorskip("pytorch_optimizer")
    net, optimizer = chain(SOAP)
    schedule = build_schedule(optimizer, {"name": "step_lr", "step_size": 2}, lambda: 10, lambda: 2)
    assert isinstance(schedule, SteppedSchedule)
    descend(net, optimizer, range(3))
    schedule.move_to(4)
    assert optimizer.param_groups[0]["step"] == 3
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize("prior", ["standard", "mog", "vamp"])
def test_hidden_matrices_are_those_between_pixels_whatever_the_prior_learns(prior: str) -> None:
    model = VAE(
        latent_dim=3,
        net={"name": "mlp", "hidden": [8, 6]},
        prior={"name": prior} if prior == "standard" else {"name": prior, "components": 5},
    )
    hidden, rest = hidden_matrices(model)
    assert [tuple(matrix.shape) for matrix in hidden["params"]] == [(6, 8), (3, 6), (3, 6), (6, 3), (8, 6)]
    assert {(8, 784), (784, 8)} <= {tuple(parameter.shape) for parameter in rest["params"]}
    assert len(hidden["params"]) + len(rest["params"]) == len(list(model.parameters()))


def test_hidden_matrices_of_a_classifier_are_not_those_of_classes() -> None:
    net = {"name": "classifier_mlp", "hidden": [8, 6]}
    model = M2(latent_dim=3, net={"name": "mlp", "hidden": [7]}, classifier=net, num_classes=4)
    of_classifier = [
        name for name, p in model.classifier.named_parameters() if any(p is q for q in hidden_matrices(model)[0]["params"])
    ]
    assert [tuple(model.classifier.get_parameter(name).shape) for name in of_classifier] == [(6, 8)]


def test_setting_that_an_optimizer_repeats_in_its_state_is_the_one_asked_for() -> None:
    pytest.importorskip("pytorch_optimizer")
    net, before = chain(SOAP)
    descend(net, before, range(3))
    after = build_optimizer(net, {**SOAP, "precondition_frequency": 7})
    after.load_state_dict(before.state_dict())
    assert {state["precondition_frequency"] for state in after.state.values()} == {7}


# ---- Muon, which is built of groups alone


def test_muon_orthogonalises_hidden_matrices_and_leaves_the_rest_to_adam() -> None:
    pytest.importorskip("pytorch_optimizer")
    spec = {
        "name": "pytorch_optimizer.Muon",
        "lr": 0.5,
        "groups": {"name": "hidden_matrices", "lr": 0.1},
    }
    check_specs(spec, {"name": "constant"})
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 5))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = build_optimizer(net, spec)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    steps = [was - parameter.detach() for was, parameter in zip(before, net.parameters(), strict=True)]
    assert torch.linalg.svdvals(steps[2] / 0.5).sub(1).abs().max() < 0.4  # five turns of Newton-Schulz: near to 1
    for step, parameter in zip([*steps[:2], *steps[3:]], [*net[0].parameters(), *net[2].parameters()], strict=True):
        assert torch.allclose(step, 0.1 * parameter.grad.sign(), atol=1e-5)  # Adam's first step
    restored = build_optimizer(copy.deepcopy(net), spec)
    restored.load_state_dict(optimizer.state_dict())
    assert {len(state) for state in restored.state.values()} == {1, 2}  # a momentum, and Adam's two moments


def test_misspelt_argument_of_an_optimizer_with_groups_is_refused_before_there_is_a_model() -> None:
    groups = "hidden_matrices"
    with pytest.raises(ConfigurationError, match=r"optimizer\.weight_decy: no such key; did you mean"):
        check_specs({"name": "adam", "weight_decy": 0.1, "groups": groups}, {"name": "constant"})
