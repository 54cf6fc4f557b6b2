r"""Arithmetic whose results are the same to the bit for every batch, number of threads, process and processor.

A decoder must get exactly the encoder's probabilities, and floating-point sums depend on their order, which depends on all of that.
Within `FixedArithmetic`, what a model computes with tensors is computed otherwise:

- All numbers are in double precision.
- Of matrix products, convolutions and sums, the inputs are rounded to multiples of $2^{-16}$. Products of those are whole multiples
  of $2^{-32}$, and so is every partial sum; as long as none reaches $2^{53}$ of them, double precision holds each exactly, so that
  the order of a sum makes no difference. That none does is not assumed: $\max_i \sum_k |a_{ik}| \max |b|$ bounds them all, and a
  product beyond is refused, in compression, so that a file that was written can be read.
- Sums, differences, products and quotients number by number are fixed to the bit by IEEE 754, as are roundings and comparisons.
- `exp`, `sigmoid`, `tanh`, `softplus`, ... are straight lines between the knots of a table, see `compression.tables`; what a
  processor's own would give differs in the last digits.
- What only moves numbers is as it is.
- A larger operation, such as a normalisation, is computed by what torch says it consists of. Any other is refused by name.

Nothing is known of the net but the operations it consists of, so a net of one's own is computed in fixed arithmetic too. The effect
on a logit is of the order of $2^{-16}$ times the root of a layer's width, some 0.001, which costs a millionth of the bits.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import decomposition_table
from torch.utils._python_dispatch import TorchDispatchMode

from vae_lightning.compression.operations import AS_IT_IS, PRODUCTS, REPLACED, exact_product, on_grid, product_of_units
from vae_lightning.errors import ConfigurationError

__all__ = ["FixedArithmetic", "in_double"]


class FixedArithmetic(TorchDispatchMode):
    """A block in which torch computes, on the CPU and without gradients, what is the same to the bit everywhere.

    >>> net = nn.Sequential(nn.Linear(50, 40), nn.Tanh(), nn.Linear(40, 3))
    >>> x = torch.randn(7, 50)
    >>> with torch.no_grad(), FixedArithmetic():
    ...     together, alone = net(x), net(x[2:3])
    >>> torch.equal(together[2:3], alone), torch.allclose(together.float(), net(x), atol=1e-3)
    (True, True)

    Raises:
        ConfigurationError: an operation has no fixed arithmetic, or its numbers are too large.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights: dict[int, tuple[nn.Parameter, Tensor]] = {}
        self._storages: set[int] = set()
        self._units: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = func.name().rpartition("::")[2].partition(".")[0]
        given, args = args, [self._prepared(arg) for arg in args]
        kept = bool(args) and args[0] is given[0]  # so that what is written into it is there afterwards
        others = {key: self._prepared(value) for key, value in (kwargs or {}).items()}
        if name in PRODUCTS:
            return PRODUCTS[name](self._product, *args, **others)
        if name in REPLACED:
            return REPLACED[name](*args, **others)
        if name in AS_IT_IS:
            return func(*args, **others)
        if name.endswith("_") and name[:-1] in REPLACED.keys() | AS_IT_IS and kept:
            return args[0].copy_(REPLACED.get(name[:-1], func)(*args, **others))
        with self:  # what a larger operation, such as a normalisation, consists of
            result = decomposition_table.get(func, func.decompose)(*args, **others)
        if result is not NotImplemented:
            return result
        raise ConfigurationError(f"torch's {name} has no fixed arithmetic, which decoding needs; see compression.fixed")

    def _prepared(self, value: Any) -> Any:
        """Tensors of any precision and place in double precision on the CPU, and names of dtypes and devices likewise."""
        if isinstance(value, nn.Parameter):
            known = self._weights.get(id(value))
            if known is None:
                known = self._weights[id(value)] = value, _double(value.detach()).clone()
                self._storages.add(known[1].untyped_storage().data_ptr())
            return known[1]
        if isinstance(value, Tensor):
            return _double(value)
        if isinstance(value, list | tuple):
            return type(value)(map(self._prepared, value))
        if isinstance(value, torch.dtype):
            return torch.float64 if value.is_floating_point else value
        return torch.device("cpu") if isinstance(value, torch.device) else value

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        """`exact_product(a, b)`, which rounds a weight b only once."""
        if b.untyped_storage().data_ptr() not in self._storages:
            return exact_product(a, b)
        key = (b.data_ptr(), *b.shape, *b.stride())
        if key not in self._units:
            units = on_grid(b)
            self._units[key] = units, units.abs().max()
        return product_of_units(on_grid(a), *self._units[key])


def _double(value: Tensor) -> Tensor:
    return value.to("cpu", torch.float64 if value.is_floating_point() else value.dtype)


def in_double(model: Any) -> Any:
    """A copy of `model` in double precision on the CPU, as some of torch's functions refuse numbers of two precisions.

    >>> in_double(nn.Linear(2, 3)).weight.dtype
    torch.float64
    """
    if isinstance(model, nn.Module):
        return copy.deepcopy(model).to("cpu", torch.float64)
    if isinstance(getattr(model, "model", None), nn.Module):  # a model of permuted pixels, as of inference.pixels
        model = copy.copy(model)
        model.model = in_double(model.model)
    return model
