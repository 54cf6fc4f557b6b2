"""Learning-rate schedules: functions of the optimizer step, torch's schedulers by name, and a user's own by import path.

A schedule is one of two kinds, which its signature and what it gives tell apart:

- a factor, `f(total_steps, steps_per_epoch, **own) -> (step -> factor)`: the learning rate of an optimizer step is the factor times
  the rate that the optimizer was built with;
- a scheduler, `s(optimizer, **own) -> torch.optim.lr_scheduler.LRScheduler`: a class of torch's, or a user's class or function with
  an argument `optimizer`.

A training that goes on from a checkpoint takes the place of its schedule alone, and has the learning rate that the schedule asked
for now would have had there: a factor is evaluated at that place, a scheduler is built anew and stepped up to it.
"""

import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from vae_lightning.arguments import build, located_or_chosen, parameters, require
from vae_lightning.errors import ConfigurationError, kind_of, one_line
from vae_lightning.models.torch_names import torch_errors, without_null

__all__ = [
    "SCHEDULES",
    "BurdaSchedule",
    "ConstantSchedule",
    "CosineSchedule",
    "PlateauSchedule",
    "Schedule",
    "SteppedSchedule",
    "build_schedule",
    "check_length",
    "depends_on_length",
    "unordered",
]

Factor = Callable[[int], float]
COMPOSITE = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")
"""Schedulers of torch's that are made of functions or of other schedulers, which no plain value can describe."""


class Schedule(LambdaLR):
    """The learning rate as a function of the optimizer step, times the rate the optimizer was built with.

    Of a checkpoint's state it takes the step alone, so that a training that goes on follows the schedule it is asked for now.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    >>> Schedule(optimizer, CosineSchedule(total_steps=4, steps_per_epoch=2)).move_to(2)
    >>> round(optimizer.param_groups[0]["lr"], 6)
    0.25
    """

    interval = "step"

    def __init__(self, optimizer: Optimizer, factor: Factor) -> None:
        # LambdaLR keeps and restores the attributes of a callable object, but not those of a function
        super().__init__(optimizer, lambda step: factor(step))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.move_to(state_dict["last_epoch"])

    def move_to(self, step: int) -> None:
        """Set the rate to that of optimizer step `step`."""
        self.last_epoch, self._step_count = step, step + 1
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
            rate = base * factor(step)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class SteppedSchedule(LRScheduler):
    """A scheduler of torch's, stepped once an optimizer step or once an epoch.

    Of a checkpoint's state it takes the number of steps alone: the scheduler is built anew, and stepped as often.

    Args:
        optimizer: whose learning rate is set.
        make: builds the scheduler for `optimizer`.
        interval: `"step"` or `"epoch"`, what `last_epoch` counts.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = SteppedSchedule(optimizer, lambda o: lr_scheduler.StepLR(o, step_size=2, gamma=0.5), "epoch")
    >>> schedule.move_to(4)
    >>> optimizer.param_groups[0]["lr"]
    0.25
    """

    def __init__(self, optimizer: Optimizer, make: Callable[[Optimizer], LRScheduler], interval: str) -> None:
        # not LRScheduler's own, which would take a first step
        self.optimizer, self.make, self.interval = optimizer, make, interval
        self._start = [{key: _copied(value) for key, value in group.items()} for group in optimizer.param_groups]
        self.inner = make(optimizer)
        self._added = [set(group) - set(start) for group, start in zip(optimizer.param_groups, self._start, strict=True)]
        self.last_epoch = 0

    def step(self, epoch: int | None = None) -> None:
        self.inner.step()
        self.last_epoch += 1

    def get_last_lr(self) -> list[float | Tensor]:
        return self.inner.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "interval": self.interval}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("interval") == self.interval:
            self.move_to(state_dict["last_epoch"])

    def move_to(self, place: int) -> None:
        """Set the optimizer to what it is after `place` steps of the scheduler."""
        if place != self.last_epoch:
            self._begin()
            with unordered():
                for _ in range(place):
                    self.step()

    def _begin(self) -> None:
        settings = {*self.optimizer.defaults, "initial_lr"}  # but not what an optimizer counts there
        for group, start, added in zip(self.optimizer.param_groups, self._start, self._added, strict=True):
            for key in added & set(group):
                del group[key]
            group.update({key: _copied(value) for key, value in start.items() if key in settings})
        self.inner, self.last_epoch = self.make(self.optimizer), 0


