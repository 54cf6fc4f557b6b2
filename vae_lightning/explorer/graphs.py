"""Functions of a model as lists of torch's core operations, which the page goes through one after the other.

What does not depend on the inputs is computed here, once, where that makes the page smaller, as the posteriors of a VampPrior's
pseudo-inputs do; where it would make it larger, as a small kernel written at each of its places does, the page computes it, once.
"""

import math
import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.fx.node import map_aggregate, map_arg

from vae_lightning.errors import ConfigurationError
from vae_lightning.explorer.constants import Constants
from vae_lightning.explorer.operations import known_operations
from vae_lightning.export.functions import Function, traced

__all__ = ["Graph", "graph_of"]

NOT_COMPUTED = {"layout", "device", "pin_memory", "memory_format", "non_blocking"}
"""Arguments that say how torch keeps numbers, and not which."""


@dataclass(frozen=True)
class Graph:
    """A function as the page computes it.

    >>> from torch import nn
    >>> doubled = Function("decoder", nn.Linear(2, 3), {"z": torch.zeros(2, 2)}, ("mean",))
    >>> [operation[0] for operation in graph_of(doubled, Constants()).to_plain()["operations"]]
    ['addmm.default']
    """

    function: Function
    """The function."""
    operations: Sequence[tuple[Node, str, list[Any]]]
    """Each operation in order: torch's node, the name, the arguments as the page reads them."""
    numbers: Mapping[Node, int]
    """Constants by node: their numbers in `constants`."""
    results: Sequence[Node]
    """What the function gives."""
    places: Mapping[Node, str]
    """Where the page finds the value of a node."""
    constants: Constants
    """The numbers of the page."""

    def to_plain(self) -> dict[str, Any]:
        """The graph as JSON has it."""
        return {
            "inputs": list(self.function.inputs),
            "outputs": list(self.function.outputs),
            "operations": [[name, arguments] for _, name, arguments in self.operations],
            "results": [self.places[node] for node in self.results],
        }

    @torch.no_grad()
    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """What the page computes for `inputs`, by torch, with the weights as they were rounded for the page."""
        named = dict(zip(self.function.inputs, inputs, strict=True))
        values: dict[Node, Any] = {node: self.constants[number] for node, number in self.numbers.items()}
        # a constant goes back to the kind of number that the operations after it expect
        values = {node: value.to(node.meta["val"].dtype) for node, value in values.items()}
        values |= {node: named[place[1:]] for node, place in self.places.items() if place.startswith("=")}
        for node, _, _ in self.operations:
            values[node] = _computed(node, values)
        return [values[node] for node in self.results]


def graph_of(function: Function, constants: Constants) -> Graph:
    """The graph of `function`, whose numbers go into `constants`.

    Raises:
        ConfigurationError: the function cannot be traced, or has an operation, or a form of one, that the page does not know.
    """
    # the values of parameters are wanted as they are, and not as a graph for training would have them
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's of its own parts
        program = traced(function).run_decompositions()
        leaves = _leaves(program)
        fixed, sizes = _fixed(program, leaves)
    results = list(cast(Sequence[Node], program.graph.output_node().args[0]))
    if not all(isinstance(node, Node) for node in results):
        raise ConfigurationError(f"{function.name}: gives a number that depends on nothing, which the page does not show")
    kept = {node for node, value in fixed.items() if isinstance(value, Tensor) and value.numel() <= sizes[node]}
    needed = _needed(results, kept)
    named = dict(zip(_inputs(program), function.inputs, strict=True))
    places: dict[Node, str] = {node: f"={named[node.name]}" for node in needed if node.name in named}
    numbers = {node: constants.add(fixed[node]) for node in program.graph.nodes if node in needed & kept}
    places |= {node: f"@{number}" for node, number in numbers.items()}
    operations: list[tuple[Node, str, list[Any]]] = []
    for node in program.graph.nodes:
        if node in needed and node not in places:
            name = _name(node, function.name)
            operations.append((node, name, _plain(_positional(node), places)))
            places[node] = f"#{len(operations) - 1}"
    return Graph(function, operations, numbers, results, places, constants)


