"""A compiled loop gives the values of its step, and computes only once what never changes."""

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from vae_lightning.machine.loops import compiled_loop, split_loop


def step(x: Tensor, weight: Tensor, total: Tensor) -> dict[str, Tensor]:
    encoded = (x @ weight).exp()
    return {"total": total + (encoded.repeat(3, 1) + total).sum(0)}


def test_loop_gives_the_values_of_its_step_for_other_tensors() -> None:
    shapes = [torch.zeros(4, 5), torch.zeros(5, 2)]
    loop = compiled_loop(step, shapes, [torch.zeros(2)])
    assert loop is not None
    for _ in range(2):
        x, weight, total = torch.randn(4, 5), torch.randn(5, 2), torch.randn(2)
        bound, expected = loop(x, weight), total
        for _ in range(3):
            total, expected = bound(total)["total"], step(x, weight, expected)["total"]
        torch.testing.assert_close(total, expected)


def operations(module: torch.fx.GraphModule) -> set[str]:
    return {str(node.target) for node in module.graph.nodes if node.op == "call_function"}


def test_what_depends_on_constants_alone_is_computed_before_but_not_what_only_repeats() -> None:
    tensors = torch.ones(4, 5), torch.ones(5, 2), torch.ones(2)
    before, inside = split_loop(make_fx(step)(*tensors), 2)
    assert operations(before) == {"aten.mm.default", "aten.exp.default"}
    assert operations(inside) == {"aten.repeat.default", "aten.sum.dim_IntList", "aten.add.Tensor"}
    expected = step(*tensors)["total"]
    torch.testing.assert_close(inside(*before(*tensors[:2]), tensors[2])["total"], expected)


def test_parts_of_a_constant_that_are_used_on_both_sides() -> None:
    def halves(x: Tensor, total: Tensor) -> Tensor:
        one, other = x.chunk(2)
        return total * one + (one * other).sum()

    tensors = torch.randn(6), torch.randn(3)
    before, inside = split_loop(make_fx(halves)(*tensors), 1)
    torch.testing.assert_close(inside(*before(tensors[0]), tensors[1]), halves(*tensors))


def test_a_tensor_that_is_written_in_place_is_made_anew_at_each_step() -> None:
    def written(x: Tensor, total: Tensor) -> Tensor:
        buffer = x.clone()
        buffer[0] += total[0]
        return buffer.sum() + total

    x = torch.randn(3)
    before, inside = split_loop(make_fx(written)(x, torch.zeros(3)), 1)
    shared = before(x)
    for total in torch.randn(3, 3):
        torch.testing.assert_close(inside(*shared, total), written(x, total))


def test_random_numbers_are_refused() -> None:
    with pytest.warns(UserWarning, match=r"goes on without compiling \(draws random numbers"):
        assert compiled_loop(lambda x, total: total + torch.rand_like(x), [torch.ones(2)], [torch.ones(2)]) is None
