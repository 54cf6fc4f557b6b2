"""Compiled functions of tensors: traced once to a graph without Python, distributions or autograd, then compiled by torch.

The graph goes to torch's compiler directly. `torch.compile` would trace the function a second time, which takes seconds, and check
at every call that nothing has changed, which takes a tenth of a millisecond.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from vae_lightning.machine.collection import seldom_collected
from vae_lightning.machine.compiler import headers_ahead, import_for_cpu, quick_checks

__all__ = ["compiled"]

aten = torch.ops.aten


def compiled(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any] | None:
    """`function` as a compiled graph for `arguments` of these shapes; None, with a warning, where compiling fails.

    Arguments and results may be tensors in lists, tuples and dicts. `function` must be pure: the graph keeps, as they are now,
    the values that `function` closes over and every argument that is not a tensor. Graphs are cached on disk between runs. On a
    GPU the graph is captured as a CUDA graph, whose results are overwritten by the next call.
    """
    try:
        with torch.no_grad(), _no_validation(), seldom_collected(), quick_checks():
            graph = _compiled(function, arguments)
            graph(*arguments)
    except Exception as error:  # whatever a compiler may raise: without a C++ compiler, on a model that cannot be traced
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(f"goes on without compiling ({reason})", stacklevel=2)
        return None
    return graph


def _compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    from torch._inductor import standalone_compile

    leaves, structure = tree_flatten(arguments)
    tensors = _tensors(arguments)
    results: list[TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        values_of_leaves = iter(tensors)
        filled = [next(values_of_leaves) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        values, form = tree_flatten(function(*tree_unflatten(filled, structure)))
        results[:] = [form]
        return values

    on_gpu = any(tensor.is_cuda for tensor in tensors)
    if not on_gpu:
        headers_ahead()
        import_for_cpu()
    # with tensors that have no values, which takes half as long as computing the function
    traced = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*tensors)
    module = _without_idle_transposes(traced)
    options = {"config_patches": {"triton.cudagraphs": on_gpu}}
    graph = standalone_compile(module, [*tensors], dynamic_shapes="from_example_inputs", options=options)

    def run(*arguments: Any) -> Any:
        if on_gpu:  # results of the previous call may be overwritten
            torch.compiler.cudagraph_mark_step_begin()
        return tree_unflatten(list(graph(*_tensors(arguments))), results[0])

    return run


def _tensors(arguments: tuple[Any, ...]) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


def _without_idle_transposes(module: GraphModule) -> GraphModule:
    """Convert directly where autocast transposes, converts and transposes back, which costs a tenth of a step."""
    for node in module.graph.find_nodes(op="call_function", target=aten.t.default):
        convert = node.args[0]
        if convert.target is aten._to_copy.default and convert.args[0].target is aten.t.default:
            with module.graph.inserting_before(node):
                direct = module.graph.call_function(convert.target, (convert.args[0].args[0],), convert.kwargs)
            node.replace_all_uses_with(direct)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


@contextmanager
def _no_validation() -> Iterator[None]:
    """A block in which distributions do not check the values of their arguments, which a traced function cannot look at."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
