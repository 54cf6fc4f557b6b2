"""Compiled functions give the same values, and what cannot be compiled is said."""

import pytest
import torch
from torch.distributions import Bernoulli
from torch.fx.experimental.proxy_tensor import make_fx

from vae_lightning.machine.compilation import compiled
from vae_lightning.machine.graphs import realized, rewritten


def test_graph_gives_the_values_of_the_function_for_other_arguments() -> None:
    def function(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(-1)

    x = torch.rand(4, 50).round()
    graph = compiled(function, torch.zeros(4, 50), x)
    assert graph is not None
    logits = 5 * torch.randn(4, 50)
    torch.testing.assert_close(graph(logits, x), function(logits, x))


def test_what_cannot_be_traced_is_said_and_done_without() -> None:
    def depends_on_a_value(x: torch.Tensor) -> float:
        return x.sum().item()

    with pytest.warns(UserWarning, match="goes on without compiling"):
        assert compiled(depends_on_a_value, torch.ones(2)) is None


def test_results_and_arguments_may_be_nested_and_need_not_be_tensors() -> None:
    def function(pair: list[torch.Tensor], scale: float, missing: None) -> dict[str, tuple[torch.Tensor, ...]]:
        assert missing is None
        return {"both": (pair[0] * scale, pair[1].sum())}

    graph = compiled(function, [torch.zeros(3), torch.zeros(2, 2)], 2.0, None)
    assert graph is not None
    doubled, total = graph([torch.ones(3), torch.ones(2, 2)], 2.0, None)["both"]
    assert doubled.tolist() == [2, 2, 2]
    assert total == 4


def test_conversion_between_two_transposes_is_one_conversion() -> None:
    """What autocast leaves of a weight's gradient; values and layout stay."""

    def function(x: torch.Tensor) -> torch.Tensor:
        return x.t().to(torch.bfloat16).t()

    x = torch.randn(3, 5)
    module = rewritten(make_fx(function)(x))
    assert [node.target for node in module.graph.nodes if node.op == "call_function"] == [torch.ops.aten._to_copy.default]
    assert torch.equal(module(x), function(x))
    assert module(x).stride() == (5, 1)


def test_twin_is_read_instead_of_converting() -> None:
    def function(x: torch.Tensor, twin: torch.Tensor) -> torch.Tensor:
        product = x.to(torch.bfloat16) * 2
        twin.copy_(x + 1)
        return product

    x = torch.ones(3)
    module = rewritten(make_fx(function)(x, x.bfloat16()), [(0, 1)])
    assert torch.ops.aten._to_copy.default not in {node.target for node in module.graph.nodes}
    twin = torch.tensor([5.0, 6.0, 7.0], dtype=torch.bfloat16)
    assert module(x, twin).tolist() == [10, 12, 14]
    assert twin.tolist() == [2, 2, 2]


def test_number_that_a_loop_needs_is_computed_once() -> None:
    def function(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        step.add_(1)
        return x * (1 - 0.9**step)

    module = rewritten(make_fx(function)(torch.ones(3), torch.zeros(())))
    assert [node.target for node in module.graph.nodes].count(torch.ops.vae_lightning.realized.default) == 1
    step = torch.zeros(())
    torch.testing.assert_close(module(torch.ones(3), step), torch.full((3,), 0.1))
    assert step == 1


def test_realized_values_are_the_same_and_go_through_vmap() -> None:
    x = torch.arange(6.0).view(2, 3)
    assert torch.equal(realized((x,))[0], x)
    assert torch.equal(torch.vmap(lambda row: realized(row) * 2)(x), 2 * x)