def _inputs(program: ExportedProgram) -> list[str]:
    """Names of the nodes of a program's own inputs, in order."""
    return list(program.graph_signature.user_inputs)


def _leaves(program: ExportedProgram) -> dict[str, Tensor]:
    """Parameters, buffers and constants by the name of their node."""
    held = {**program.state_dict, **program.constants}
    return {
        spec.arg.name: held[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.kind is not InputKind.USER_INPUT and spec.target is not None
    }


def _fixed(program: ExportedProgram, leaves: Mapping[str, Tensor]) -> tuple[dict[Node, Any], dict[Node, int]]:
    """The values of nodes that depend on no input, and how many numbers each is computed from."""
    values: dict[Node, Any] = {}
    sources: dict[Node, frozenset[str]] = {}
    for node in program.graph.nodes:
        if node.name in leaves:
            values[node], sources[node] = leaves[node.name].detach().cpu(), frozenset({node.name})
        elif node.op == "call_function" and all(parent in values for parent in node.all_input_nodes) and _is_certain(node):
            values[node] = _computed(node, values)
            sources[node] = frozenset().union(*(sources[parent] for parent in node.all_input_nodes))
    return values, {node: sum(leaves[name].numel() for name in names) for node, names in sources.items()}


def _is_certain(node: Node) -> bool:
    """Whether an operation always gives the same."""
    return torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ())


def _computed(node: Node, values: Mapping[Node, Any]) -> Any:
    assert callable(node.target)
    return node.target(*map_arg(node.args, values.__getitem__), **map_arg(node.kwargs, values.__getitem__))


def _needed(results: Sequence[Node], kept: set[Node]) -> set[Node]:
    needed: set[Node] = set()
    waiting = list(results)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting.extend(() if node in kept else node.all_input_nodes)
    return needed


def _name(node: Node, function: str) -> str:
    """What the page calls an operation."""
    target: Any = node.target
    own = getattr(target, "__module__", None) in (operator.__name__, "_operator")
    name = f"py.{target.__name__}" if own else str(target).removeprefix("aten.")
    if name not in known_operations():
        raise ConfigurationError(f"{function}: the explorer's page does not know the operation {name}")
    if form := _unknown_form(node, name):
        raise ConfigurationError(f"{function}: the explorer's page does not know the operation {name} {form}")
    return name


def _unknown_form(node: Node, name: str) -> str | None:
    """The form in which an operation is used, if the page computes others of it alone."""
    arguments = _positional(node)
    if name == "convolution.default" and (rank := arguments[1].meta["val"].dim() - 2) != 2:
        return f"as of Conv{rank}d (it knows that of Conv2d)"
    if name == "index.Tensor":
        indices = [index for index in arguments[1] if index is not None]
        if len(indices) != 1:
            return f"with {len(indices)} index tensors (it knows that with one)"
        if indices[0].meta["val"].dtype in (torch.bool, torch.uint8):
            return "with a mask (it knows that with whole numbers)"
    if name == "max_pool2d_with_indices.default" and any(step != 1 for step in arguments[4]):
        return f"with a dilation of {'x'.join(map(str, arguments[4]))} (it knows that with none)"
    return None


def _positional(node: Node) -> list[Any]:
    """The arguments of an operation in the order of its schema, with those left out as their defaults."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return list(node.args)
    values: list[Any] = []
    for place, argument in enumerate(schema.arguments):
        if argument.name not in NOT_COMPUTED:
            given = place < len(node.args)
            values.append(node.args[place] if given else node.kwargs.get(argument.name, argument.default_value))
    return values


def _plain(arguments: list[Any], places: Mapping[Node, str]) -> list[Any]:
    """Arguments as JSON has them: `#n` is the result of operation n, `@n` constant n, `=x` the input x."""

    def plain(value: Any) -> Any:
        if isinstance(value, Node):
            return places[value]
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)  # JSON has no number for it
        if isinstance(value, torch.dtype):
            return "bool" if value is torch.bool else "float" if value.is_floating_point else "int"
        return value

    converted = map_aggregate(tuple(arguments), plain)
    return [list(value) if isinstance(value, tuple | list) else value for value in converted]
