"""Schedules against the papers they come from and against torch's own, and what they take of a checkpoint."""

import math
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Optimizer, lr_scheduler

from vae_lightning.errors import ConfigurationError
from vae_lightning.models.optimization import check_specs
from vae_lightning.models.schedules import (
    SCHEDULES,
    BurdaSchedule,
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    PlateauSchedule,
    SteppedSchedule,
    build_schedule,
    check_length,
)


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.tensor([3.0, -2.0]))


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


def test_linear_schedule_goes_from_one_to_final_by_equal_steps() -> None:
    rates = [LinearSchedule(10, 2, final=0.2)(step) for step in range(13)]
    assert rates == pytest.approx([1.0, 0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44, 0.36, 0.28, 0.2, 0.2, 0.2])


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
        ({"name": "constant", "warmup": 1.0}, r"lr_schedule\.warmup=1\.0: must be in \[0, 1\)"),
        ({"name": "constant", "final": 0.1}, r"lr_schedule\.final: no such key"),
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


def rates_of(spec: dict[str, Any], total: int) -> list[float]:
    """The rates of the first five steps of a training of `total`, from 0.5."""
    optimizer = SGD([parameter()], lr=0.5)
    schedule = build_schedule(optimizer, spec, lambda: total, lambda: 2)
    assert schedule is not None
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_constant_rate_is_warmed_up_if_that_is_asked_for() -> None:
    rates = rates_of({"name": "constant", "warmup": 0.2}, total=10)
    assert rates == [0.25, 0.5, 0.5, 0.5, 0.5]


def test_schedule_multiplies_the_rate_step_by_step() -> None:
    rates = rates_of({"name": "cosine"}, total=4)
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


# ---- torch's, and one's own

STEPPED: dict[str, dict[str, Any]] = {
    "step_lr": {"step_size": 3},
    "multi_step_lr": {"milestones": [2, 5], "gamma": 0.5},
    "constant_lr": {},
    "linear_lr": {},
    "exponential_lr": {"gamma": 0.9},
    "cosine_annealing_lr": {"T_max": 7},
    "cosine_annealing_warm_restarts": {"T_0": 3},
    "polynomial_lr": {},
    "cyclic_lr": {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 3},
    "one_cycle_lr": {"max_lr": 1.0},
}


def optimizer_at(lr: float = 0.5) -> SGD:
    return SGD([parameter()], lr=lr, momentum=0.9)


def built(optimizer: Optimizer, spec: dict[str, Any], total: int = 20) -> Any:
    return build_schedule(optimizer, spec, lambda: total, lambda: 5, ("val/elbo", "max"))


def settings(optimizer: Optimizer) -> list[float]:
    return [optimizer.param_groups[0][key] for key in ("lr", "momentum")]


def test_every_scheduler_of_torch_that_values_describe_has_its_name() -> None:
    assert set(SCHEDULES) == {"constant", "cosine", "linear", "burda", "reduce_lr_on_plateau", *STEPPED}


@pytest.mark.parametrize("name", STEPPED)
def test_scheduler_of_torch_is_torchs_and_stands_after_a_checkpoint_where_it_stood(name: str) -> None:
    kind = SCHEDULES[name]
    theirs, ours, again = optimizer_at(), optimizer_at(), optimizer_at()
    length = {"total_steps": 20} if name == "one_cycle_lr" else {}
    reference, schedule = kind(theirs, **STEPPED[name], **length), built(ours, {"name": name, **STEPPED[name]})
    for _ in range(12):
        for optimizer, each in ((theirs, reference), (ours, schedule)):
            optimizer.step()
            each.step()
        assert settings(ours) == settings(theirs), "to the bit"
    restored = built(again, {"name": name, **STEPPED[name]})
    restored.load_state_dict(schedule.state_dict())
    assert settings(again) == settings(ours)
    again.step()
    ours.step()
    restored.step()
    schedule.step()
    assert settings(again) == settings(ours)


OWN = {"cosine": {"warmup": 0.3, "final": 0.1}, "linear": {"warmup": 0.3, "final": 0.1}, "burda": {"stages": 3}}


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", *OWN, *STEPPED])
def test_schedule_is_defined_at_every_step_and_goes_on_after_a_stop_at_any(name: str) -> None:
    """As long as the training is, and after it too, where the schedule has no end of its own."""
    spec, total = {"name": name, **OWN.get(name, {}), **STEPPED.get(name, {})}, 20
    steps = total - 1 if name == "one_cycle_lr" else 2 * total

    def advance(schedule: Any, step: int) -> list[float]:
        schedule.optimizer.step()
        schedule.observe({"val/elbo": [3.0, 1.0, 2.0][step % 3]}) if name == "reduce_lr_on_plateau" else schedule.step()
        return settings(schedule.optimizer)

    whole, states = built(optimizer_at(), spec, total), []
    rates = []
    for step in range(steps):
        states.append(whole.state_dict())
        rates.append(advance(whole, step))
    assert all(math.isfinite(rate) and rate >= 0 for rate, _ in rates)
    assert len({rate for rate, _ in rates}) > 1, "the rate is scheduled"
    for stop, state in enumerate(states):
        schedule = built(optimizer_at(), spec, total)
        schedule.load_state_dict(state)
        assert [advance(schedule, step) for step in range(stop, min(stop + 5, steps))] == rates[stop : stop + 5], stop


