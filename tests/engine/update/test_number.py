"""Numbers of a trace: each computes as Python does, its tensor follows, and its formula gives its value for other inputs."""

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vae_lightning.engine.update.number import Number, NumbersAsTensors, Untraceable, evaluated, math_of_numbers

VALUE, OTHER = 3.0, 0.75


def number(value: float = VALUE, known: bool = True, conditions: Any = None, place: int = 0) -> Number:
    formula = ("input", place) if known else None
    return Number(value, torch.tensor(value, dtype=torch.float64), formula, {} if conditions is None else conditions)


def assert_is(result: Any, expected: Callable[..., float], *inputs: float) -> None:
    """`result` is `expected` of `inputs`: by its value, by its tensor, and by its formula for these and for other inputs."""
    assert isinstance(result, Number)
    assert result.value == expected(*inputs)
    assert float(result.tensor) == pytest.approx(expected(*inputs), rel=1e-12)
    changed = [value + 0.5 for value in inputs]
    assert evaluated(result.formula, changed) == expected(*changed)


OPERATIONS = (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_operations_of_two_are_pythons(operation: Callable[..., float]) -> None:
    assert_is(operation(number(), number(OTHER, place=1)), operation, VALUE, OTHER)
    assert_is(operation(number(), OTHER), lambda value: operation(value, OTHER), VALUE)


@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op not in (operator.floordiv, operator.mod)])
def test_operations_with_a_plain_number_in_front_are_pythons(operation: Callable[..., float]) -> None:
    assert_is(operation(OTHER, number()), lambda value: operation(OTHER, value), VALUE)


@pytest.mark.parametrize("operation", [operator.neg, abs, operator.pos], ids=lambda operation: operation.__name__)
def test_operations_of_one_are_pythons(operation: Callable[..., float]) -> None:
    assert_is(operation(number(-VALUE)), operation, -VALUE)


@pytest.mark.parametrize("name", ["sqrt", "exp", "log", "cos", "sin"])
def test_functions_of_math_take_numbers(name: str) -> None:
    plain = getattr(math, name)
    with math_of_numbers():
        result, of_plain = getattr(math, name)(number()), getattr(math, name)(2.0)
    assert_is(result, plain, VALUE)
    assert of_plain == plain(2.0)
    assert getattr(math, name) is plain


def test_larger_smaller_and_power_take_numbers() -> None:
    with math_of_numbers():
        larger, smaller, power = max(number(), OTHER), min(OTHER, number()), math.pow(number(), 2.0)
        assert max(1, 2) == 2
    assert_is(larger, lambda value: max(value, OTHER), VALUE)
    assert_is(smaller, lambda value: min(OTHER, value), VALUE)
    assert_is(power, lambda value: math.pow(value, 2.0), VALUE)


COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda comparison: comparison.__name__)
@pytest.mark.parametrize("other", [OTHER, VALUE, 5.0])
def test_comparison_is_pythons_and_a_condition(comparison: Callable[..., bool], other: float) -> None:
    conditions: dict[Any, Any] = {}
    assert comparison(number(conditions=conditions), other) is comparison(VALUE, other)
    ((formula, value),) = conditions.items()
    assert value is comparison(VALUE, other)
    for changed in (0.0, VALUE, 9.0):
        assert evaluated(formula, [changed]) is comparison(changed, other)


@pytest.mark.parametrize("use", [bool, float, int, round, math.trunc, hash, lambda n: round(n, 1)])
def test_use_of_the_value_is_a_condition(use: Callable[..., Any]) -> None:
    conditions: dict[Any, Any] = {}
    assert use(number(2.34, conditions=conditions)) == use(2.34)
    assert len(conditions) == 1
    with pytest.raises(Untraceable, match="decides by the values of tensors"):
        use(number(known=False))


def test_index_is_that_of_a_whole_number() -> None:
    conditions: dict[Any, Any] = {}
    assert ["a", "b", "c"][number(2, conditions=conditions)] == "c"  # type: ignore[call-overload]
    assert list(conditions.values()) == [2]


def test_number_that_the_host_cannot_know_makes_such_numbers() -> None:
    result = number() * number(known=False) + 1
    assert (result.value, result.formula) == (VALUE * VALUE + 1, None)


def test_tensors_are_left_to_torch() -> None:
    for operation in (operator.add, operator.lt):
        assert getattr(Number, f"__{operation.__name__}__")(number(), torch.ones(2)) is NotImplemented


# ---- in place of numbers in torch's functions