class PlateauSchedule(SteppedSchedule):
    """A scheduler of torch's that looks at a metric, after every validation.

    Of a checkpoint's state it takes the values of the metric so far, and goes through them again: best value and bad validations so
    far count, with the factor and patience that are asked for now. Values of another metric do not count.

    Args:
        optimizer: whose learning rate is set.
        make: builds the scheduler for `optimizer`.
        monitor: the metric, `"val/loss"`.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = PlateauSchedule(optimizer, lambda o: ReduceLROnPlateau(o, patience=1), "val/loss")
    >>> for loss in (3.0, 4.0, 5.0):
    ...     schedule.observe({"val/loss": loss})
    >>> optimizer.param_groups[0]["lr"]
    0.1
    """

    inner: ReduceLROnPlateau

    def __init__(self, optimizer: Optimizer, make: Callable[[Optimizer], LRScheduler], monitor: str) -> None:
        self.monitor, self.values = monitor, list[float]()
        super().__init__(optimizer, make, "validation")

    def step(self, epoch: int | None = None) -> None:
        """Do nothing: Lightning steps schedulers of a metric after it has saved checkpoints, which would lack the last value."""

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of a validation.

        Raises:
            ConfigurationError: the metric that the scheduler looks at is not among them.
        """
        if self.monitor not in metrics:
            raise ConfigurationError(f"lr_schedule.monitor={self.monitor}: is not measured in validation; {_choice(metrics)}")
        self.values.append(float(metrics[self.monitor]))
        self.inner.step(self.values[-1])
        self.last_epoch += 1

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "monitor": self.monitor, "values": list(self.values)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("monitor") == self.monitor:
            self._begin()
            self.values = []
            for value in state_dict["values"]:
                self.observe({self.monitor: value})


def _choice(metrics: Mapping[str, float]) -> str:
    return f"there are: {', '.join(metrics)}"


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


class unordered(warnings.catch_warnings):
    """Within, torch does not warn of a scheduler's step before the optimizer's: steps that were taken are gone through again.

    >>> with unordered():
    ...     pass
    """

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")


class ConstantSchedule:
    """The learning rate stays as it is, after a linear warm-up over `warmup` of the steps.

    >>> schedule = ConstantSchedule(total_steps=100, steps_per_epoch=10, warmup=0.2)
    >>> schedule(9), schedule(50)
    (0.5, 1.0)
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, warmup: float = 0.0) -> None:
        require(0 <= warmup < 1, "warmup", warmup, "in [0, 1)")
        self.warmup = int(warmup * total_steps)

    def __call__(self, step: int) -> float:
        return (step + 1) / self.warmup if step < self.warmup else 1.0


class LinearSchedule:
    """Linear warm-up over `warmup` of the steps, then linearly down to `final` times the learning rate.

    >>> schedule = LinearSchedule(total_steps=100, steps_per_epoch=10, warmup=0.2)
    >>> schedule(9), schedule(20), schedule(60)
    (0.5, 1.0, 0.5)
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, warmup: float = 0.0, final: float = 0.0) -> None:
        require(0 <= warmup < 1, "warmup", warmup, "in [0, 1)")
        require(0 <= final <= 1, "final", final, "in [0, 1]")
        self.total, self.warmup, self.final = total_steps, int(warmup * total_steps), final

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        return self.final + (1 - self.final) * self.left(progress)

    def left(self, progress: float) -> float:
        """What is left of the way down to `final` at `progress`, which goes from 0 to 1."""
        return 1 - progress


class CosineSchedule(LinearSchedule):
    """Linear warm-up over `warmup` of the steps, then half a cosine down to `final` times the learning rate.

    >>> CosineSchedule(total_steps=100, steps_per_epoch=10, warmup=0.1)(9)
    1.0
    """

    def left(self, progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))


class BurdaSchedule:
    r"""$3^i$ epochs at $10^{-i/7}$ times the learning rate, i = 0, 1, ... `stages` - 1: 3,280 epochs for 8 stages.

    Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016, https://arxiv.org/abs/1509.00519.

    >>> round(BurdaSchedule(total_steps=0, steps_per_epoch=10)(10), 4)  # the second epoch
    0.7197
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, stages: int = 8) -> None:
        require(stages > 0, "stages", stages, "at least 1")
        self.steps_per_epoch, self.stages = steps_per_epoch, stages

    def __call__(self, step: int) -> float:
        epoch, stage = step // self.steps_per_epoch, 0
        while stage < self.stages - 1 and epoch >= 3**stage:
            epoch -= 3**stage
            stage += 1
        return float(10 ** (-stage / 7))


OWN: dict[str, Callable[..., Any]] = {
    "constant": ConstantSchedule,
    "cosine": CosineSchedule,
    "linear": LinearSchedule,
    "burda": BurdaSchedule,
}
"""This project's schedules, which are factors."""
SCHEDULES: dict[str, Callable[..., Any]] = OWN | {
    re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=LR)(?=[A-Z])", "_", name).lower(): getattr(lr_scheduler, name)
    for name in lr_scheduler.__all__
    if name not in ("LRScheduler", *COMPOSITE)
}
"""Every schedule by name: this project's, and torch's schedulers, `StepLR` as `step_lr`."""


