"""Operations of tensors by sums that are exact and functions that are straight lines: what `compression.fixed` computes with."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vae_lightning.compression import tables
from vae_lightning.errors import ConfigurationError

__all__ = ["AS_IT_IS", "PRODUCTS", "REPLACED", "exact_product", "on_grid", "product_of_units"]

GRID = 2.0**16
"""The inputs of sums are whole multiples of the inverse."""
LIMIT = 2.0**53
"""Below it, double precision holds every whole number."""
Product = Callable[[Tensor, Tensor], Tensor]
"""A matrix product."""
LOG2_E, LN_2 = 1.4426950408889634, 0.6931471805599453


# ---- sums


def on_grid(x: Tensor) -> Tensor:
    """`x` in units of 2^-16, rounded to whole ones."""
    return (x * GRID).round()


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """`a @ b` of numbers rounded to multiples of 2^-16, exactly.

    >>> a = torch.randn(8, 300, dtype=torch.float64)
    >>> b = torch.randn(300, 2, dtype=torch.float64)
    >>> order = torch.randperm(300)
    >>> torch.equal(exact_product(a, b), exact_product(a[:, order], b[order]))
    True

    Raises:
        ConfigurationError: the numbers are so large that it would not be exact.
    """
    units = on_grid(b)
    return product_of_units(on_grid(a), units, units.abs().max() if b.numel() else units.new_zeros(()))


def product_of_units(a: Tensor, b: Tensor, largest: Tensor) -> Tensor:
    """The product of whole numbers, in units of 2^-32, as a number."""
    _require_exact(a, largest)
    return (a @ b) * GRID**-2


def _require_exact(a: Tensor, largest: Tensor) -> None:
    """Refuse sums of numbers of the last dimension of `a`, each times at most `largest`, that may reach what is not exact."""
    # the check's own sums are of whole numbers, so they are exact, or so large that it does not matter; not (<) refuses NaN as well
    if a.numel() and not float(a.abs().sum(-1).max() * largest) < LIMIT:
        raise ConfigurationError("the model's numbers are too large for sums that do not depend on their order, or not finite")


def _added(product: Product, bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return (bias if beta == 1 else bias * beta) + (product(a, b) if alpha == 1 else product(a, b) * alpha)


def _convolved(
    product: Product,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: Any,
) -> Tensor:
    """A convolution as products of matrices, as a library may compute one by other sums, of numbers that are not whole."""
    if x.dim() != 4:
        raise ConfigurationError("a convolution that is not of images has no fixed arithmetic")
    if groups > 1:
        parts = zip(x.chunk(groups, 1), weight.chunk(groups), [None] * groups if bias is None else bias.chunk(groups), strict=True)
        each = [_convolved(product, *part, stride, padding, dilation, transposed, output_padding, groups=1) for part in parts]
        return torch.cat(each, 1)
    if transposed:  # the convolution of an image with zeros between its pixels
        spread = x.new_zeros(*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[-2:], stride, strict=True)))
        spread[..., :: stride[0], :: stride[1]] = x
        rows, columns = (
            (d * (k - 1) - p, d * (k - 1) - p + o)
            for d, k, p, o in zip(dilation, weight.shape[-2:], padding, output_padding, strict=True)
        )
        x, weight = F.pad(spread, (*columns, *rows)), weight.transpose(0, 1).flip(-1, -2)
        stride, padding = (1, 1), (0, 0)
    kernel = weight.shape[-2:]
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[-2:], kernel, stride, padding, dilation, strict=True)
    ]
    patches = F.unfold(x, tuple(kernel), tuple(dilation), tuple(padding), tuple(stride))
    result: Tensor = product(weight.flatten(1).expand(len(x), -1, -1), patches).unflatten(-1, size)
    return result if bias is None else result + bias[:, None, None]


def _summed(x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    if not x.is_floating_point():
        return x.sum(dim, keepdim)
    whole = on_grid(x)
    _require_exact(whole.reshape(1, -1), whole.new_ones(()))
    return whole.sum(dim, keepdim) / GRID


def _mean(x: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor:
    total = _summed(x, dim, keepdim)
    return total / max(1, x.numel() // max(1, total.numel()))


def _variance(x: Tensor, dim: Any = None, correction: float = 1, keepdim: bool = False, **_: Any) -> Tensor:
    away = x - _mean(x, dim, keepdim=True)
    total = _summed(away * away, dim, keepdim)
    return total / max(0, x.numel() // max(1, total.numel()) - correction)


# ---- functions


def _interpolated(table: tables.Numbers, x: Tensor, first: int) -> Tensor:
    """The function whose `table` begins at `first`, at `x` of any shape, as by `tables.interpolated`."""
    return torch.from_numpy(tables.interpolated(table, x.numpy(), first))


def _sigmoid(x: Tensor) -> Tensor:
    return _interpolated(tables.sigmoid(), x, -tables.REACH)


def _tanh(x: Tensor) -> Tensor:
    return 2 * _sigmoid(2 * x) - 1


def _exp(x: Tensor) -> Tensor:
    """With the same relative precision everywhere: 2^n times the table's 2^f."""
    power = (x * LOG2_E).clamp(-1000, 1000)
    whole = power.floor()
    fraction = tables.interpolated(tables.exp2(), (power - whole).numpy(), 0)
    return torch.from_numpy(np.asarray(np.ldexp(fraction, whole.numpy().astype(int))))


