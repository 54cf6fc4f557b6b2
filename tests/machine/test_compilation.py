"""Compiled functions give the same values, and what cannot be compiled is said."""

import pytest
import torch
from torch.distributions import Bernoulli
from torch.fx.experimental.proxy_tensor import make_fx

from vae_lightning.machine.compilation import _without_idle_transposes, compiled


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
    module = _without_idle_transposes(make_fx(function)(x))
    assert [node.target for node in module.graph.nodes if node.op == "call_function"] == [torch.ops.aten._to_copy.default]
    assert torch.equal(module(x), function(x))
    assert module(x).stride() == (5, 1)