def build_schedule(
    optimizer: Optimizer,
    spec: Mapping[str, Any],
    total_steps: Callable[[], int],
    steps_per_epoch: Callable[[], int],
    monitor: tuple[str, str] = ("val/loss", "min"),
) -> Schedule | SteppedSchedule | None:
    """The schedule `spec` describes; None where the rate is constant.

    `interval` in `spec` says what a scheduler steps after: `"epoch"`, or `"step"` for every optimizer step. It is `"step"` by
    default for one that takes `total_steps` (as OneCycleLR does) and for CyclicLR, `"epoch"` for others. A scheduler that takes
    `total_steps` or `steps_per_epoch`, and is not told them, is given them, counted in its own steps.

    Args:
        optimizer: whose learning rate is set.
        spec: `{"name": <name or import path>, **arguments}`; an argument that is None is left out.
        total_steps: gives the optimizer steps of the whole training.
        steps_per_epoch: gives the optimizer steps of an epoch.
        monitor: the metric that a scheduler such as ReduceLROnPlateau looks at unless `spec` has a `monitor`, and `"min"` or
            `"max"`, whichever of its values is best.

    Raises:
        ConfigurationError: the spec is wrong.
    """
    spec = without_null(spec)
    target = located_or_chosen("lr_schedule.name", _composed(spec.get("name")), SCHEDULES)
    if target is ConstantSchedule and not spec.get("warmup"):
        build("lr_schedule", spec, SCHEDULES, total_steps=0, steps_per_epoch=0)
        return None
    if not callable(target) or not {"optimizer"} & set(parameters(target)[0]):
        return _factor(optimizer, spec, target, total_steps, steps_per_epoch)
    if inspect.isclass(target) and issubclass(target, ReduceLROnPlateau):
        return _plateau(optimizer, spec, target, monitor)
    interval = _interval(spec, target)
    own = {key: value for key, value in spec.items() if key not in _ours(target)}
    offered: dict[str, int] = {}
    if "total_steps" in (wanted := _lengths(target, own)):
        offered["total_steps"] = _in_units(total_steps(), steps_per_epoch(), interval)
    if "steps_per_epoch" in wanted:
        offered["steps_per_epoch"] = steps_per_epoch() if interval == "step" else 1

    def make(optimizer: Optimizer) -> LRScheduler:
        with torch_errors("lr_schedule", own):
            scheduler = build("lr_schedule", own, SCHEDULES, optimizer=optimizer, **offered)
        if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
            right = "must give a scheduler of torch's that looks at no metric"
            raise ConfigurationError(f"lr_schedule.name={spec['name']}: gives {kind_of(scheduler)}; it {right}")
        for first in (float(group["lr"]) for group in optimizer.param_groups):
            require(
                0 <= first < math.inf, f"lr_schedule.name={spec['name']}: its first learning rate", first, "at least 0 and finite"
            )
        return scheduler

    return SteppedSchedule(optimizer, make, interval)


def check_length(
    schedule: object, spec: Mapping[str, Any], total_steps: Callable[[], int], steps_per_epoch: Callable[[], int]
) -> None:
    """Refuse a schedule that ends before the training does, which OneCycleLR would say in the middle of it."""
    if not isinstance(schedule, SteppedSchedule) or not isinstance(schedule.inner, OneCycleLR):
        return
    taken, asked = _in_units(total_steps(), steps_per_epoch(), schedule.interval), schedule.inner.total_steps
    unit = "steps" if schedule.interval == "step" else "epochs"
    key = next((key for key in ("total_steps", "epochs") if spec.get(key) is not None), "total_steps")
    require(asked >= taken, f"lr_schedule.{key}", spec.get(key), f"enough for the {taken} {unit} of the training, or null")


