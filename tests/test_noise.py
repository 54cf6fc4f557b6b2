"""Random numbers are a function of their key, and uniform."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_lightning.noise import Source, _normal, bits15, generator, global_noise, key_of, standard_normal, threefry


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


def test_neighbouring_keys_give_independent_streams() -> None:
    streams = torch.stack([torch.randn(10_000, generator=generator(0, batch)) for batch in range(20)])
    correlation = torch.corrcoef(streams) - torch.eye(20)
    assert correlation.abs().max() < 5 / 100


def digest(*key: int | str) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=8).digest()


@pytest.mark.parametrize("key", [(), (1,), (0, "train", 7), ("posterior",)], ids=str)
def test_keys_are_all_64_bits_of_a_hash_and_seeds_63_of_them(key: tuple[int | str, ...]) -> None:
    """For good: what an earlier version has begun goes on in a later one with the same numbers."""
    assert generator(*key).initial_seed() == int.from_bytes(digest(*key), "little") >> 1, "torch takes seeds of 63 bits"
    words = key_of(*key).numpy().view("uint32")
    assert words.tolist() == [int.from_bytes(digest(*key)[start : start + 4], "little") for start in (0, 4)]


# ---- counter-based numbers


def words(*hexadecimal: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.tensor(hexadecimal).to(torch.int32)  # which keeps the lowest 32 bits
    return first, second


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_random123(
    key: tuple[int, int], counter: tuple[int, int], expected: tuple[int, int]
) -> None:
    """From kat_vectors of https://github.com/DEShawResearch/random123: threefry2x32 with 20 rounds, its three vectors."""
    assert [word.item() & 0xFFFFFFFF for word in threefry(words(*key), words(*counter))] == list(expected)


def source_of(*places: int) -> Source:
    return Source(key_of("train", 0, 3), torch.tensor(places, dtype=torch.int32))


DRAWS = {
    "normal": lambda source: source.normal("posterior", 3, 5),
    "uniform": lambda source: source.uniform("dropout", (5,)),
    "integers16": lambda source: source.integers16("pixels", 7),
}


