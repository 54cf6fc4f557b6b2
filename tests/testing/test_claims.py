"""Claims are sentences, whatever a part's own code does."""

import pytest
import torch
from torch import nn

from vae_lightning.testing.claims import Contract, agree, claim, reports, require_gradients, shaped


class Two(Contract):
    wanted = 2

    def test_second(self) -> None:
        claim(self.part() == self.wanted, f"the part is {self.part()}")


class More(Two):
    def test_third(self) -> None:
        claim(False, "the third fails")


def test_inherited_checks_come_first_and_each_once() -> None:
    Two.of(2).check()
    with pytest.raises(AssertionError, match=r"^the part is 3$"):
        More.of(3).check()
    with pytest.raises(AssertionError, match=r"^the third fails$"):
        More.of(2).check()


def test_a_contract_without_a_part_says_where_to_give_it() -> None:
    with pytest.raises(NotImplementedError, match=r"Two: give the part to be checked in make\(self\)"):
        Two().check()


def test_errors_of_a_part_become_one_sentence() -> None:
    with pytest.raises(AssertionError, match=r"^a call fails: ValueError: two lines$"), reports("a call"):
        raise ValueError("two\nlines")


def test_shapes_and_types_are_named() -> None:
    with pytest.raises(AssertionError, match=r"^it has shape \(2,\), not \(3,\)$"):
        shaped(torch.zeros(2), (3,), "it")
    with pytest.raises(AssertionError, match=r"^it is torch.int64, not floating point$"):
        shaped(torch.zeros(2, dtype=torch.int64), (2,), "it")
    with pytest.raises(AssertionError, match=r"^it is a list, not a tensor"):
        shaped([1.0], (1,), "it")


def test_agreement_is_relative_and_of_equal_shapes() -> None:
    assert agree(torch.tensor(1e6), torch.tensor(1e6 + 1))
    assert not agree(torch.tensor(1.0), torch.tensor(1.01))
    assert not agree(torch.tensor(float("nan")), torch.tensor(1.0))
    assert not agree(torch.zeros(2), torch.zeros(1, 2))


def test_parameters_without_a_gradient_are_named_unless_that_is_meant() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    value = net[0](torch.ones(2)).sum()
    with pytest.raises(AssertionError, match=r"no gradient of it reaches 1\.weight, 1\.bias; name them in `unused`"):
        require_gradients(net, value, (), "it")
    require_gradients(net, value, ("1.weight", "1.bias"), "it")
    with pytest.raises(AssertionError, match="it does not depend on any parameter"):
        require_gradients(net, value.detach(), (), "it")
