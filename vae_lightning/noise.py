"""Random numbers that are a function of what they are for, and never of what was drawn before.

Every draw in training names its purpose: `generator(seed, "posterior", epoch, batch, rank)`. So a run can be resumed in
the middle of an epoch, and each rank of a distributed run draws its own numbers, without any generator state to save.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["bits15", "generator", "global_noise", "standard_normal"]


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` whose stream is fixed by `key` alone.

    >>> a, b = generator(1, "val", 0), generator(1, "val", 0)
    >>> bool(torch.equal(torch.rand(3, generator=a), torch.rand(3, generator=b)))
    True
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)


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
