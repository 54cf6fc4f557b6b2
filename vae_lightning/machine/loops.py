"""Compiled loops: what a step computes from constants alone is computed once, before the loop, and the rest is one graph a step."""

import warnings
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from vae_lightning.machine.compilation import without_validation
from vae_lightning.machine.graphs import know_realized, rewritten

__all__ = ["compiled_loop", "split_loop"]

Function = Callable[..., Any]


def compiled_loop(step: Function, constants: list[Tensor], changing: list[Tensor]) -> Callable[..., Function] | None:
    """`step(*constants, *changing)` as `loop(*constants)(*changing)`; None, with a warning, where compiling fails.

    `loop(*constants)` computes all that depends on the constants alone, and what it returns is one compiled graph for the rest.
    Tensors must keep the shapes of those given here. `step` must be pure, and a graph that draws random numbers of torch's own is
    refused. Graphs are cached on disk between runs. On a GPU each step is a CUDA graph, whose results are copied out, so that they
    can be passed to the next step.

    >>> loop = compiled_loop(lambda x, total: total + x.exp().sum(), [torch.zeros(3)], [torch.tensor(0.0)])
    >>> step = loop(torch.zeros(3))
    >>> step(step(torch.tensor(1.0)))
    tensor(7.)
    """
    try:
        with torch.no_grad(), without_validation():
            loop = _compiled(step, constants, changing)
            loop(*constants)(*changing)
    except Exception as error:  # whatever a compiler may raise: without a C++ compiler, on a model that cannot be traced
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        warnings.warn(f"goes on without compiling ({reason})", stacklevel=2)
        return None
    return loop


def _compiled(step: Function, constants: list[Tensor], changing: list[Tensor]) -> Callable[..., Function]:
    from torch._inductor import standalone_compile

    results: list[TreeSpec] = []

    def flat(*tensors: Tensor) -> list[Tensor]:
        values, form = tree_flatten(step(*tensors))
        results[:] = [form]
        return values

    know_realized()
    module = rewritten(make_fx(flat)(*constants, *changing))
    before, inside = split_loop(module, len(constants))
    on_gpu = any(tensor.is_cuda for tensor in (*constants, *changing))
    options = {"config_patches": {"triton.cudagraphs": on_gpu}}
    examples = [*before(*constants), *changing]
    graph = standalone_compile(inside, examples, dynamic_shapes="from_example_inputs", options=options)

    def loop(*constants: Tensor) -> Function:
        with torch.no_grad():
            prepared = before(*constants)

        def run(*changing: Tensor) -> Any:
            if on_gpu:  # results of the previous call may be overwritten
                torch.compiler.cudagraph_mark_step_begin()
            values = list(graph(*prepared, *changing))
            return tree_unflatten([value.clone() for value in values] if on_gpu else values, results[0])

        return run

    return loop


# ---- what need not be computed anew


def split_loop(module: GraphModule, constants: int) -> tuple[GraphModule, GraphModule]:
    """What a graph computes from its first `constants` inputs, and the rest, as a graph of those results and the other inputs.

    A result that is larger than what it is computed from, such as an image repeated for each of its samples, is computed in the
    rest: that takes less time than reading it.

    Raises:
        ValueError: the graph draws random numbers.
    """
    nodes = list(module.graph.nodes)
    if any(_draws(node) for node in nodes):
        raise ValueError("draws random numbers of torch's own, which a graph would draw otherwise")
    varying = _varying(nodes, constants)
    inside = varying | {node for node in nodes if node.op == "get_attr"}
    for node in reversed(nodes):
        if node.op == "call_function" and inside.intersection(node.users) and _grows(node):
            inside.add(node)
    shared = [node for node in nodes if node not in inside and inside.intersection(node.users)]
    return _before(module, nodes, varying, shared), _inside(module, nodes, inside, shared)


def _varying(nodes: list[Node], constants: int) -> set[Node]:
    """The nodes that depend on more than the constants."""
    inputs = [node for node in nodes if node.op == "placeholder"]
    varying = set(inputs[constants:])
    if any(_writes(node) for node in nodes):
        # a tensor that is written in place is no longer what its node has computed, so that nothing can be told from its inputs
        varying.update(node for node in nodes if node.op not in ("placeholder", "get_attr"))
    for node in nodes:
        if node.op == "output" or varying.intersection(node.all_input_nodes):
            varying.add(node)
    return varying


def _grows(node: Node) -> bool:
    """Whether the result of `node` is no tensor, or larger than all that it is computed from."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return True
    sources = tree_leaves([_value(source) for source in node.all_input_nodes])
    return prod(value.shape) > sum(prod(source.shape) for source in sources if isinstance(source, Tensor))


def _value(node: Node) -> Any:
    if node.op != "get_attr":
        return node.meta.get("val")
    value: Any = node.graph.owning_module
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value


def _draws(node: Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _before(module: GraphModule, nodes: list[Node], varying: set[Node], shared: list[Node]) -> GraphModule:
    graph, copies = Graph(), dict[Node, Node]()
    for node in nodes:
        if node not in varying:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in shared])
    graph.eliminate_dead_code()
    return GraphModule(module, graph)


def _inside(module: GraphModule, nodes: list[Node], inside: set[Node], shared: list[Node]) -> GraphModule:
    graph, copies = Graph(), dict[Node, Node]()
    for number, node in enumerate(shared):
        copies[node] = graph.placeholder(f"shared_{number}")
        copies[node].meta = dict(node.meta)
    for node in nodes:
        if node in inside:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.eliminate_dead_code()
    return GraphModule(module, graph)
