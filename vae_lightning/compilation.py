"""Compiled functions of tensors: traced once to a graph without Python, distributions or autograd, then compiled by torch."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx

__all__ = ["compiled"]


def compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any] | None:
    """`function` as a compiled graph for arguments of these shapes; None, with a warning, where there cannot be one.

    `function` must be pure: what it closes over is kept as it is in the graph. The graph is cached on disk between runs.
    """
    try:
        with torch.no_grad(), _no_validation():
            graph: Callable[..., Any] = torch.compile(make_fx(lambda *given: function(*given))(*arguments))
            graph(*arguments)
    except Exception as error:  # whatever a compiler may raise: without a C++ compiler, on a model that cannot be traced
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(f"goes on without compiling ({reason})", stacklevel=2)
        return None
    return graph


@contextmanager
def _no_validation() -> Iterator[None]:
    """Distributions do not look at their arguments' values, which a traced function cannot."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