def depends_on_length(spec: Mapping[str, Any], steps: int, lengths: tuple[int, int], steps_per_epoch: int) -> bool:
    """Whether the first `steps` factors of a schedule differ between a training of one of `lengths`, in steps, and the other.

    >>> depends_on_length({"name": "cosine"}, 100, (200, 400), 50), depends_on_length({"name": "burda"}, 100, (200, 400), 50)
    (True, False)
    """
    spec = without_null(spec)
    target = located_or_chosen("lr_schedule.name", _composed(spec.get("name")), SCHEDULES)
    taken = parameters(target)[0] if callable(target) else {}
    own = {key: value for key, value in spec.items() if key not in _ours(target)}
    if "optimizer" in taken:
        return "total_steps" in _lengths(target, own)
    offered = [
        {key: value for key, value in (("total_steps", length), ("steps_per_epoch", steps_per_epoch)) if key in taken}
        for length in lengths
    ]
    first, second = (
        build("lr_schedule", spec, SCHEDULES, **{k: v for k, v in values.items() if k not in spec}) for values in offered
    )
    return any(first(step) != second(step) for step in range(0, steps, max(1, steps // 100)))


def _composed(name: object) -> object:
    """`name`, unless it is of a scheduler that is made of objects."""
    last = str(name).removeprefix("torch.optim.lr_scheduler.")
    if last.replace("_", "").lower() in {kind.lower() for kind in COMPOSITE}:
        raise ConfigurationError(
            f"lr_schedule.name={name}: is made of functions or other schedulers, which no setting can describe; give the import "
            "path of a function of your own, def schedule(optimizer, **arguments), that gives it"
        )
    return name


def _factor(
    optimizer: Optimizer, spec: Mapping[str, Any], target: Any, total_steps: Callable[[], int], steps_per_epoch: Callable[[], int]
) -> Schedule:
    lengths = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    taken = parameters(target)[0] if callable(target) else {}
    offered = {key: length() for key, length in lengths.items() if key in taken and key not in spec}
    if "interval" in spec and "interval" not in taken:
        raise ConfigurationError(f"lr_schedule.interval={spec['interval']}: {spec['name']} is a factor of every step; leave it out")
    factor = build("lr_schedule", spec, SCHEDULES, **offered)
    if not callable(factor):
        wanted = "a scheduler has an argument optimizer, any other schedule gives a function of the step"
        raise ConfigurationError(f"lr_schedule.name={spec['name']}: gives {kind_of(factor)}; {wanted}")
    try:
        first = float(factor(0))
    except Exception as error:  # whatever the code of a user's package raises
        said = one_line(error)
        raise ConfigurationError(f"lr_schedule.name={spec['name']}: step 0 fails: {type(error).__name__}: {said}") from error
    require(0 <= first < math.inf, f"lr_schedule.name={spec['name']}: its factor at step 0", first, "at least 0 and finite")
    return Schedule(optimizer, factor)


def _plateau(optimizer: Optimizer, spec: Mapping[str, Any], target: Any, monitor: tuple[str, str]) -> PlateauSchedule:
    interval, metric = spec.get("interval", "validation"), spec.get("monitor", monitor[0])
    require(interval == "validation", "lr_schedule.interval", interval, "left out: this schedule looks at every validation")
    require(isinstance(metric, str) and metric.startswith("val/"), "lr_schedule.monitor", metric, "a metric of validation, val/...")
    if metric != monitor[0] and "mode" not in spec:
        raise ConfigurationError(f"lr_schedule.mode: missing; say min or max, which of {metric} is best")
    own = {"mode": monitor[1]} if "mode" in parameters(target)[0] else {}
    own |= {key: value for key, value in spec.items() if key not in _ours(target)}

    def make(optimizer: Optimizer) -> LRScheduler:
        with torch_errors("lr_schedule", own):
            scheduler: LRScheduler = build("lr_schedule", own, SCHEDULES, optimizer=optimizer)
        return scheduler

    return PlateauSchedule(optimizer, make, metric)


def _interval(spec: Mapping[str, Any], target: Any) -> str:
    every_step = "total_steps" in parameters(target)[0] or (inspect.isclass(target) and issubclass(target, CyclicLR))
    default = "step" if every_step else "epoch"
    interval = default if "interval" not in _ours(target) else spec.get("interval", default)
    require(interval in ("step", "epoch"), "lr_schedule.interval", interval, "step or epoch")
    return str(interval)


def _ours(target: Any) -> set[str]:
    """Keys of a spec that are not for the scheduler itself, unless it has arguments of that name."""
    plateau = inspect.isclass(target) and issubclass(target, ReduceLROnPlateau)
    return ({"interval", "monitor"} if plateau else {"interval"}) - set(parameters(target)[0])


def _lengths(target: Any, own: Mapping[str, Any]) -> set[str]:
    """Which lengths of the training a scheduler is given: those that it takes and that the spec does not say otherwise."""
    wanted = {"total_steps", "steps_per_epoch"} & set(parameters(target)[0])
    return wanted - set(own) - ({"total_steps"} if {"epochs", "steps_per_epoch"} & set(own) else set())


def _in_units(total_steps: int, steps_per_epoch: int, interval: str) -> int:
    return total_steps if interval == "step" else math.ceil(total_steps / max(1, steps_per_epoch))
