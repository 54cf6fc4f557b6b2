"""Graphs traced many times as fast as `make_fx` traces them, for tests that trace thousands of models."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class Recorded(TorchDispatchMode):
    """Writes down torch's operations while a function runs once. As with `make_fx`, what Python has a part in is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.root, self.graph = nn.Module(), fx.Graph()
        self.nodes: dict[int, tuple[fx.Node, Tensor]] = {}  # with the tensor, so that no other takes its place in memory

    def note(self, result: Any, node: fx.Node) -> None:
        """Let `node` be what `result` comes from from now on; of an operation in place it is the input."""
        if isinstance(result, Tensor):
            node.meta["val"] = result
            self.nodes[id(result)] = node, result
        elif isinstance(result, list | tuple):
            for number, item in enumerate(result):
                self.note(item, self.graph.call_function(operator.getitem, (node, number)))

    def node_of(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(self.node_of(item) for item in value)
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:  # a constant
            name = f"constant_{len(self.nodes)}"
            self.root.register_buffer(name, value.detach())
            self.note(value, self.graph.get_attr(name))
        return self.nodes[id(value)][0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and self.node_of(args[0]).op != "get_attr":
            raise RuntimeError("a branch depends on the value of a tensor, which a graph does not know")
        results = func(*args, **kwargs)
        if kwargs.get("generator") is None:  # what a generator of the function's own draws is a constant
            kwargs = {name: self.node_of(value) for name, value in kwargs.items()}
            self.note(results, self.graph.call_function(func, self.node_of(tuple(args)), kwargs))
        return results


class Interpreted(fx.GraphModule):
    """A graph that runs node by node: for a few runs that is quicker than to write Python of it and to compile that."""

    def recompile(self) -> Any: ...

    def forward(self, *tensors: Tensor) -> Any:
        return fx.Interpreter(self).run(*tensors)


def quick_make_fx(function: Callable[..., list[Tensor]], **_: Any) -> Callable[..., fx.GraphModule]:
    """What stands in for `make_fx(function)`: given example tensors, the graph of `function`.

    `make_fx` makes a fake tensor of each result, for whoever compiles the graph, which takes nearly all of its time.
    """

    def trace(*examples: Tensor) -> fx.GraphModule:
        tensors, mode = [tensor.detach().clone() for tensor in examples], Recorded()
        for number, tensor in enumerate(tensors):
            mode.note(tensor, mode.graph.placeholder(f"input_{number}"))
        with mode:
            results = function(*tensors)
        mode.graph.output([mode.node_of(result) for result in results])
        return Interpreted(mode.root, mode.graph)

    return trace