X, Y, Z = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, -1.0, 4.0]), torch.tensor([2.0, 5.0, -1.0])
MATRIX = torch.arange(9.0).reshape(3, 3)
USES: dict[str, Callable[[Any], Tensor]] = {
    "add": lambda n: X.add(Y, alpha=n),
    "add in place": lambda n: X.clone().add_(Y, alpha=n),
    "sub": lambda n: torch.sub(X, Y, alpha=n),
    "sub in place": lambda n: X.clone().sub_(Y, alpha=n),
    "number plus": lambda n: n + X,
    "number minus": lambda n: n - X,
    "number over": lambda n: n / X,
    "number to the power": lambda n: n**X,
    "minus number": lambda n: X - n,
    "times": lambda n: X * n,
    "mul in place": lambda n: X.clone().mul_(n),
    "div in place": lambda n: X.clone().div_(n),
    "over": lambda n: X / n,
    "power": lambda n: X**n,
    "addcmul": lambda n: torch.addcmul(X, Y, Z, value=n),
    "addcmul in place": lambda n: X.clone().addcmul_(Y, Z, value=n),
    "addcdiv": lambda n: torch.addcdiv(X, Y, Z, value=n),
    "addcdiv in place": lambda n: X.clone().addcdiv_(Y, Z, value=n),
    "addmm": lambda n: torch.addmm(MATRIX, MATRIX, MATRIX.T, beta=n, alpha=n),
    "addmm in place": lambda n: MATRIX.clone().addmm_(MATRIX, MATRIX.T, beta=n, alpha=1),
    "lerp": lambda n: X.lerp(Y, n),
    "clamp": lambda n: (X * 2).clamp(max=n),
    "clamp_min in place": lambda n: X.clone().clamp_min_(n),
    "fill": lambda n: X.clone().fill_(n),
    "full_like": lambda n: torch.full_like(X, n),
    "larger": lambda n: (n < X).float(),
    "tensor": lambda n: torch.tensor(n) * X,
    "foreach add": lambda n: torch.stack(torch._foreach_add([X, Y], [Y, Z], alpha=n)),
    "foreach mul": lambda n: torch.stack(torch._foreach_mul([X, Y], n)),
    "foreach mul of a list": lambda n: torch.stack(torch._foreach_mul([X, Y], [n, 2.0])),
    "foreach addcdiv": lambda n: torch.stack(torch._foreach_addcdiv([X, Y], [Y, X], [Z, Z], n)),
    "foreach lerp": lambda n: torch.stack(torch._foreach_lerp([X, Y], [Z, Z], n)),
}


def mode(conditions: Any = None) -> NumbersAsTensors:
    return NumbersAsTensors({} if conditions is None else conditions, lambda tensor, value: None)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_torch_computes_with_the_tensor_what_it_computes_with_the_number(use: Callable[[Any], Tensor]) -> None:
    conditions: dict[Any, Any] = {}
    with mode(conditions):
        result = use(number(0.3, conditions=conditions))
    assert torch.allclose(result, use(0.3), rtol=1e-6)
    assert result.dtype == torch.float32
    assert conditions == {}, "nothing of the number was frozen"


def test_function_that_takes_only_pythons_numbers_freezes_a_known_one_and_refuses_another() -> None:
    conditions: dict[Any, Any] = {}
    with mode(conditions):
        result = torch.nn.functional.leaky_relu(-X, number(0.3, conditions=conditions))  # type: ignore[arg-type]
        assert torch.allclose(result, torch.nn.functional.leaky_relu(-X, 0.3))
        assert list(conditions.values()) == [0.3]
        with pytest.raises(Untraceable, match="leaky_relu takes a number that is known in a graph only"):
            torch.nn.functional.leaky_relu(-X, number(0.3, known=False))  # type: ignore[arg-type]


def test_value_of_a_tensor_is_a_number_that_remembers_it() -> None:
    counted = torch.tensor(4.0)
    with NumbersAsTensors({}, lambda tensor, value: ("input", 7) if tensor is counted else None):
        known, unknown = counted.item(), torch.tensor(5.0).item()
    assert isinstance(known, Number)
    assert isinstance(unknown, Number)
    assert (known.value, known.formula, float(known.tensor)) == (4.0, ("input", 7), 4.0)
    assert (unknown.value, unknown.formula) == (5.0, None)
    counted.add_(1)
    assert float(known.tensor) == 4.0, "of the moment, whatever becomes of the tensor"


def test_values_behind_a_mask_and_data_are_set_without_being_asked_for() -> None:
    x, parameter = X.clone(), torch.nn.Parameter(Y.clone())
    with mode():
        x[x > 1.5] = number(9.0)  # type: ignore[call-overload]
        x[x < 1.5] = 7.0
        seen = parameter.data
        parameter.data = Z
    assert x.tolist() == [7.0, 9.0, 9.0]
    assert not seen.requires_grad
    assert parameter.tolist() == Z.tolist()
