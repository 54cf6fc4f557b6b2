"""Compress images with a model and decompress them again, and what that comes to in bits and seconds."""

import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_lightning.abilities import classes_of
from vae_lightning.arguments import require
from vae_lightning.batches import are_binary
from vae_lightning.compression.bits_back import LATENT_BITS, BitsBack, require_codable
from vae_lightning.compression.coder import Message
from vae_lightning.compression.format import Header
from vae_lightning.compression.rivals import packed
from vae_lightning.compression.tables import Numbers
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.inference.chunks import chunks
from vae_lightning.inference.elbo import bound_at
from vae_lightning.noise import Source, key_of
from vae_lightning.types import LatentVariableModel

__all__ = ["CHAINS", "Compressed", "compress", "decompress", "promised_bits"]

CHAINS = 100
"""Chains, unless it is said otherwise: the more, the faster, and the more initial bits."""
AT_ONCE = 500
"""Images whose ELBO is computed at once."""


@dataclass(frozen=True)
class Compressed:
    """Images on chains, and what it took to get them there."""

    header: Header
    """What a file says of the images."""
    message: Message
    """The chains."""
    bits: Numbers
    """What each image has added to its chain, `(N,)`, to a fraction of a bit."""
    seconds: float
    """Time that coding took."""

    @property
    def bits_per_pixel(self) -> float:
        """What all images have added to their chains, over pixels and channels."""
        return float(self.bits.sum()) / self.header.pixels

    @property
    def initial_bits_per_pixel(self) -> float:
        """What the chains hold besides: random bits from before their first images, and the empty part of their last words."""
        return self.message.bits / self.header.pixels - self.bits_per_pixel


def compress(
    model: Any,
    x: Tensor,
    y: Tensor | None,
    weights: str,
    chains: int = CHAINS,
    latent_bits: int = LATENT_BITS,
    batch: int | None = None,
) -> Compressed:
    """Images on chains, which are the same whatever `batch` is.

    Args:
        model: in evaluation mode.
        x: images `(N, C, H, W)` of zeros and ones.
        y: labels `(N,)`, which a conditional model's chains hold too; ignored for others.
        weights: SHA-256 of the model's weights.
        chains: how many chains; at most N are used.
        batch: chains that are computed at once; None: all.

    Raises:
        ConfigurationError: the model cannot code, or the images are not binary.
    """
    require(chains >= 1, "chains", chains, "at least 1")
    require(4 <= latent_bits <= 16, "latent_bits", latent_bits, "from 4 to 16")
    require(batch is None or batch >= 1, "batch", batch, "at least 1")
    if not are_binary(x):
        raise ConfigurationError(
            "the images are not binary, as data.binarization=dynamic makes them: some pixels are neither 0 nor 1"
        )
    require_codable(model, x.shape[1:])
    x, y = x.cpu(), y.cpu() if y is not None and classes_of(model) else None
    chains, coder = min(chains, len(x)), BitsBack(model, x.shape[1:], latent_bits)
    started, parts, bits = time.perf_counter(), Message.random(chains).parts(batch or chains), np.zeros(len(x))
    for part, places in zip(parts, _places(len(x), parts), strict=True):
        bits[places.numpy()] = coder.push(part, x[places], None if y is None else y[places])
    message, seconds = Message.joined(parts), time.perf_counter() - started
    header = Header(weights, len(x), tuple(x.shape[1:]), chains, latent_bits, message.initial_bits, _digest(x, y))
    return Compressed(header, message, bits, seconds)


def decompress(model: Any, header: Header, message: Message, batch: int | None = None) -> tuple[Tensor, Tensor, float]:
    """Images `(N, C, H, W)`, labels `(N,)` (zeros of a model without), and the seconds that it took.

    Raises:
        ConfigurationError: the model cannot code.
        DataError: what comes out is not what was compressed.
    """
    require(batch is None or batch >= 1, "batch", batch, "at least 1")
    require_codable(model, header.image_shape)
    coder, count = BitsBack(model, header.image_shape, header.latent_bits), header.num_images
    x, y = torch.zeros(count, *header.image_shape), torch.zeros(count, dtype=torch.int64)
    started, parts = time.perf_counter(), message.parts(batch or header.chains)
    for part, places in zip(parts, _places(count, parts), strict=True):
        x[places], y[places] = coder.pop(part, len(places))
    seconds = time.perf_counter() - started
    if _digest(x, y if classes_of(model) else None) != header.images_sha256:
        raise DataError("what came out are not the images that were compressed: the arithmetic is not the same here")
    return x, y, seconds


def _places(count: int, parts: Iterable[Message]) -> list[Tensor]:
    """The numbers of the images that are on the chains of each part: image n is on chain n mod C."""
    sizes = [len(part.state) for part in parts]
    chain = torch.arange(count) % sum(sizes)
    ends = np.cumsum(sizes).tolist()
    return [((chain >= end - size) & (chain < end)).nonzero().flatten() for size, end in zip(sizes, ends, strict=True)]


def _digest(x: Tensor, y: Tensor | None) -> str:
    labels = b"" if y is None else y.numpy().astype("<i8").tobytes()
    return hashlib.sha256(packed(x) + labels).hexdigest()


@torch.no_grad()
def promised_bits(model: LatentVariableModel, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """What the ELBO promises for each image, `(N,)` bits: -ELBO / ln 2, and log2 of the classes for a label that is coded too.

    By one sample, with the noise of training's own evaluation of the test images, and in the model's own arithmetic.
    """
    key, first, bits = key_of("test", seed, device=x.device), 0, []
    label = math.log2(max(1, classes_of(model)))
    for images, labels in chunks(AT_ONCE, x, y):
        places = torch.arange(first, first := first + len(images), dtype=torch.int32, device=x.device)
        posterior = model.posterior(images, labels)
        z = from_noise(posterior, Source(key, places).normal("posterior", 1, model.latent_dim))
        bits.append(label - bound_at(model, posterior, z, images, labels).elbo.double() / math.log(2))
    return torch.cat(bits)
