"""Python numbers that know what they were computed from, so that a trace of Python code need not freeze them.

An optimizer computes with Python numbers: `bias_correction = 1 - beta ** step`, `parameter.add_(update, alpha=-lr)`. A tracer of
tensor operations would keep their values of the moment. A `Number` has, beside its value, a 0-dim tensor that holds the value in
the graph, and a formula that gives the value on the host. `NumbersAsTensors` puts the tensors in the place of the numbers where
a tensor operation takes numbers; a comparison, or any other use that needs a value, becomes a condition under which the trace
holds.
"""

import builtins
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Formula", "Number", "NumbersAsTensors", "Untraceable", "evaluated", "math_of_numbers"]

Formula = tuple[Any, ...]
"""How a number comes about: `("input", place)`, `(function, *arguments)` of formulas and numbers."""
Conditions = dict[Formula, Any]
"""Values of formulas with which a trace holds."""


class Untraceable(Exception):
    """An optimizer's step that depends on values of tensors in a way that no graph can."""


def evaluated(formula: Any, inputs: Sequence[float]) -> Any:
    """The value of a formula for the values of its inputs."""
    if not isinstance(formula, tuple):
        return formula
    if formula[0] == "input":
        return inputs[formula[1]]
    function, *arguments = formula
    return function(*(evaluated(argument, inputs) for argument in arguments))


