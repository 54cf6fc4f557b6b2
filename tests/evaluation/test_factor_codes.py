"""Representations by factors are the same from a table as one by one; impossible settings are refused."""

import pytest
import torch
from torch import Tensor
from toys import Squares

from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.factor_codes import Codes, DisentanglementSettings


def test_a_table_of_all_combinations_holds_what_is_encoded_one_by_one() -> None:
    data, factors = Squares(3, 4, 2), torch.tensor([[[2, 3, 1], [0, 0, 0]], [[1, 2, 1], [2, 0, 1]]])
    calls: list[int] = []

    def represent(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images.flatten(1)[:, :3]

    direct, table = Codes(represent, data), Codes(represent, data, expected=24)
    assert calls == [24]
    assert torch.equal(table(factors), factors / 10)
    assert calls == [24]
    assert torch.equal(direct(factors), table(factors))
    assert calls == [24, 4]


@pytest.mark.parametrize("name", ["num_train", "batch_size", "num_trees", "svm_penalty", "leaf_share"])
def test_impossible_settings_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=0: must be"):
        DisentanglementSettings(**{name: 0})
