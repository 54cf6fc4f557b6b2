"""Compiled functions give the same values, and what cannot be compiled is said."""

import pytest
import torch
from torch.distributions import Bernoulli

from vae_lightning.compilation import compiled


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