def _log(x: Tensor) -> Tensor:
    part, power = np.frexp(x.numpy())
    return torch.from_numpy(np.asarray((tables.interpolated(tables.log2(), 2 * part, 1) + (power - 1)) * LN_2)).where(
        x > 0, -torch.inf
    )


def _power(x: Any, power: Any) -> Tensor:
    if isinstance(power, Tensor) or power not in (0.5, 1, 2, 3):
        raise ConfigurationError(f"a power of {power} has no fixed arithmetic; those of 0.5, 1, 2 and 3 have")
    powered: Tensor = x.sqrt() if power == 0.5 else math.prod([x] * power)
    return powered


def _logit(x: Tensor, eps: float | None = None) -> Tensor:
    share = x if eps is None else x.clamp(eps, 1 - eps)
    return _log(share) - _log(1 - share)


def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = x * beta
    return torch.where(scaled > tables.REACH, x, _interpolated(tables.softplus(), scaled, -tables.REACH) / beta)


def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    below: Tensor = (_exp(x.clamp(max=0) * input_scale) - 1) * alpha * scale
    return torch.where(x > 0, x * scale, below)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    if approximate != "none":
        raise ConfigurationError(f"gelu with approximate={approximate} has no fixed arithmetic; use gelu")
    return x * _interpolated(tables.normal_cdf(), x, -8)


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    values, gates = x.chunk(2, dim)
    return values * _sigmoid(gates)


def _plus(x: Any, other: Any, *, alpha: float = 1) -> Any:
    return x + (other if alpha == 1 else other * alpha)


def _minus(x: Any, other: Any, *, alpha: float = 1) -> Any:
    return x - (other if alpha == 1 else other * alpha)


PRODUCTS: dict[str, Callable[..., Any]] = {
    "mm": lambda product, a, b: product(a, b),
    "bmm": lambda product, a, b: product(a, b),
    "addmm": _added,
    "baddbmm": _added,
    "convolution": _convolved,
}
"""Operations that consist of matrix products, which they are given how to compute, by torch's name."""
REPLACED: dict[str, Callable[..., Any]] = {
    "sum": _summed,
    "mean": _mean,
    "var": _variance,
    "exp": _exp,
    "expm1": lambda x: _exp(x) - 1,
    "log": _log,
    "log1p": lambda x: _log(1 + x),
    "rsqrt": lambda x: 1 / x.sqrt(),
    "reciprocal": lambda x: 1 / x,
    "pow": _power,
    "empty": torch.zeros,
    "logit": _logit,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "elu": _elu,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "glu": _glu,
    "add": _plus,
    "sub": _minus,
}
"""Operations that are computed otherwise, by torch's name."""
MOVING = """_reshape_alias _to_copy _unsafe_view alias arange as_strided broadcast_in_dim cat clone constant_pad_nd detach expand
eye flip full full_like gather index index_select lift_fresh masked_fill max_pool2d_with_indices new_full new_ones
new_zeros ones ones_like permute repeat scalar_tensor select slice split split_with_sizes squeeze stack t transpose
unbind unsqueeze upsample_nearest2d view where zeros zeros_like"""
BY_ITSELF = """_is_all_true _is_any_true _local_scalar_dense abs all amax amin any bitwise_and bitwise_not bitwise_or ceil clamp
clamp_max clamp_min div eq floor ge gt hardtanh isfinite le leaky_relu logical_and logical_not logical_or lt maximum
minimum mul ne neg relu round rsub sign sqrt"""
AS_IT_IS = frozenset([*MOVING.split(), *BY_ITSELF.split()])
"""Operations that give the same bits everywhere, by torch's name: they move and choose numbers, or IEEE 754 fixes what they do with
each number by itself."""