SHARES = st.floats(0, 1)


@given(st.integers(1, 20), st.integers(1, 10), SHARES, SHARES, st.integers(1, 5))
def test_factors_of_this_projects_schedules_are_defined_at_every_step_of_any_training(
    epoch: int, epochs: int, warmup: float, final: float, stages: int
) -> None:
    total = epoch * epochs
    schedules = [
        CosineSchedule(total, epoch, warmup, final),
        LinearSchedule(total, epoch, warmup, final),
        BurdaSchedule(total, epoch, stages),
        ConstantSchedule(total, epoch, warmup),
    ]
    for schedule in schedules:
        factors = [schedule(step) for step in range(2 * total)]
        assert all(0 <= factor <= 1 for factor in factors)
        peak = factors.index(max(factors))
        assert factors[:peak] == sorted(factors[:peak]), "up to the peak"
        assert factors[peak:] == sorted(factors[peak:], reverse=True), "and down from there"
    assert schedules[0](total) == pytest.approx(final)


def test_schedule_of_a_checkpoint_has_the_settings_asked_for_now() -> None:
    before = built(optimizer_at(), {"name": "exponential_lr", "gamma": 0.1})
    before.optimizer.step()
    for _ in range(3):
        before.step()
    optimizer = optimizer_at(0.25)
    schedule = built(optimizer, {"name": "exponential_lr", "gamma": 0.5})
    schedule.load_state_dict(before.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.25 / 8
    schedule.move_to(1)
    assert optimizer.param_groups[0]["lr"] == 0.25 / 2


@pytest.mark.parametrize(
    ("spec", "interval"),
    [
        ({"name": "step_lr", "step_size": 2}, "epoch"),
        ({"name": "step_lr", "step_size": 2, "interval": "step"}, "step"),
        ({"name": "cyclic_lr", "base_lr": 0.1, "max_lr": 1.0}, "step"),
        ({"name": "one_cycle_lr", "max_lr": 1.0}, "step"),
        ({"name": "one_cycle_lr", "max_lr": 1.0, "interval": "epoch"}, "epoch"),
        ({"name": "torch.optim.lr_scheduler.StepLR", "step_size": 2}, "epoch"),
        ({"name": "mine.warmed"}, "step"),
        ({"name": "mine.halved"}, "epoch"),
    ],
)
def test_scheduler_steps_after_what_it_is_meant_for(own: str, spec: dict[str, Any], interval: str) -> None:
    schedule = built(optimizer_at(), spec)
    assert isinstance(schedule, SteppedSchedule)
    assert schedule.interval == interval


@pytest.mark.parametrize(
    ("more", "total"),
    [
        ({}, 20),
        ({"interval": "epoch"}, 4),
        ({"total_steps": 30}, 30),
        ({"epochs": 5}, 25),
        ({"epochs": 5, "interval": "epoch"}, 5),
        ({"epochs": 3, "steps_per_epoch": 9}, 27),
    ],
)
def test_one_cycle_is_as_long_as_the_training_unless_told_otherwise(more: dict[str, Any], total: int) -> None:
    spec = {"name": "one_cycle_lr", "max_lr": 1.0, **more}
    schedule = built(optimizer_at(), spec)
    assert schedule.inner.total_steps == total
    check_length(schedule, spec, lambda: 20, lambda: 5)
    with pytest.raises(ConfigurationError, match=r"^lr_schedule\.(total_steps|epochs)=.*: must be enough for the"):
        check_length(schedule, spec, lambda: 200, lambda: 5)


def test_plateau_takes_the_values_so_far_and_the_patience_asked_for_now() -> None:
    spec = {"name": "reduce_lr_on_plateau", "patience": 1, "factor": 0.1}
    before = built(optimizer_at(1.0), spec)
    assert isinstance(before, PlateauSchedule)
    assert (before.monitor, before.inner.mode) == ("val/elbo", "max"), "the model's own"
    for value in (-3.0, -4.0, -5.0, -6.0):
        before.observe({"val/elbo": value})
        before.step()
    assert before.optimizer.param_groups[0]["lr"] == 0.1
    same, patient, other = (built(optimizer_at(1.0), s) for s in (spec, {**spec, "patience": 3}, {**spec, "factor": 0.5}))
    for schedule, rate, bad in ((same, 0.1, 1), (patient, 1.0, 3), (other, 0.5, 1)):
        schedule.load_state_dict(before.state_dict())
        assert schedule.optimizer.param_groups[0]["lr"] == rate
        assert (schedule.inner.best, schedule.inner.num_bad_epochs) == (-3.0, bad)
    foreign = built(optimizer_at(1.0), {**spec, "monitor": "val/kl", "mode": "min"})
    foreign.load_state_dict(before.state_dict())
    assert foreign.inner.best == math.inf, "values of another metric do not count"
    with pytest.raises(
        ConfigurationError, match=r"lr_schedule\.monitor=val/kl: is not measured in validation; there are: val/loss"
    ):
        foreign.observe({"val/loss": 1.0})


def warmed(optimizer: Optimizer, total_steps: int, warmup: float = 0.25) -> lr_scheduler.LRScheduler:
    """A composite of two, which no values describe."""
    steps = int(warmup * total_steps)
    parts = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=steps),
        lr_scheduler.CosineAnnealingLR(optimizer, total_steps - steps),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, [steps])


