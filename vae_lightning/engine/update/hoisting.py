"""Numbers of a graph computed once, before everything else."""

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

__all__ = ["with_numbers_first"]

aten = torch.ops.aten


def with_numbers_first(module: GraphModule) -> GraphModule:
    """A graph of pure operations with those first that compute 0-dim tensors from 0-dim inputs only, and their results in memory.

    A compiler that fused powers and roots of bias corrections into the loop over the elements of a parameter would compute them
    for every few elements.
    """
    graph = module.graph
    numbers: list[Node] = []
    inputs = graph.find_nodes(op="placeholder")
    for node in graph.nodes:
        if _is_number(node) and (node.op == "placeholder" or all(argument in numbers for argument in node.all_input_nodes)):
            numbers.append(node)
    computed = [node for node in numbers if node.op != "placeholder"]
    last = inputs[-1]
    for node in computed:
        last.append(node)
        last = node
    known = set(computed)
    wanted = [node for node in computed if any(user not in known and user.op != "output" for user in node.users)]
    for dtype in {node.meta["val"].dtype for node in wanted}:
        alike = [node for node in wanted if node.meta["val"].dtype == dtype]
        with graph.inserting_after(last):
            stacked = graph.call_function(aten.stack.default, (alike,))
        last = stacked
        for place, node in enumerate(alike):
            with graph.inserting_after(last):
                last = graph.call_function(aten.select.int, (stacked, 0, place))
            for user in [user for user in node.users if user not in known and user.op != "output" and user is not stacked]:
                user.replace_input_with(node, last)
    graph.lint()
    module.recompile()
    return module


def _is_number(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.dim() == 0
