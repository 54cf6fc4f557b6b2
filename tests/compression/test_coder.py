"""What is pushed is popped, in the number of bits that its probabilities say."""

import numpy as np
import pytest

from vae_lightning.compression.coder import Message
from vae_lightning.errors import DataError

CHAINS = 5


def words(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.mark.parametrize("bits", [1, 8, 24, 32])
def test_symbols_come_back_in_the_opposite_order_and_leave_what_was_there(bits: int) -> None:
    source, message = np.random.default_rng(bits), Message.random(CHAINS)
    before = message.state.copy(), [stack.copy() for stack in message.stacks]
    sizes = source.integers(1, 2**bits, (300, CHAINS), dtype=np.uint64)
    starts = source.integers(0, 2**bits - sizes, endpoint=True, dtype=np.uint64)
    message.reserve(300)
    for start, size in zip(starts, sizes, strict=True):
        message.push(start, size, bits)
    for start, size in zip(starts[::-1], sizes[::-1], strict=True):
        place = message.peek(CHAINS, bits)
        assert ((start <= place) & (place < start + size)).all()
        message.drop(place, start, size, bits)
    assert (message.state == before[0]).all()
    assert all(np.array_equal(*pair) for pair in zip(message.stacks, before[1], strict=True))
    assert message.initial_bits == 64 * CHAINS


def test_length_is_the_entropy_to_a_thousandth() -> None:
    share, count = 2.0**-4 + 2.0**-6, 4000
    source, message = np.random.default_rng(0), Message.random(CHAINS)
    size = np.uint64(share * 2**24)
    message.reserve(count)
    before = message.content.sum()
    for one in source.random((count, CHAINS)) < share:
        white = np.uint64(2**24) - size
        message.push(np.where(one, white, np.uint64(0)), np.where(one, size, white), 24)
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    assert (message.content.sum() - before) / (count * CHAINS) == pytest.approx(entropy, rel=0.03)
    ones = (np.random.default_rng(0).random((count, CHAINS)) < share).mean()
    exact = -ones * np.log2(share) - (1 - ones) * np.log2(1 - share)
    assert (message.content.sum() - before) / (count * CHAINS) == pytest.approx(exact, rel=1e-6)
    assert message.bits - message.initial_bits == pytest.approx(count * CHAINS * exact, abs=CHAINS * 64)


def test_popping_from_random_bits_draws_from_the_distribution() -> None:
    message, hits, count = Message.random(400), 0, 50
    for _ in range(count):
        place = message.peek(400, 4)
        hit = place >= 11
        hits += int(hit.sum())
        message.drop(place, np.where(hit, words(11), words(0)), np.where(hit, words(5), words(11)), 4)
    assert abs(hits / (400 * count) - 5 / 16) < 4 * np.sqrt(5 / 16 * 11 / 16 / (400 * count))
    assert message.bits <= message.initial_bits  # what was popped was paid for by bits that were fetched


def test_chains_do_not_depend_on_which_are_computed_together() -> None:
    def used(message: Message) -> Message:
        parts = message.parts(2)
        for part in parts:
            for _ in range(9):
                place = part.peek(len(part.state), 20)
                part.drop(place, place, np.ones_like(place), 20)
        return Message.joined(parts)

    one, other = Message.random(CHAINS), used(Message.random(CHAINS))
    for _ in range(9):
        place = one.peek(CHAINS, 20)
        one.drop(place, place, np.ones_like(place), 20)
    assert (one.state == other.state).all()
    assert one.initial_bits == other.initial_bits > 64 * CHAINS
    assert all(np.array_equal(*pair) for pair in zip(one.stacks, other.stacks, strict=True))


def test_a_chain_from_a_file_that_runs_out_is_refused() -> None:
    message = Message(words(2**32), [np.zeros(0, np.uint32)])
    with pytest.raises(DataError, match="ends before"):
        message.drop(words(0), words(0), words(1), 8)