class Number(torch.SymFloat):
    """A number within a trace. It is a SymFloat, because torch's functions take nothing but those and Python's own numbers.

    Args:
        value: at the time of tracing.
        tensor: 0-dim: its value in the graph.
        formula: of the value on the host; None where the host cannot know it.
        conditions: collects what the trace depends on.
    """

    def __init__(self, value: float, tensor: Tensor, formula: Formula | None, conditions: Conditions) -> None:
        super().__init__(None)  # type: ignore[no-untyped-call]
        self.value, self.tensor, self.formula, self.conditions = value, tensor, formula, conditions

    def computed(self, function: Callable[..., Any], in_graph: Callable[..., Any], *arguments: Any) -> Any:
        """`function` of numbers, of which this is one; NotImplemented where an argument is a tensor."""
        if any(isinstance(argument, Tensor) for argument in arguments):
            return NotImplemented
        values = [argument.value if isinstance(argument, Number) else argument for argument in arguments]
        formulas = [argument.formula if isinstance(argument, Number) else argument for argument in arguments]
        tensors = [argument.tensor if isinstance(argument, Number) else argument for argument in arguments]
        formula = None if any(formula is None for formula in formulas) else (function, *formulas)
        return Number(function(*values), in_graph(*tensors), formula, self.conditions)

    def known(self, function: Callable[..., Any], *others: Any) -> Any:
        """The value of `function` of this number, which the trace depends on from now on."""
        if any(isinstance(other, Tensor) for other in others):
            return NotImplemented
        formulas = [other.formula if isinstance(other, Number) else other for other in (self, *others)]
        if any(formula is None for formula in formulas):
            raise Untraceable("it decides by the values of tensors")
        value = function(*(other.value if isinstance(other, Number) else other for other in (self, *others)))
        self.conditions[(function, *formulas)] = value
        return value

    def __add__(self, other: Any) -> Any:
        return self.computed(operator.add, operator.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return self.computed(operator.add, operator.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return self.computed(operator.sub, operator.sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.computed(operator.sub, operator.sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return self.computed(operator.mul, operator.mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.computed(operator.mul, operator.mul, other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.computed(operator.truediv, operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.computed(operator.truediv, operator.truediv, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self.computed(operator.floordiv, operator.floordiv, self, other)

    def __mod__(self, other: Any) -> Any:
        return self.computed(operator.mod, operator.mod, self, other)

    def __pow__(self, other: Any) -> Any:
        return self.computed(operator.pow, torch.pow, self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.computed(operator.pow, torch.pow, other, self)

    def __neg__(self) -> Any:
        return self.computed(operator.neg, operator.neg, self)

    def __abs__(self) -> Any:
        return self.computed(abs, abs, self)

    def __pos__(self) -> Any:
        return self

    def __lt__(self, other: Any) -> Any:
        return self.known(operator.lt, other)

    def __le__(self, other: Any) -> Any:
        return self.known(operator.le, other)

    def __gt__(self, other: Any) -> Any:
        return self.known(operator.gt, other)

    def __ge__(self, other: Any) -> Any:
        return self.known(operator.ge, other)

    def __eq__(self, other: object) -> Any:
        return self.known(operator.eq, other)

    def __ne__(self, other: object) -> Any:
        return self.known(operator.ne, other)

    def __bool__(self) -> bool:
        return bool(self.known(bool))

    def __float__(self) -> float:
        return float(self.known(float))

    def __int__(self) -> int:
        return int(self.known(int))

    __trunc__ = __int__

    def __index__(self) -> int:
        return int(self.known(operator.index))

    def __round__(self, digits: int | None = None) -> Any:
        return self.known(round) if digits is None else self.known(round, digits)

    def __hash__(self) -> int:
        return hash(self.known(float))

    def __repr__(self) -> str:
        return repr(self.value)


def _as_alpha(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def add(x: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
        return function(x, _as_wide_as(x, other) * alpha)

    return add


def _as_wide_as(x: Tensor, other: Any) -> Any:
    """`other` in the precision in which torch adds it to `x`."""
    return other.to(torch.promote_types(x.dtype, other.dtype)) if isinstance(other, Tensor) else other


def _scaled(combine: Callable[[Tensor, Tensor], Tensor], in_place: bool) -> Callable[..., Tensor]:
    def function(x: Tensor, first: Tensor, second: Tensor, *, value: Any = 1) -> Tensor:
        change = combine(_as_wide_as(x, first) * value, second)
        result: Tensor = x.add_(change) if in_place else x + change
        return result

    return function


def _addmm(x: Tensor, first: Tensor, second: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    product: Tensor = first @ second
    result: Tensor = x * beta + product * alpha
    return result


WITH_TENSORS: dict[str, Callable[..., Tensor]] = {
    "add": _as_alpha(torch.add),
    "add_": _as_alpha(Tensor.add_),
    "sub": _as_alpha(torch.sub),
    "sub_": _as_alpha(Tensor.sub_),
    **{name: lambda x, other: other - x for name in ("rsub", "__rsub__")},
    **{name: lambda x, other: other / x for name in ("__rdiv__", "__rtruediv__")},
    "__rpow__": lambda x, other: other**x,
    "addcmul": _scaled(torch.mul, False),
    "addcmul_": _scaled(torch.mul, True),
    "addcdiv": _scaled(torch.div, False),
    "addcdiv_": _scaled(torch.div, True),
    "addmm": _addmm,
    "addmm_": lambda x, *rest, **more: x.copy_(_addmm(x, *rest, **more)),
    "baddbmm": _addmm,
    "fill_": Tensor.copy_,
    "full_like": lambda x, value: torch.empty_like(x).copy_(value),
    **{
        name: getattr(Tensor, name)
        for plain in ("mul", "div", "true_divide", "pow", "lerp", "clamp", "clamp_min", "clamp_max", "multiply", "divide")
        for name in (plain, f"{plain}_")
    },
    **{name: getattr(Tensor, name) for name in ("gt", "ge", "lt", "le", "eq", "ne")},
}
"""What computes with 0-dim tensors in place of functions of numbers, by the name of the function."""


class NumbersAsTensors(TorchFunctionMode):
    """A block in which torch's functions take `Number`s as tensors of the graph, and `item` gives one.

    Args:
        conditions: where a function takes only Python's numbers, the trace depends on the number's value, which is put down here.
        formula_of: the formula of a tensor's value, where the host can know it.
    """

    def __init__(self, conditions: Conditions, formula_of: Callable[[Tensor, float], Formula | None]) -> None:
        super().__init__()
        self.conditions, self.formula_of = conditions, formula_of

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name == "item" and isinstance(args[0], Tensor):
            return self._item(args[0])
        if function is Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        if function is Tensor.data.__set__:  # type: ignore[attr-defined]
            return args[0].copy_(args[1])
        if name == "__setitem__" and isinstance(args[1], Tensor) and args[1].dtype == torch.bool:
            return _put(*args)
        if not any(isinstance(leaf, Number) for leaf in tree_leaves((args, kwargs))):
            return function(*args, **kwargs)
        if name in ("tensor", "as_tensor"):
            return args[0].tensor.to(kwargs.get("dtype") or torch.get_default_dtype())
        if name.startswith("_foreach_") and (single := WITH_TENSORS.get(name.removeprefix("_foreach_"))):
            return _each(single, args, kwargs)
        if name in WITH_TENSORS and isinstance(args[0], Tensor):
            return _in_tensors(WITH_TENSORS[name], args, kwargs)
        args, kwargs = tree_map(lambda leaf: _frozen(leaf, name) if isinstance(leaf, Number) else leaf, (args, kwargs))
        return function(*args, **kwargs)

    def _item(self, tensor: Tensor) -> Number:
        with _disable_current_modes():
            value = tensor.item()
        return Number(value, tensor.to(torch.float64, copy=True), self.formula_of(tensor, value), self.conditions)


def _put(x: Tensor, mask: Tensor, value: Any) -> None:
    """`x[mask] = value` for one value, without asking how many elements that are."""
    value = value.tensor if isinstance(value, Number) else value
    x.copy_(torch.where(mask, value, x))


def _frozen(number: Number, name: str) -> float:
    if number.formula is None:
        raise Untraceable(f"torch's {name} takes a number that is known in a graph only")
    return float(number)


def _in_tensors(function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """`function` of `args`, with tensors of the dtype of the first in the place of the numbers."""
    dtype = args[0].dtype if args[0].is_floating_point() else torch.float32
    args, kwargs = tree_map(lambda leaf: leaf.tensor.to(dtype) if isinstance(leaf, Number) else leaf, (args, kwargs))
    return function(*args, **kwargs)


def _each(function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """`function` of each tensor of a list, as torch's `_foreach` functions."""
    tensors, *rest = args
    # torch takes the numbers of addcmul and addcdiv, and lerp's weight, by place as well
    if function in [WITH_TENSORS[name] for name in ("addcmul", "addcmul_", "addcdiv", "addcdiv_")] and len(rest) == 3:
        kwargs = {"value": rest.pop()}
    return [
        _in_tensors(
            function,
            (tensor, *(argument[place] if isinstance(argument, list | tuple) else argument for argument in rest)),
            {key: argument[place] if isinstance(argument, list | tuple) else argument for key, argument in kwargs.items()},
        )
        for place, tensor in enumerate(tensors)
    ]


@contextmanager
def math_of_numbers() -> Iterator[None]:
    """A block in which functions of Python's `math`, and `max` and `min`, take `Number`s."""

    def lifted(plain: Callable[..., float], in_graph: Callable[..., Tensor]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:
            number = next((argument for argument in arguments if isinstance(argument, Number)), None)
            return plain(*arguments, **options) if number is None else number.computed(plain, in_graph, *arguments)

        return function

    in_graph: dict[str, Callable[..., Tensor]] = {
        "sqrt": torch.sqrt, "exp": torch.exp, "log": torch.log, "pow": torch.pow, "cos": torch.cos, "sin": torch.sin,
        "max": _of_tensors(torch.maximum), "min": _of_tensors(torch.minimum),
    }  # fmt: skip
    with ExitStack() as stack:
        for name, function in in_graph.items():
            module = math if hasattr(math, name) else builtins
            stack.enter_context(mock.patch.object(module, name, lifted(getattr(module, name), function)))
        yield


def _of_tensors(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def of_two(first: Any, second: Any) -> Tensor:
        example = first if isinstance(first, Tensor) else second
        return function(*(torch.as_tensor(value, dtype=example.dtype, device=example.device) for value in (first, second)))

    return of_two
