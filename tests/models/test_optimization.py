"""Optimizers by name with checked arguments, and schedules against the papers they come from."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from vae_lightning.errors import ConfigurationError
from vae_lightning.models.optimization import (
    OPTIMIZERS,
    build_optimizer,
    check_specs,
    direct_step,
    restore_layout,
)
from vae_lightning.models.schedules import BurdaSchedule, CosineSchedule, build_schedule


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
    assert (name in ("adadelta", "adagrad", "radam") or p.abs().max() < 0.3)


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
        ({"lr": 0.1}, r"optimizer\.name=None: unknown"),
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


# ---- schedules


def test_burda_schedule_is_the_papers_3280_epochs() -> None:
    """Epoch by epoch: 3^i epochs at 10^(-i / 7) times the rate, i = 0..7."""
    steps_per_epoch = 5
    schedule = BurdaSchedule(0, steps_per_epoch)
    expected = [10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(expected) == 3280
    assert [schedule(epoch * steps_per_epoch) for epoch in range(3280)] == pytest.approx(expected)
    assert [schedule(epoch * steps_per_epoch + steps_per_epoch - 1) for epoch in range(3280)] == pytest.approx(expected)
    assert schedule(10**6) == pytest.approx(0.1)


def test_burda_schedule_of_fewer_stages_ends_earlier() -> None:
    schedule = BurdaSchedule(0, 1, stages=2)
    assert [schedule(epoch) for epoch in (0, 1, 3, 4, 100)] == pytest.approx([1, *[10 ** (-1 / 7)] * 4])


def test_cosine_schedule_goes_from_one_to_final_by_half_a_cosine() -> None:
    schedule = CosineSchedule(100, 10, final=0.2)
    assert schedule(0) == 1
    assert schedule(25) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert schedule(50) == pytest.approx(0.6)
    assert schedule(100) == pytest.approx(0.2)
    assert schedule(150) == pytest.approx(0.2)
    rates = [schedule(step) for step in range(101)]
    assert rates == sorted(rates, reverse=True)


def test_cosine_schedule_warms_up_linearly_and_starts_above_zero() -> None:
    schedule = CosineSchedule(100, 10, warmup=0.1)
    assert [schedule(step) for step in range(10)] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert schedule(10) == 1
    assert schedule(55) == pytest.approx(0.5)
    assert schedule(100) == pytest.approx(0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "cosine", "warmup": 1.0}, r"lr_schedule\.warmup=1\.0: must be in \[0, 1\)"),
        ({"name": "cosine", "warmup": -0.1}, r"lr_schedule\.warmup=-0\.1: "),
        ({"name": "cosine", "final": 2.0}, r"lr_schedule\.final=2\.0: must be in \[0, 1\]"),
        ({"name": "cosine", "finale": 0.5}, r"lr_schedule\.finale: no such key; did you mean lr_schedule\.final\?"),
        ({"name": "burda", "stages": 0}, r"lr_schedule\.stages=0: must be at least 1"),
        ({"name": "constant", "warmup": 0.1}, r"lr_schedule\.warmup: no such key"),
        ({"name": "cosin"}, r"lr_schedule\.name=cosin: unknown; did you mean cosine, "),
    ],
)
def test_wrong_schedule_is_refused_by_name(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_schedule(SGD([parameter()], lr=1.0), spec, lambda: 100, lambda: 10)


def test_constant_rate_needs_no_schedule_nor_the_number_of_steps() -> None:
    def unknown() -> int:
        raise AssertionError("an endless run has no number of steps")

    assert build_schedule(SGD([parameter()], lr=1.0), {"name": "constant"}, unknown, unknown) is None


def test_schedule_multiplies_the_rate_step_by_step() -> None:
    optimizer = SGD([parameter()], lr=0.5)
    schedule = build_schedule(optimizer, {"name": "cosine"}, lambda: 4, lambda: 2)
    assert schedule is not None
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(5)])


def test_schedule_takes_of_a_checkpoint_the_step_alone() -> None:
    state = {}
    for total, rate in ((4, 0.5), (8, 0.1)):
        optimizer = SGD([parameter()], lr=rate)
        schedule = build_schedule(optimizer, {"name": "cosine"}, lambda total=total: total, lambda: 2)  # type: ignore[misc]
        assert schedule is not None
        if state:
            schedule.load_state_dict(state)
        for _ in range(3):
            optimizer.step()
            schedule.step()
        state = schedule.state_dict()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * (1 + math.cos(math.pi * 6 / 8)) / 2)


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
