"""Compiled functions of tensors: traced once to a graph without Python, distributions or autograd, then compiled by torch.

The graph goes to torch's compiler directly. `torch.compile` would trace the function a second time, which takes seconds, and check
at every call that nothing has changed, which takes a tenth of a millisecond.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from vae_lightning.machine.collection import seldom_collected
from vae_lightning.machine.compiler import headers_ahead, import_for_cpu, quick_checks
from vae_lightning.machine.graphs import know_realized, rewritten
from vae_lightning.machine.signals import Interruption, abortable

__all__ = ["Compiled", "compiled", "leaves", "without_validation"]


class Compiled:
    """A compiled function, to be called with arguments of the structure and shapes that it was compiled for."""

    def __init__(self, graph: Callable[..., Any], form: TreeSpec, on_gpu: bool) -> None:
        self._graph, self._form, self._on_gpu = graph, form, on_gpu

    def __call__(self, *arguments: Any) -> Any:
        return self.of_leaves(leaves(arguments))

    def of_leaves(self, tensors: list[Tensor]) -> Any:
        """The results for arguments whose `leaves` are `tensors`: flattening them takes a tenth of a small step."""
        if self._on_gpu:  # results of the previous call may be overwritten
            torch.compiler.cudagraph_mark_step_begin()
        return tree_unflatten(self._graph(*tensors), self._form)


def compiled(
    function: Callable[..., Any], *arguments: Any, twins: Sequence[tuple[Tensor, Tensor]] = (), few: int = 1
) -> Compiled | None:
    """`function` as a compiled graph for `arguments` of these shapes; None, with a warning, where compiling fails.

    Arguments and results may be tensors in lists, tuples and dicts. `function` must be pure but for tensors among the arguments
    that it changes in place: the graph keeps, as they are now, the values that `function` closes over and every argument that is
    not a tensor. Graphs are cached on disk between runs. On a GPU a graph that changes no argument is captured as a CUDA graph,
    whose results are overwritten by the next call. The function is traced, and the graph tried, on copies of the arguments.

    Args:
        twins: pairs of a tensor among the arguments and of another one that holds the first one's values in bfloat16, which the
            graph reads instead of converting the first.
        few: up to how many numbers count as few, of which each is computed once before it is used in a loop over many.
    """
    try:
        with abortable(), torch.no_grad(), without_validation(), seldom_collected(), quick_checks():
            # what is changed in place are numbers that are learned or summed, and not images, which may be large
            examples = [tensor.clone() if tensor.is_floating_point() else tensor for tensor in leaves(arguments)]
            graph = _compiled(function, arguments, examples, twins, few)
            graph.of_leaves(examples)
    except Interruption:
        return None  # training ends within a few steps, of which no checkpoint is kept
    except Exception as error:  # whatever a compiler may raise: without a C++ compiler, on a model that cannot be traced
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(f"goes on without compiling ({reason})", stacklevel=2)
        return None
    return graph


def leaves(arguments: Any) -> list[Tensor]:
    """The tensors in `arguments`, in the order in which a compiled function takes them."""
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


def _compiled(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    examples: list[Tensor],
    twins: Sequence[tuple[Tensor, Tensor]],
    few: int,
) -> Compiled:
    from torch._inductor import standalone_compile

    items, structure = tree_flatten(arguments)
    places = {id(tensor): place for place, tensor in enumerate(leaves(arguments))}
    results: list[TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        values_of_leaves = iter(tensors)
        filled = [next(values_of_leaves) if isinstance(item, Tensor) else item for item in items]
        values, form = tree_flatten(function(*tree_unflatten(filled, structure)))
        results[:] = [form]
        return values

    on_gpu = any(tensor.is_cuda for tensor in examples)
    if not on_gpu:
        headers_ahead()
        import_for_cpu()
    # with tensors that have no values, which takes half as long as computing the function
    traced = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*examples)
    module = rewritten(traced, [(places[id(tensor)], places[id(twin)]) for tensor, twin in twins], few)
    know_realized()
    settings = {"triton.cudagraphs": on_gpu, "size_asserts": False}
    graph = standalone_compile(module, [*examples], dynamic_shapes="from_example_inputs", options={"config_patches": settings})
    return Compiled(graph, results[0], on_gpu)


@contextmanager
def without_validation() -> Iterator[None]:
    """A block in which distributions do not check the values of their arguments, which a traced function cannot look at."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
