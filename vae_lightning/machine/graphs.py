"""What makes a traced graph faster than torch's compiler makes it by itself.

The compiler puts elementwise operations into the loops of all that use their results, and computes them there again: random numbers
in the forward and in the backward pass, and a power of two numbers once for each sixteen weights that it is a factor of. `realized`
has a tensor computed once.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_map_only

__all__ = ["know_realized", "realized", "rewritten"]

aten = torch.ops.aten
CONSTANTS = (aten.ones_like.default, aten.zeros_like.default, aten.full_like.default, aten.full.default, aten.arange.default)
"""Operations whose results the compiler writes into the code as numbers."""
ROUNDS = (aten.add.Tensor, aten.bitwise_xor.Tensor)
"""Operations with which a round of `noise.threefry` ends."""


@torch.library.custom_op("vae_lightning::realized", mutates_args=())
def _realized(values: Tensor) -> Tensor:
    return values.clone()


@_realized.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


@_realized.register_vmap
def _(_info: Any, places: tuple[int | None], values: Tensor) -> tuple[Tensor, int | None]:
    return _realized(values), places[0]


def realized(values: Any) -> Any:
    """`values`, in which a compiled graph computes each tensor once and keeps it, instead of once for each use."""
    return tree_map_only(Tensor, _realized, values)


@functools.cache
def know_realized() -> None:
    """Tell torch's compiler what `realized` means, before graphs with it are compiled."""
    from torch._inductor.lowering import register_lowering

    @register_lowering(torch.ops.vae_lightning.realized.default, type_promotion_kind=None)
    def lower(values: Any) -> Any:
        values.realize()
        return values


def rewritten(module: GraphModule, twins: Sequence[tuple[int, int]] = (), few: int = 1) -> GraphModule:
    """A traced `module` that computes the same in less time.

    Args:
        twins: pairs of places among the module's inputs; the second input holds the first one's values in bfloat16.
        few: up to how many numbers count as few, of which each is computed once before it is used in a loop over many.
    """
    _drop_idle_transposes(module)
    _read_twins(module, twins)
    _realize_numbers(module, few)
    _realize_rounds(module, few)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _drop_idle_transposes(module: GraphModule) -> None:
    """Convert directly where autocast transposes, converts and transposes back, which costs a tenth of a step."""
    for node in module.graph.find_nodes(op="call_function", target=aten.t.default):
        convert = node.args[0]
        if convert.target is aten._to_copy.default and convert.args[0].target is aten.t.default:
            with module.graph.inserting_before(node):
                direct = module.graph.call_function(convert.target, (convert.args[0].args[0],), convert.kwargs)
            node.replace_all_uses_with(direct)


def _read_twins(module: GraphModule, twins: Sequence[tuple[int, int]]) -> None:
    inputs = list(module.graph.find_nodes(op="placeholder"))
    for place, twin in twins:
        for user in list(inputs[place].users):
            if user.target is aten._to_copy.default and user.kwargs.get("dtype") is torch.bfloat16:
                user.replace_all_uses_with(inputs[twin])


def _realize_numbers(module: GraphModule, few: int) -> None:
    """Compute each of `few` numbers once that is a factor, a term or a condition in a loop over many."""
    constants: set[Node] = set()
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in CONSTANTS or (node.all_input_nodes and constants.issuperset(node.all_input_nodes)):
            constants.add(node)
        users = [user for user in node.users if (_size(user) or 0) > few]
        if users and 0 < (_size(node) or 0) <= few and node not in constants:
            _realize(module, node, users)


def _realize_rounds(module: GraphModule, few: int) -> None:
    """Compute each round of random words once, from which the next round uses several times over.

    The compiler would put a round into all its uses in the next one, and so on: many times the code, and minutes to compile it.
    """
    for node in list(module.graph.nodes):
        is_round = node.op == "call_function" and node.target in ROUNDS and len(node.users) > 1 and (_size(node) or 0) > few
        if is_round and not node.meta["val"].dtype.is_floating_point:
            _realize(module, node, list(node.users))


def _realize(module: GraphModule, node: Node, users: Sequence[Node]) -> None:
    """Have `users` of `node` read what is computed once."""
    with module.graph.inserting_after(node):
        kept = module.graph.call_function(torch.ops.vae_lightning.realized.default, (node,))
    kept.meta = dict(node.meta)
    for user in users:
        user.replace_input_with(node, kept)


def _size(node: Node) -> int | None:
    """How many numbers a node of a traced graph computes; None: it computes no tensor."""
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else None