def halved(optimizer: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)


def rooted(total_steps: int, steps_per_epoch: int, power: float = 0.5) -> Callable[[int], float]:
    return lambda step: float((1 + step) ** -power)


def no_schedule(total_steps: int) -> int:
    return total_steps


def no_scheduler(optimizer: Optimizer) -> int:
    return 3


def broken(total_steps: int) -> Callable[[int], float]:
    return lambda step: 1 / step


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> str:
    """This file as a package that can be imported by path."""
    module = ModuleType("mine")
    vars(module).update(globals())
    monkeypatch.setitem(sys.modules, "mine", module)
    return "mine"


def test_function_of_ones_own_gives_a_scheduler_or_a_factor(own: str) -> None:
    optimizer, reference = optimizer_at(), optimizer_at()
    schedule, theirs = built(optimizer, {"name": "mine.warmed", "warmup": 0.5}), warmed(reference, 20, 0.5)
    for _ in range(12):
        for o, s in ((optimizer, schedule), (reference, theirs)):
            o.step()
            s.step()
    assert settings(optimizer) == settings(reference)
    again = optimizer_at()
    built(again, {"name": "mine.warmed", "warmup": 0.5}).load_state_dict(schedule.state_dict())
    assert settings(again) == settings(reference)
    factor = built(optimizer_at(1.0), {"name": "mine.rooted", "power": 1.0})
    factor.move_to(3)
    assert factor.optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "step_lr"}, r"lr_schedule\.step_size: missing"),
        ({"name": "step_lr", "step_size": "a"}, r"lr_schedule\.step_size='a': "),
        ({"name": "step_lr", "step_size": 1, "gama": 1}, r"lr_schedule\.gama: no such key; did you mean lr_schedule\.gamma\?"),
        ({"name": "step_lr", "step_size": 1, "interval": "batch"}, r"lr_schedule\.interval=batch: must be step or epoch"),
        ({"name": "StepLR"}, r"lr_schedule\.name=StepLR: unknown; did you mean step_lr\?"),
        (
            {"name": "sequential_lr"},
            r"lr_schedule\.name=sequential_lr: is made of .*give the import path of a function of your own",
        ),
        ({"name": "LambdaLR"}, r"lr_schedule\.name=LambdaLR: is made of"),
        ({"name": "torch.optim.lr_scheduler.ChainedScheduler"}, r"lr_schedule\.name=.*ChainedScheduler: is made of"),
        ({"name": "one_cycle_lr", "max_lr": [0.1, 0.2]}, r"lr_schedule\.max_lr=\[0\.1, 0\.2\]: max_lr must have the same length"),
        ({"name": "reduce_lr_on_plateau", "factor": 2.0}, r"lr_schedule\.factor=2\.0: Factor should be < 1\.0"),
        (
            {"name": "reduce_lr_on_plateau", "monitor": "train/loss"},
            r"lr_schedule\.monitor=train/loss: must be a metric of validation",
        ),
        ({"name": "reduce_lr_on_plateau", "monitor": "val/kl"}, r"lr_schedule\.mode: missing; say min or max"),
        ({"name": "reduce_lr_on_plateau", "interval": "step"}, r"lr_schedule\.interval=step: must be left out"),
        ({"name": "cosine", "interval": "step"}, r"lr_schedule\.interval=step: cosine is a factor of every step"),
        ({"name": "mine.no_schedule"}, r"lr_schedule\.name=mine\.no_schedule: gives an int"),
        ({"name": "mine.no_scheduler"}, r"lr_schedule\.name=mine\.no_scheduler: gives an int"),
        ({"name": "mine.broken"}, r"lr_schedule\.name=mine\.broken: step 0 fails: ZeroDivisionError"),
        ({"name": "mine.nothing"}, r"lr_schedule\.name=mine\.nothing: mine has no nothing"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_before_training_in_one_line(own: str, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{message}") as refusal:
        check_specs({"name": "sgd", "momentum": 0.9}, spec)
    assert "\n" not in str(refusal.value)


def test_momentum_that_a_schedule_would_cycle_must_be_there() -> None:
    with pytest.raises(ConfigurationError, match=r"lr_schedule\.name=one_cycle_lr: optimizer must support momentum"):
        check_specs({"name": "adagrad"}, {"name": "one_cycle_lr", "max_lr": 1.0})
