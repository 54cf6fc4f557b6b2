"""Whether a model's step can be traced once: which of its Python state a graph would freeze.

A graph is traced once and then computes thousands of steps. Tensors go into the graph anew in each step. A number, a flag or a hook
that the model's code reads is read only once, when the graph is traced. So `python_state` collects what the code could read, to be
compared from time to time; and `run_state_forbidden` finds out whether the code reads what cannot be compared, the Trainer and all
that the Trainer knows.
"""

import copy
import dataclasses
import functools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from vae_lightning.models.base import BOOKKEEPING, Module, numbers_of, replaced_numbers
from vae_lightning.noise import Source
from vae_lightning.types import Noise

__all__ = ["ReadsRunStateError", "changes_of", "draws_purely", "hooked", "python_state", "run_state_forbidden", "untouched"]

OF_TORCH = frozenset(vars(nn.Module()))
OF_LIGHTNING = frozenset(vars(L.LightningModule())) | BOOKKEEPING
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
RUN_STATE = BOOKKEEPING | {
    "current_epoch",
    "epoch_means",
    "evaluation_means",
    "global_rank",
    "global_step",
    "local_rank",
    "log",
    "log_dict",
    "logger",
    "loggers",
    "lr_schedulers",
    "optimizers",
    "trainer",
}
"""Attributes of a model that Lightning may change from one step to the next."""
DEPTH = 4
"""How deep objects within objects are compared."""
PLAIN = (bool, int, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


class ReadsRunStateError(RuntimeError):
    """A model reads the state of the run while it computes its loss."""


class _Same:
    """Wraps an object so that it equals only itself, whatever its own `__eq__` says."""

    def __init__(self, value: object) -> None:
        self.value = value  # kept, so that no other object takes its place in memory

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    __hash__ = None  # type: ignore[assignment]


def python_state(model: Module) -> dict[str, Any]:
    """All that the code of `model` may read beside the tensors that go into a step, by name, in a form that can be compared.

    The numbers that `model.numbers` names are left out: they go into a step as tensors.
    """
    numbers = numbers_of(model)
    state: dict[str, Any] = {"numbers": list(numbers)}
    with replaced_numbers(model, dict.fromkeys(numbers)):
        for prefix, module in model.named_modules():
            path = f"{prefix}." if prefix else ""
            state[f"{path}training"] = module.training
            known = OF_LIGHTNING if module is model else OF_TORCH
            for name, value in vars(module).items():
                if name not in known:
                    state[f"{path}{name}"] = _frozen(value, DEPTH)
    for name, parameter in model.named_parameters():
        # `parameter.data = ...` may lay the same parameter out anew, and a gradient must lie in memory as its parameter does
        form = (parameter.shape, parameter.stride(), parameter.dtype, parameter.device)
        state[name] = (_Same(parameter), parameter.requires_grad, form)
    for name, buffer in model.named_buffers():
        state[name] = (buffer.shape, buffer.dtype, buffer.device)
    return state


def _frozen(value: Any, depth: int) -> Any:
    """A snapshot of `value` that later changes do not reach; equal snapshots mean that a graph need not be traced again."""
    if isinstance(value, PLAIN):
        return type(value), value
    if isinstance(value, float):
        return float, repr(value)  # as text, NaN equals NaN
    if isinstance(value, Tensor):
        return _Same(value), value._version
    if depth and isinstance(value, list | tuple):
        return type(value), [_frozen(item, depth - 1) for item in value]
    if depth and isinstance(value, Mapping):
        return type(value), [(_frozen(k, 1), _frozen(v, depth - 1)) for k, v in value.items()]
    if depth and dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value), [_frozen(getattr(value, field.name), depth - 1) for field in dataclasses.fields(value)]
    if isinstance(value, nn.Module | type) or callable(value) or not depth:
        return _Same(value)
    return _Same(value), [(name, _frozen(item, depth - 1)) for name, item in getattr(value, "__dict__", {}).items()]


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two states, sorted."""
    missing = object()
    return sorted(n for n in {*before, *after} if before.get(n, missing) != after.get(n, missing))


def hooked(model: nn.Module) -> str | None:
    """The name of a module or parameter of `model` that has a hook, which a graph would not call; None if none has."""
    if any(getattr(nn.modules.module, f"_global{hooks}") for hooks in HOOKS):
        return "every module"
    for name, module in model.named_modules():
        if any(getattr(module, hooks) for hooks in HOOKS):
            return name or type(model).__name__
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return name
    return None


@contextmanager
def run_state_forbidden(model: Module) -> Iterator[None]:
    """A block in which `model` raises ReadsRunStateError if its code reads the Trainer, or anything that changes in training."""
    before = type(model)

    def read(self: Module, name: str) -> Any:
        if name in RUN_STATE:
            raise ReadsRunStateError(f"{before.__name__} reads its {name} while it computes the loss, which a graph would freeze")
        return before.__getattribute__(self, name)

    model.__class__ = type(before.__name__, (before,), {"__getattribute__": read})
    try:
        yield
    finally:
        model.__class__ = before


def _numbers(noise: Noise) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(noise) if leaf is not None]


def draws_purely(model: Module, x: Tensor, source: Source) -> bool:
    """Whether the noise of `model` is a function of its source alone, which a graph can compute."""
    try:
        with untouched(model) as changed, run_state_forbidden(model):
            first, again = (_numbers(model.draw_noise(x, source)) for _ in range(2))
            make_fx(lambda x, *source: _numbers(model.draw_noise(x, Source(*source))))(x, *source)
    except Exception:  # whatever code may raise that cannot be traced, or reads what it must not
        return False
    return not changed and all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@contextmanager
def untouched(model: Module) -> Iterator[list[str]]:
    """A block after which buffers, attributes and random numbers are as before; its list then names what had changed.

    A change within an attribute that is an object of a user's class is listed, and stays. Generators of random numbers among the
    attributes are set back and not listed, because what is drawn before a step may come from them.
    """
    changed: list[str] = []
    state, numbers = python_state(model), _random_numbers()
    attributes = [(vars(module), {name: _copied(value) for name, value in vars(module).items()}) for module in model.modules()]
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    generators = [_set_back(value) for module in model.modules() for value in vars(module).values()]
    try:
        yield changed
    finally:
        for set_back in generators:
            set_back()
        for name, buffer in model.named_buffers():
            if name in buffers and not torch.equal(buffer, buffers[name]):
                changed.append(name)
                with torch.no_grad():
                    buffer.copy_(buffers[name])
        if differing := changes_of(state, python_state(model)):
            changed += differing
            for present, before in attributes:
                present.clear()
                present.update(before)
        changed += [f"the numbers of {name}" for name, before in numbers.items() if _random_numbers()[name] != before]
        random.setstate(numbers["random"])
        np.random.set_state(numbers["numpy.random"])
        torch.set_rng_state(torch.tensor(numbers["torch's global generator"], dtype=torch.uint8))


def _copied(value: Any) -> Any:
    return copy.copy(value) if type(value) in (list, dict, set) else value


def _set_back(value: object) -> Callable[[], object]:
    """A function that sets `value` back to its present state if `value` is a generator of random numbers, and else does nothing."""
    if isinstance(value, torch.Generator):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.Generator):
        return functools.partial(setattr, value.bit_generator, "state", value.bit_generator.state)
    return lambda: None


def _random_numbers() -> dict[str, Any]:
    """The states of the global generators of random numbers, by name."""
    kind, key, *rest = np.random.get_state()
    return {
        "random": random.getstate(),
        "numpy.random": (kind, tuple(key), *rest),
        "torch's global generator": torch.get_rng_state().tolist(),
    }
