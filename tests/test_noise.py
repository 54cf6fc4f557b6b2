"""Random numbers are a function of their key, and uniform."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vae_lightning.noise import bits15, generator, global_noise, standard_normal


def first(*key: int | str) -> tuple[int, ...]:
    return tuple(torch.randint(2**31, (4,), generator=generator(*key)).tolist())


def test_same_key_same_stream() -> None:
    assert first(1, "posterior", 3) == first(1, "posterior", 3)


def test_every_part_of_the_key_counts() -> None:
    keys: list[tuple[int | str, ...]] = [(), (1,), ("1",), (1, 2), (2, 1), (12,), (1, 2, 3), (12, 3), (1, 23), (-1,)]
    keys += [(1, "a"), (1, "b"), ("a", 1), ("a", "1"), (2**70,)]
    keys += [(0, "train", epoch, batch) for epoch in range(20) for batch in range(20)]
    assert len({first(*key) for key in keys}) == len(keys)


def test_global_generator_is_neither_used_nor_moved() -> None:
    torch.manual_seed(1)
    before, one = torch.get_rng_state(), first("x")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert first("x") == one


def test_stream_is_the_same_in_another_process() -> None:
    """Python's own hash() of a string is not."""
    code = "import torch; from vae_lightning.noise import generator; "
    code += "print(torch.randint(2**31, (4,), generator=generator(3, 'val')).tolist())"
    root = Path(__file__).parents[1]
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(list(first(3, "val")))


def test_neighbouring_keys_give_independent_streams() -> None:
    streams = torch.stack([torch.randn(10_000, generator=generator(0, batch)) for batch in range(20)])
    correlation = torch.corrcoef(streams) - torch.eye(20)
    assert correlation.abs().max() < 5 / 100


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5, 3), (2, 1, 28, 28), (0, 4)])
def test_bits15_have_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    bits = bits15(shape, generator(0))
    assert bits.shape == shape
    assert bits.dtype == torch.int16


def test_bits15_are_uniform() -> None:
    bits = bits15((2**20,), generator(0)).long()
    assert bits.min() >= 0
    assert bits.max() < 2**15
    counts = torch.bincount(bits >> 5, minlength=1024).double()
    expected = 2**20 / 1024
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    # mean 1023 and standard deviation sqrt(2 * 1023)
    assert abs(chi_square - 1023) < 5 * (2 * 1023) ** 0.5


def test_bits15_every_bit_of_each_of_the_four_in_a_word_is_a_fair_coin() -> None:
    bits = bits15((2**16, 4), generator(1)).long()
    share = torch.stack([(bits >> place & 1).double().mean(0) for place in range(15)])
    assert (share - 0.5).abs().max() < 5 * 0.5 / 2**8


def test_bits15_of_one_word_are_independent() -> None:
    bits = bits15((2**16, 4), generator(2)).double()
    correlation = torch.corrcoef(bits.mT) - torch.eye(4)
    assert correlation.abs().max() < 5 / 2**8


def test_standard_normal_is_its_keys_and_takes_on_the_precision_asked_for() -> None:
    like = torch.zeros(1, dtype=torch.float64)
    z = standard_normal((200, 100), like, 0, "samples")
    assert z.dtype == torch.float64
    assert abs(float(z.mean())) < 4 / 20_000**0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / 20_000) ** 0.5
    assert torch.equal(z.float(), torch.randn(200, 100, generator=generator(0, "samples")))
    assert not torch.equal(z, standard_normal((200, 100), like, 1, "samples"))


def test_global_noise_is_fixed_within_and_leaves_no_trace() -> None:
    def drawn() -> torch.Tensor:
        with global_noise(7, torch.device("cpu")):
            return torch.distributions.Normal(0.0, 1.0).sample((3,))

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn(), drawn())
    assert torch.equal(torch.rand(3), expected)
