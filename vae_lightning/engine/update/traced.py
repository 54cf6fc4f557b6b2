"""Any optimizer's `step` as an update inside a graph, by tracing its Python code."""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim import Optimizer
from torch.utils._pytree import tree_flatten, tree_flatten_with_path, tree_unflatten

from vae_lightning.engine.update.base import Update
from vae_lightning.engine.update.hoisting import with_numbers_first
from vae_lightning.engine.update.number import (
    Conditions,
    Formula,
    Number,
    NumbersAsTensors,
    Untraceable,
    evaluated,
    math_of_numbers,
)
from vae_lightning.engine.update.proof import give_gradients, prove
from vae_lightning.engine.update.settings import Setting
from vae_lightning.engine.update.twin import call_step, copied, stand_in, twin_of

__all__ = ["TracedUpdate"]

TRIES = 3
"""Steps of which one is to be like the one after it."""
SWITCHES = ("foreach", "fused", "capturable", "differentiable")
"""Switches of torch's optimizers between ways to compute the same; the plainest is traced."""


class TracedUpdate(Update):
    """The update of an optimizer whose Python code was traced; compared with the optimizer's own steps on copies before it is used.

    The optimizer must have taken a step, by which its state exists.

    Raises:
        Untraceable: says why the optimizer's step cannot be a graph.
    """

    def __init__(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, list(parameters)
        groups, counters = self._counters()
        inputs = [
            Setting(place, key, item)
            for place, group in enumerate(optimizer.param_groups)
            for key, value in group.items()
            if key != "params"
            for item in _numbers_in(key, value, (place, key) in groups)
        ]
        self._counters_of_state = counters
        self._bind(optimizer, parameters, inputs)
        self._alike = self._first_alike()
        twin = self.other_for(*twin_of(optimizer, self.parameters))
        self._module, self._conditions, self._programs = twin._trace_of_an_ordinary_step()
        prove(twin)

    def _bind(self, optimizer: Optimizer, parameters: Sequence[Tensor], inputs: Sequence[Setting]) -> None:
        """Read and write the numbers and the state of `optimizer` from now on."""
        self.optimizer, self.parameters = optimizer, list(parameters)
        self._counted = [(parameters[place], key) for place, key in self._counters_of_state]
        super().__init__(optimizer, parameters, inputs, self._counted)

    def _counters(self) -> tuple[set[tuple[int, str]], list[tuple[int, str]]]:
        """The numbers on the host that a step changes, of groups and of parameters' states, found by a step of a twin."""
        twin, parameters = twin_of(self.optimizer, self.parameters)
        groups = [dict(group) for group in twin.param_groups]
        states = [dict(twin.state[parameter]) for parameter in parameters]
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        call_step(twin)
        if any(state.keys() != twin.state[parameter].keys() for state, parameter in zip(states, parameters, strict=True)):
            raise Untraceable("the optimizer has taken no step of its own yet")
        changed = {(place, key) for place, group in enumerate(groups) for key in _changed(group, twin.param_groups[place])}
        pairs = enumerate(zip(parameters, states, strict=True))
        return changed, [(place, key) for place, (parameter, state) in pairs for key in _changed(state, twin.state[parameter])]

    # ---- what a graph freezes, and what it does not

    def form(self) -> list[object]:
        leaves, structure = self._leaves()
        kept = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
        return [*super().form(), kept, structure]

    def present_state(self) -> list[Tensor]:
        return [leaf for leaf in self._leaves()[0] if isinstance(leaf, Tensor)]

    def _states(self) -> list[dict[str, Any]]:
        """What the optimizer keeps of the parameters but for counters."""
        return [
            {
                key: value
                for key, value in self.optimizer.state.get(parameter, {}).items()
                if (place, key) not in self._counters_of_state
            }
            for place, parameter in enumerate(self.parameters)
        ]

    def _leaves(self) -> tuple[list[Any], Any]:
        return tree_flatten(self._states())

    def _first_alike(self) -> list[int]:
        """For each tensor of the state the first by the same name that counts the same: one condition does for all of them."""
        paths = [str(path[1:]) for path, leaf in tree_flatten_with_path(self._states())[0] if isinstance(leaf, Tensor)]
        known = [(path, float(tensor) if tensor.dim() == 0 else None) for path, tensor in zip(paths, self.state, strict=True)]
        return [known.index(one) for one in known]

    def _inputs(self) -> list[float]:
        """What formulas read: the settings, then the 0-dim tensors of the state of which conditions speak."""
        read = {place for formula in self._conditions for place in _inputs_of(formula)}
        numbers = self.values()
        first = len(numbers)
        return numbers + [float(tensor) if first + place in read else 0.0 for place, tensor in enumerate(self.state)]

    def holds(self) -> bool:
        if not self._conditions:
            return True
        inputs = self._inputs()
        return all(evaluated(formula, inputs) == value for formula, value in self._conditions.items())

    def advance(self) -> None:
        super().advance()
        if not self._programs:
            return
        inputs = self.values()
        for place, formula in self._programs.items():
            value = evaluated(formula, inputs)
            if place < len(self._settings.inputs):
                group, key, _ = self._settings.inputs[place]
                container: Any = self.optimizer.param_groups[group]
            else:
                parameter, key = self._counted[place - len(self._settings.inputs)]
                container = self.optimizer.state[parameter]
            container[key] = type(container[key])(value)

    def plain_step(self) -> None:
        super().plain_step()
        leaves, structure = self._leaves()
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        if all(leaves[place] is old for place, old in zip(places, self.state, strict=True)):
            return
        for place, old in zip(places, self.state, strict=True):
            if leaves[place] is not old:
                leaves[place] = old.copy_(leaves[place])
        for parameter, state in zip(self.parameters, tree_unflatten(leaves, structure), strict=True):
            self.optimizer.state[parameter].update(state)

    def updated(
        self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], state: Sequence[Tensor], settings: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        results = self._module(*parameters, *gradients, *state, *settings)
        return list(results[: len(parameters)]), list(results[len(parameters) :])

    # ---- tracing

    def _trace_of_an_ordinary_step(self) -> tuple[GraphModule, Conditions, dict[int, Formula]]:
        """The graph of a step like the one after it, with random gradients: some steps of an optimizer may do more than others."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(TRIES):
            self._conditions, self._programs = {}, {}
            self._module = self._traced()
            give_gradients(self.parameters, generator)
            self.plain_step()
            if self.holds():
                return self._module, self._conditions, self._programs
        raise Untraceable("no step of the optimizer is like the one before")

    def _traced(self) -> GraphModule:
        tensors = [*self.parameters, *self.parameters, *self.state, *self.settings()]
        with torch.no_grad():
            tensors = [copied(tensor) for tensor in tensors]
            module = make_fx(self._stepped)(*tensors)
            return with_numbers_first(make_fx(torch.func.functionalize(module))(*tensors))

    def _stepped(self, *tensors: Tensor) -> list[Tensor]:
        """Parameters and state after a step of a stand-in; what else changes is put down in conditions and programs."""
        count = len(self.parameters)
        parameters = [tensor.clone() for tensor in tensors[:count]]
        gradients = [tensor.clone() for tensor in tensors[count : 2 * count]]
        state = [tensor.clone() for tensor in tensors[2 * count : 2 * count + len(self.state)]]
        values = [float(value) for value in self._settings.values()]
        numbers = [
            Number(value, tensor, ("input", place), self._conditions)
            for place, (value, tensor) in enumerate(zip(values, tensors[2 * count + len(self.state) :], strict=True))
        ]
        leaves, structure = self._leaves()
        filled = iter(state)
        states = tree_unflatten([next(filled) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)
        optimizer = stand_in(self.optimizer, self.parameters, parameters, states)
        _switch_off(optimizer)
        _fill(optimizer, self._settings.inputs, numbers)
        counters = numbers[len(self._settings.inputs) :]
        for (place, key), number in zip(self._counters_of_state, counters, strict=True):
            optimizer.state[parameters[place]][key] = number
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        formula_of = self._formulas(state, len(values))
        attributes = dict(vars(optimizer))
        with NumbersAsTensors(self._conditions, formula_of), math_of_numbers():
            call_step(optimizer)
        if any(value is not attributes.get(key) for key, value in vars(optimizer).items()):
            raise Untraceable("a step changes the optimizer's attributes")
        return [*parameters, *self._results(optimizer, parameters, numbers, (leaves, structure, state))]

    def _formulas(self, state: list[Tensor], first: int) -> Callable[[Tensor, float], Formula | None]:
        initial = [float(tensor) if tensor.dim() == 0 else None for tensor in self.state]

        def formula_of(tensor: Tensor, value: float) -> Formula | None:
            place = next((place for place, candidate in enumerate(state) if candidate is tensor), None)
            if place is None or initial[place] is None:
                return None
            known = ("input", first + self._alike[place])
            counted = {initial[place]: known, (initial[place] or 0) + 1: (operator.add, known, 1)}
            return counted.get(value)

        return formula_of

    def _results(
        self, optimizer: Optimizer, parameters: list[Tensor], numbers: list[Number], before: tuple[list[Any], Any, list[Tensor]]
    ) -> list[Tensor]:
        """The tensors of the state after a step, in the order of `state`."""
        leaves, structure, state = before
        for place, (number, after) in enumerate(zip(numbers, self._numbers_after(optimizer, parameters), strict=True)):
            if after is not number:
                if not isinstance(after, Number) or after.formula is None:
                    raise Untraceable("a step sets a number that is not computed from numbers")
                self._programs[place] = after.formula
        held = [
            {k: v for k, v in optimizer.state[p].items() if (i, k) not in self._counters_of_state} for i, p in enumerate(parameters)
        ]
        new_leaves, new_structure = tree_flatten(held)
        if new_structure != structure:
            raise Untraceable("a step changes what the optimizer keeps of a parameter")
        for old, new in zip(leaves, new_leaves, strict=True):
            if isinstance(old, Tensor) != isinstance(new, Tensor) or (
                not isinstance(old, Tensor) and old is not new and old != new
            ):
                raise Untraceable("a step changes what the optimizer keeps of a parameter")
        new_state = [leaf for leaf in new_leaves if isinstance(leaf, Tensor)]
        if any(old.shape != new.shape or old.dtype != new.dtype for old, new in zip(state, new_state, strict=True)):
            raise Untraceable("a step changes the shape of what the optimizer keeps of a parameter")
        return new_state

    def _numbers_after(self, optimizer: Optimizer, parameters: list[Tensor]) -> Iterator[Any]:
        for group, key, item in self._settings.inputs:
            value = optimizer.param_groups[group][key]
            yield value if item is None else value[item]
        for place, key in self._counters_of_state:
            yield optimizer.state[parameters[place]][key]

    def other_for(self, optimizer: Optimizer, parameters: Sequence[Tensor]) -> "TracedUpdate":
        """This update for a twin of its optimizer."""
        other = copy.copy(self)
        other._bind(optimizer, parameters, self._settings.inputs)
        return other


def _numbers_in(key: str, value: Any, counts: bool) -> list[int | None]:
    """Where in a value of a parameter group the numbers are that a graph takes as inputs: None for the value itself.

    Of several numbers in one value schedules change betas only; others, such as Muon's coefficients, are frozen.
    """
    if isinstance(value, Tensor):
        return [None] if value.numel() == 1 else []
    if isinstance(value, float) or counts:
        return [None]
    if key == "betas" and all(isinstance(item, float | int) for item in value):
        return [place for place, item in enumerate(value) if isinstance(item, float)]
    return []


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Keys of numbers that differ."""
    return [
        key
        for key, value in before.items()
        if type(value) in (int, float) and type(after.get(key)) in (int, float) and after[key] != value
    ]


def _inputs_of(formula: Any) -> Iterator[int]:
    if isinstance(formula, tuple):
        if formula[0] == "input":
            yield formula[1]
        else:
            for argument in formula[1:]:
                yield from _inputs_of(argument)


def _switch_off(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group.update({key: False for key in SWITCHES if key in group})


def _fill(optimizer: Optimizer, inputs: Sequence[Setting], numbers: Sequence[Number]) -> None:
    """Put numbers into the parameter groups."""
    for (group, key, item), number in zip(inputs, numbers, strict=False):
        groups = optimizer.param_groups[group]
        if item is None:
            groups[key] = number
        else:
            value = list(groups[key])
            value[item] = number
            groups[key] = type(groups[key])(value)
