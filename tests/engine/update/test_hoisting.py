"""Numbers of a graph go before everything else, and the graph computes what it did."""

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from vae_lightning.engine.update.hoisting import with_numbers_first


def step(weight: Tensor, rate: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    first = weight * 2
    correction = 1 - beta.pow(3)
    scaled = rate / correction.sqrt()
    return first - weight * scaled.float(), scaled + 1, weight.sum() * scaled.float()


INPUTS = (torch.arange(4.0), torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64))


def test_graph_computes_what_it_did() -> None:
    module = with_numbers_first(make_fx(step)(*INPUTS))
    for ours, theirs in zip(module(*INPUTS), step(*INPUTS), strict=True):
        assert torch.equal(ours, theirs)


def test_numbers_of_numbers_come_first_and_by_way_of_memory() -> None:
    nodes = [node for node in with_numbers_first(make_fx(step)(*INPUTS)).graph.nodes if node.op == "call_function"]
    wide = [place for place, node in enumerate(nodes) if node.meta.get("val") is not None and node.meta["val"].dim()]
    names = [str(node.target) for node in nodes]
    assert "aten.pow.Tensor_Scalar" in names[: wide[0]]
    assert "aten.sqrt.default" in names[: wide[0]]
    assert names.index("aten.stack.default") < wide[0]
    # what elements are multiplied by comes out of memory; what depends on an element is computed where it was
    selected = {node for node in nodes if str(node.target) == "aten.select.int"}
    assert any(set(node.all_input_nodes) & selected for node in nodes[wide[0] :])
    assert "aten.sum.default" in names[wide[0] :]
