r"""Random numbers that are a function of what they are for, and never of what was drawn before.

A number in training is counter-based: a function of a key (seed, purpose, epoch) and a counter (the image's place in its data set,
and the number within the image), by integer operations that give the same bits on every device ("Parallel random numbers: as easy
as 1, 2, 3", Salmon, Moraes, Dror and Shaw, 2011, https://doi.org/10.1145/2063384.2063405). So a run can be stopped and resumed
anywhere, and neither the batch nor the number of processes changes what an image is drawn with. All of it is tensor operations,
which compile into the graph of a step, and go through `torch.vmap`.

What is drawn once, on the CPU, comes from a `torch.Generator` by `generator(seed, "splits")`: orders, splits, evaluation sets.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Source", "bits15", "generator", "global_noise", "key_of", "standard_normal", "threefry"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
CENTRE = (
    *(1.50140941, 0.246640727, -0.00417768164, -0.00125372503, 0.00021858087),
    *(-4.39150654e-06, -3.5233877e-06, 3.43273939e-07, 2.81022636e-08),
)
TAIL = (
    *(2.83297682, 1.00167406, 0.00943887047, -0.0076224613, 0.00573950773),
    *(-0.00367342844, 0.00134934322, 0.000100950558, -0.000200214257),
)


def threefry(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Threefry-2x32 with 20 rounds: two random words of each key and counter, int32 all, broadcast against each other.

    >>> zero = torch.zeros((), dtype=torch.int32)
    >>> [f"{word.item() & 0xFFFFFFFF:08x}" for word in threefry((zero, zero), (zero, zero))]
    ['6b200159', '99ba4efe']
    """
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            first = first + second
            second = _rotated(second, distance) ^ first
        first = first + keys[(group + 1) % 3]
        second = second + keys[(group + 2) % 3] + (group + 1)
    return first, second


def _rotated(word: Tensor, distance: int) -> Tensor:
    return (word << distance) | ((word >> (32 - distance)) & ((1 << distance) - 1))


