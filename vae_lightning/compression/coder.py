r"""A stack of symbols as one large number a chain: asymmetric numeral systems, many chains at once.

A symbol that has $f$ of $2^r$ places, the first of them $c$, is pushed on a number $s$ by
$s' = \lfloor s / f \rfloor 2^r + c + (s \bmod f)$, which makes it $2^r / f$ times as large, $-\log_2 (f / 2^r)$ bits; and popped
by the inverse, as the place $s' \bmod 2^r$ says which symbol it was. What was pushed last is popped first. A number is kept between
$2^{32}$ and $2^{64}$ by moving words of 32 bits to and from a stack below it.

Popping with a distribution of one's choice from a stack that holds random bits draws a symbol from that distribution, and pushing
the symbol gives the bits back, which is what bits-back coding lives on.

- "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of arithmetic coding", Duda,
  2013, https://arxiv.org/abs/1311.2540
- many chains at once: "HiLLoC: lossless image compression with hierarchical latent variable models", Townsend, Bird, Kunze and
  Barber, 2020, https://arxiv.org/abs/1912.09953
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vae_lightning.errors import DataError

__all__ = ["Message", "Words"]

Words = NDArray[np.uint64]
"""Whole numbers, `(B,)`, one a chain."""
WORD = np.uint64(32)
LOW = np.uint64(2**32 - 1)
LEAST = np.uint64(2**32)
"""The least number of a chain."""


class Message:
    """The stacks of `chains` chains. Every method works on the first B chains, where it is given arrays `(B,)`.

    Args:
        state: the number of each chain, `(chains,)`, from 2^32 on.
        stacks: the words below each number, the last one on top.
        sources: where a chain's words come from if it runs out of them; empty: that is an error.

    >>> message = Message.random(chains=2)
    >>> message.push(np.array([0, 1], np.uint64), np.array([1, 3], np.uint64), bits=2)  # a symbol of 1 and one of 3 quarters
    >>> [bool(place >= 1) for place in message.peek(count=2, bits=2)]
    [False, True]
    """

    def __init__(self, state: Words, stacks: Sequence[NDArray[np.uint32]], sources: Sequence[np.random.Generator] = ()) -> None:
        self.state = state.astype(np.uint64)
        self.top = np.array([len(stack) for stack in stacks], np.int64)
        self.fetched = np.zeros(len(stacks), np.int64)
        """How many words each chain has taken from its source."""
        self.sources = sources
        self._stacks = np.zeros((len(stacks), int(self.top.max(initial=0)) + 1), np.uint32)
        for row, stack in zip(self._stacks, stacks, strict=True):
            row[: len(stack)] = stack

    @classmethod
    def random(cls, chains: int, seed: int = 0) -> "Message":
        """Chains of nothing but random bits, of which each has as many as are asked for."""
        sources = [np.random.default_rng([seed, chain]) for chain in range(chains)]
        state = np.array([source.integers(2**32, 2**64, dtype=np.uint64) for source in sources])
        return cls(state, [np.zeros(0, np.uint32)] * chains, sources)

    def parts(self, size: int) -> list["Message"]:
        """Messages of at most `size` chains each, which are those of this one, one after the other."""
        return [self._part(slice(first, first + size)) for first in range(0, len(self.state), size)]

    def _part(self, chains: slice) -> "Message":
        part = Message(self.state[chains], self.stacks[chains], self.sources[chains])
        part.fetched = self.fetched[chains].copy()
        return part

    @classmethod
    def joined(cls, parts: Sequence["Message"]) -> "Message":
        """The chains of all `parts`, one after the other."""
        stacks = [stack for part in parts for stack in part.stacks]
        message = cls(np.concatenate([part.state for part in parts]), stacks, [s for part in parts for s in part.sources])
        message.fetched = np.concatenate([part.fetched for part in parts])
        return message

    @property
    def bits(self) -> int:
        """The length of all chains."""
        return 64 * len(self.state) + 32 * int(self.top.sum())

    @property
    def initial_bits(self) -> int:
        """How many bits the chains have had before their first symbols, or have fetched since."""
        return 64 * len(self.state) + 32 * int(self.fetched.sum())

    @property
    def content(self) -> NDArray[np.float64]:
        """Bits on each chain, `(chains,)`, to a fraction of a bit, without what it has fetched."""
        content: NDArray[np.float64] = np.log2(self.state.astype(np.float64)) + 32.0 * (self.top - self.fetched)
        return content

    @property
    def stacks(self) -> list[NDArray[np.uint32]]:
        """The words below each number, the last one on top."""
        return [row[:top] for row, top in zip(self._stacks, self.top, strict=True)]

    def reserve(self, symbols: int) -> None:
        """Make room for `symbols` more pushes on each chain; `push` itself does not look whether there is room."""
        room, needed = self._stacks.shape[1], int(self.top.max(initial=0)) + symbols
        if needed > room:
            self._stacks = np.pad(self._stacks, ((0, 0), (0, max(needed, 2 * room) - room)))

    def push(self, start: Words, size: Words, bits: int) -> None:
        """Push a symbol on each chain.

        Args:
            start: the first of its places, `(B,)`.
            size: how many of the `2 ** bits` places it has, `(B,)`, at least 1.
            bits: from 1 to 32.
        """
        count = len(size)
        state = self.state[:count]
        full = (state >> np.uint64(64 - bits)) >= size
        if full.any():
            rows = full.nonzero()[0]
            self._stacks[rows, self.top[rows]] = state[rows] & LOW
            self.top[rows] += 1
            state[rows] >>= WORD
        quotient, rest = np.divmod(state, size)
        state[:] = (quotient << np.uint64(bits)) + rest + start

    def peek(self, count: int, bits: int) -> Words:
        """The place, `(count,)`, from 0 to `2 ** bits - 1`, that says which symbol is on top of each of the first chains."""
        place: Words = self.state[:count] & np.uint64(2**bits - 1)
        return place

    def drop(self, place: Words, start: Words, size: Words, bits: int) -> None:
        """Take the symbol from `start` on with `size` places, in which `place` lies, from the top of each chain."""
        count = len(place)
        state = self.state[:count]
        state[:] = size * (state >> np.uint64(bits)) + (place - start)
        low = state < LEAST
        if low.any():
            rows = low.nonzero()[0]
            self._supply(rows[self.top[rows] == 0])
            self.top[rows] -= 1
            state[rows] = (state[rows] << WORD) | self._stacks[rows, self.top[rows]]

    def pop(self, count: int, bits: int, symbol_at: Callable[[Words], tuple[Words, Words, Words]]) -> Words:
        """Pop a symbol, `(count,)`, from each of the first chains; `symbol_at(place)` gives symbol, start and size."""
        place = self.peek(count, bits)
        symbol, start, size = symbol_at(place)
        self.drop(place, start, size, bits)
        return symbol

    def _supply(self, empty: NDArray[np.intp]) -> None:
        """Give each of the chains `empty` one more word."""
        if not len(empty):
            return
        if not self.sources:
            raise DataError("a chain ends before its last image")
        self._stacks[empty, 0] = [self.sources[chain].integers(2**32, dtype=np.uint32) for chain in empty]
        self.top[empty] = 1
        self.fetched[empty] += 1