def words_of(source: Source, purpose: str, counters: int, repeat: int = 0) -> torch.Tensor:
    """Threefry's two words of each image's counters, 0 to 2**32 - 1, `(2, B, counters)`."""
    first, second = source.key ^ key_of(purpose)
    counter = torch.arange(counters, dtype=torch.int32)
    pair = threefry((first, second ^ repeat), (source.places.unsqueeze(-1), counter))
    return torch.stack(pair).long() & 0xFFFFFFFF


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8])
def test_numbers_are_threefrys_words_of_key_purpose_place_and_counter(count: int) -> None:
    """For good, as the keys: of 32 bits a uniform number takes the highest 24, and a normal number all of the first word."""
    source = source_of(4, 9)
    drawn = source.uniform("a", (count,), repeats=2).view(2, 2, count)
    for repeat in (0, 1):
        words = torch.cat([*words_of(source, "a", (count + 1) // 2, repeat)], -1)[:, :count]
        assert torch.equal(drawn[repeat].double() * 2**24, (words // 2**8).double())
    first, second = words_of(source, "a", (count + 3) // 4)
    parts = [first % 2**16, first // 2**16, second % 2**16, second // 2**16]
    assert torch.equal(source.integers16("a", count), torch.cat(parts, -1)[:, :count].int())
    for number in (0, 1):
        first, _ = words_of(source, "a", count, repeat=number)
        assert torch.equal(source.normal("a", 1, count, first=number)[0], _normal(first.to(torch.int32)))


@pytest.mark.parametrize("name", ["uniform", "integers16"])
def test_numbers_of_an_image_are_its_own_whatever_the_batch(name: str) -> None:
    batch, other = (DRAWS[name](source_of(*places)) for places in ((4, 9, 2), (2, 4)))
    assert torch.equal(batch[[2, 0]], other)


@settings(max_examples=25)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40, unique=True), st.data())
def test_numbers_of_images_are_theirs_however_these_are_split_into_batches(places: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(places), "order")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(places)), max_size=3), "ends of batches"))
    parts = [source_of(*order[start:end]) for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    back = torch.tensor([order.index(place) for place in places])
    for draw in DRAWS.values():
        together = torch.cat([draw(part) for part in parts], -2)
        assert torch.equal(together.index_select(-2, back), draw(source_of(*places)))


def test_normal_number_depends_on_neither_batch_nor_samples_nor_features() -> None:
    many = source_of(4, 9, 2).normal("posterior", 6, 7)
    assert torch.equal(source_of(2, 4).normal("posterior", 3, 5), many[:3, [2, 0], :5])
    assert torch.equal(source_of(9).normal("posterior", 2, 7, first=4), many[4:, 1:2])


def test_repeats_of_uniform_numbers_are_other_numbers() -> None:
    twice = source_of(4, 9).uniform("dropout", (3, 2), repeats=2)
    assert twice.shape == (4, 3, 2)
    assert torch.equal(twice[:2], source_of(4, 9).uniform("dropout", (3, 2)))
    assert not torch.equal(twice[:2], twice[2:])


def test_each_purpose_epoch_and_seed_has_numbers_of_its_own() -> None:
    places = torch.arange(50, dtype=torch.int32)
    drawn = [
        Source(key_of(split, seed, epoch), places).integers16(purpose, 16).flatten().double()
        for split in ("train", "val")
        for seed in (0, 1)
        for epoch in (0, 1)
        for purpose in ("pixels", "posterior")
    ]
    correlation = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert correlation.abs().max() < 5 / 800**0.5


def test_streams_and_sources_are_the_same_in_another_process() -> None:
    """Python's own hash() of a string is not."""
    code = (
        "import torch; from vae_lightning.noise import Source, generator; "
        "print(torch.randint(2**31, (4,), generator=generator(3, 'val')).tolist()); "
        "print(Source.of(torch.zeros(2), 3, 'a').integers16('b', 4).tolist())"
    )
    root = Path(__file__).parents[1]
    printed = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    stream, source = printed.strip().splitlines()
    assert stream == str(list(first(3, "val")))
    assert source == str(Source.of(torch.zeros(2), 3, "a").integers16("b", 4).tolist())


def test_models_of_a_stack_draw_what_each_draws_alone() -> None:
    keys = torch.stack([key_of("train", seed, 0) for seed in range(3)])
    places = torch.randint(60_000, (3, 4), generator=generator("places")).to(torch.int32)

    def draw(key: torch.Tensor, places: torch.Tensor) -> list[torch.Tensor]:
        source = Source(key, places)
        return [source.normal("posterior", 2, 3), source.uniform("dropout", (5,), 2), source.integers16("pixels", 9)]

    together = torch.vmap(draw)(keys, places)
    for number in range(3):
        assert all(
            torch.equal(part[number], alone) for part, alone in zip(together, draw(keys[number], places[number]), strict=True)
        )


def test_normal_numbers_are_normal_and_finite() -> None:
    z = source_of(*range(2000)).normal("posterior", 20, 50).flatten().double()
    assert z.isfinite().all()
    assert abs(float(z.mean())) < 5 / len(z) ** 0.5
    assert abs(float(z.var()) - 1) < 5 * (2 / len(z)) ** 0.5
    share = torch.special.ndtr(z)
    counts = torch.histc(share, 1000, 0, 1)
    chi_square = ((counts - len(z) / 1000) ** 2 / (len(z) / 1000)).sum().item()
    assert abs(chi_square - 999) < 5 * (2 * 999) ** 0.5


def test_normal_numbers_are_the_quantiles_of_the_words_out_into_the_tails() -> None:
    tail = torch.cat([torch.arange(4096), torch.arange(99_991, 2**31, 99_991)])
    p = (tail.double() + 0.5) * 2.0**-32
    for sign in (1, -1):
        words = (tail if sign > 0 else tail - 2**31).to(torch.int32)
        z = sign * _normal(words).double()
        assert torch.allclose(torch.special.ndtr(-z).log(), p.log(), atol=0.02, rtol=0)
        assert torch.allclose(z[4096:], -torch.special.ndtri(p[4096:]), atol=2e-5)


def test_uniform_numbers_are_uniform_and_below_one() -> None:
    uniform = source_of(*range(500)).uniform("dropout", (40,), repeats=50).flatten().double()
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = torch.histc(uniform, 1000, 0, 1)
    chi_square = ((counts - len(uniform) / 1000) ** 2 / (len(uniform) / 1000)).sum().item()
    assert abs(chi_square - 999) < 5 * (2 * 999) ** 0.5


def test_every_bit_of_16_is_a_fair_coin_and_independent_of_the_other_numbers() -> None:
    drawn = source_of(*range(2**14)).integers16("pixels", 8)
    assert drawn.min() >= 0
    assert drawn.max() < 2**16
    bits = torch.cat([drawn >> place & 1 for place in range(16)], -1).double()
    assert (bits.mean(0) - 0.5).abs().max() < 5 * 0.5 / 2**7
    assert (torch.corrcoef(bits.mT) - torch.eye(128)).abs().max() < 6 / 2**7


# ---- numbers that are drawn once


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4,), (5, 3), (2, 1, 28, 28), (0, 4)])
def test_bits15_have_the_shape_asked_for(shape: tuple[int, ...]) -> None:
    bits = bits15(shape, generator(0))
    assert bits.shape == shape
    assert bits.dtype == torch.int16


@pytest.mark.parametrize(("count", "draws"), [(1, 1), (4, 1), (5, 2), (12, 3)])
def test_bits15_draw_once_for_each_four(count: int, draws: int) -> None:
    source, other = generator(0), generator(0)
    bits15((count,), source)
    torch.empty(draws, dtype=torch.int64).random_(generator=other)
    assert torch.equal(source.get_state(), other.get_state())


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