class Source(NamedTuple):
    """Where the random numbers of a batch come from: a key, and what tells the batch's images apart.

    The numbers of an image depend on neither the other images nor their order. Each `purpose` has numbers of its own.

    >>> batch = Source(key_of("train", 0, 3), places=torch.tensor([5, 7], dtype=torch.int32))
    >>> alone = Source(key_of("train", 0, 3), places=torch.tensor([7], dtype=torch.int32))
    >>> torch.equal(batch.normal("posterior", 4, 2)[:, 1:], alone.normal("posterior", 4, 2))
    True
    """

    key: Tensor
    """Two words, int32 `(2,)`, as of `key_of`."""
    places: Tensor
    """A number for each image, int32 `(B,)`: its place in the data set."""

    @classmethod
    def of(cls, images: Tensor, *key: int | str) -> "Source":
        """The source of a batch `(B, ...)` whose images are told apart by their places in the batch alone.

        >>> Source.of(torch.zeros(3, 1, 28, 28), "example").uniform("dropout", (4,)).shape
        torch.Size([3, 4])
        """
        places = torch.arange(len(images), dtype=torch.int32, device=images.device)
        return cls(key_of(*key, device=images.device), places)

    def normal(self, purpose: str, samples: int, features: int, first: int | Tensor = 0) -> Tensor:
        """Standard normal `(K, B, D)`, whose number (k, d) of an image depends on neither K nor D; k counts from `first`, int32."""
        each = (torch.arange(samples, dtype=torch.int32, device=self.places.device) + first).view(-1, 1, 1)
        return _normal(self._words(purpose, features, each)[0])

    def uniform(self, purpose: str, features: Sequence[int], repeats: int = 1) -> Tensor:
        """Uniform on [0, 1) with 24 bits, `(repeats * B, *features)`: all images, `repeats` times over."""
        count = math.prod(features)
        copies = torch.arange(repeats, dtype=torch.int32, device=self.places.device).view(-1, 1, 1)
        words = torch.cat(self._words(purpose, (count + 1) // 2, copies), -1)[..., :count]
        return ((words >> 8) & 0xFFFFFF).to(torch.float32).mul(2.0**-24).reshape(-1, *features)

    def integers16(self, purpose: str, count: int) -> Tensor:
        """Integers from 0 to 65,535, all equally likely, int32 `(B, count)`."""
        words = self._words(purpose, (count + 3) // 4)
        halves = [half for word in words for half in (word & 0xFFFF, (word >> 16) & 0xFFFF)]
        return torch.cat(halves, -1)[..., :count]

    def _words(self, purpose: str, count: int, repeat: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Two words for each of `count` counters of an image, `(B, count)`; with `repeat` `(R, 1, 1)`, `(R, B, count)`."""
        first, second = (word ^ constant for word, constant in zip(self.key.unbind(-1), _hashed(purpose), strict=True))
        counter = torch.arange(count, dtype=torch.int32, device=self.places.device)
        return threefry((first, second if repeat is None else second ^ repeat), (self.places.unsqueeze(-1), counter))


def key_of(*parts: int | str, device: torch.device | str = "cpu") -> Tensor:
    """The key int32 `(2,)` of a `Source`, fixed by `parts`, of which each counts, as does their order.

    >>> key_of("train", 0, 3).dtype, torch.equal(key_of("train", 0, 3), key_of("train", 0, 3))
    (torch.int32, True)
    """
    return torch.tensor(_hashed(*parts), dtype=torch.int32, device=device)


def _hashed(*parts: int | str) -> tuple[int, int]:
    """Two words of 32 bits with a sign."""
    digest = _digest(parts)
    first, second = (int.from_bytes(digest[start : start + 4], "little", signed=True) for start in (0, 4))
    return first, second


def _normal(words: Tensor) -> Tensor:
    """Standard normal numbers, within 6.4 of 0, by the inverse of the distribution function, of random words.

    From "Approximating the erfinv function", Giles, 2010, https://people.maths.ox.ac.uk/gilesm/files/gems_erfinv.pdf, here of the
    tail's probability p itself, which is never 0, and has in float32 all its digits in the tail.
    """
    p = ((words & 0x7FFFFFFF).to(torch.float32) + 0.5) * 2.0**-32
    w = -(4 * p * (1 - p)).log()
    ratio = torch.where(w < 5, _polynomial(CENTRE, w - 2.5), _polynomial(TAIL, w.sqrt() - 3))
    z = math.sqrt(2) * (1 - 2 * p) * ratio
    return torch.where(words < 0, -z, z)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """The sum of `coefficients[n] * x ** n`."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


# ---- what is drawn once, on the CPU


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` whose stream is fixed by `key` alone.

    >>> a, b = generator(1, "val", 0), generator(1, "val", 0)
    >>> bool(torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b)))
    True
    """
    return torch.Generator(device).manual_seed(int.from_bytes(_digest(key), "little") >> 1)


def _digest(key: tuple[int | str, ...]) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=8).digest()


def bits15(shape: torch.Size | tuple[int, ...], source: torch.Generator) -> torch.Tensor:
    """Uniform integers in [0, 32768) as int16 of `shape`: four from one 64-bit draw, five times as fast as `torch.rand`."""
    count = torch.Size(shape).numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=source.device)
    # random_ leaves the sign bit of int64 unset, so only 15 of each 16 bits are used
    return words.random_(generator=source).bitwise_and_(0x7FFF_7FFF_7FFF_7FFF).view(torch.int16)[:count].view(shape)


def standard_normal(shape: torch.Size | tuple[int, ...], like: torch.Tensor, *key: int | str) -> torch.Tensor:
    """Standard normal of `shape`, fixed by `key` alone, with the device and precision of `like`.

    The numbers are drawn on the CPU and then moved, so that they do not depend on the device. This is for figures and evaluations;
    training draws on the device.
    """
    return torch.randn(shape, generator=generator(*key), dtype=torch.float32).to(like)


@contextmanager
def global_noise(seed: int, device: torch.device) -> Iterator[None]:
    """A block in which torch's global generators start from `seed`; afterwards they go on as if the block had not been.

    `torch.distributions` draws from the global generators alone, and so does any likelihood's `sample`.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
