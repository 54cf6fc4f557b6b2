r"""Bits-back coding of binary images with a latent-variable model, on many chains at once.

To push an image x on a chain, z is popped with the posterior $q(z \mid x)$, which takes $-\log_2 q$ bits away; then x is pushed
with $p(x \mid z)$ and z with $p(z)$. So the chain grows by $\log_2 q(z \mid x) - \log_2 p(x \mid z) - \log_2 p(z)$ bits, in the
mean the negative ELBO in bits. To pop the image, all of that is done backwards: z is popped, then x, and z is pushed with
$q(z \mid x)$, which gives the bits back. A chain must have bits before its first image; those are its initial bits.

"Practical lossless compression with latent variables using bits back coding", Townsend, Bird and Barber, 2019,
https://arxiv.org/abs/1901.04866.

Image n is on chain n mod C, as its (n div C)-th; a chain pushes its images from the last to the first, so that they are popped in
order. What is done with a chain depends on that chain alone, and all probabilities come from `compression.fixed`, so any number of
chains can be computed together, by any machine. A conditional model's label is pushed after z, all labels being equally likely.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from vae_lightning.abilities import classes_of
from vae_lightning.compression import tables
from vae_lightning.compression.coder import Message, Words
from vae_lightning.compression.fixed import FixedArithmetic, in_double
from vae_lightning.compression.latents import PRECISION, GaussianMasses, centres
from vae_lightning.compression.tables import Numbers
from vae_lightning.distributions.factors import factors
from vae_lightning.errors import ConfigurationError, kind_of
from vae_lightning.inference.pixels import Reordered
from vae_lightning.types import LatentVariableModel

__all__ = ["LATENT_BITS", "BitsBack", "require_codable"]

LATENT_BITS = 12
"""log2 of the number of buckets of a latent dimension, unless it is said otherwise."""
PIXEL_BITS = 24
"""Bits of the masses of a pixel's two values."""
LABEL_BITS = 24
"""Bits of the masses of labels."""
Bits = NDArray[np.bool_]
"""Images as bits, `(B, pixels)`."""
Labels = NDArray[np.int64]
"""Labels, `(B,)`."""


class BitsBack:
    """Images of one shape to chains of words and back, by a model that is `codable`.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, image_shape=(1, 4, 4)).eval()
    >>> images, message = torch.rand(5, 1, 4, 4).round(), Message.random(chains=2)
    >>> coder = BitsBack(model, (1, 4, 4))
    >>> coder.push(message, images).shape
    (5,)
    >>> torch.equal(coder.pop(message, 5)[0], images)
    True

    Args:
        model: in evaluation mode, one that `require_codable` lets pass.
        image_shape: `(C, H, W)`.
        latent_bits: log2 of the number of buckets of a latent dimension.
    """

    def __init__(self, model: LatentVariableModel, image_shape: Sequence[int], latent_bits: int = LATENT_BITS) -> None:
        self.model, self.image_shape, self.latent_bits = in_double(model), tuple(image_shape), latent_bits
        self.num_classes = classes_of(model)
        self.pixels = math.prod(self.image_shape)

    def push(self, message: Message, x: Tensor, y: Tensor | None = None) -> Numbers:
        """Push images `(N, C, H, W)` of zeros and ones, and the labels `(N,)` of a conditional model.

        Returns:
            How many bits each image has added to its chain, `(N,)`.
        """
        images, labels = x.flatten(1).numpy().astype(np.bool_), np.zeros(len(x), np.int64) if y is None else y.numpy()
        bits = np.zeros(len(x))
        with torch.no_grad(), FixedArithmetic():
            for step in reversed(_steps(len(images), len(message.state))):
                before = message.content
                self._push(message, images[step], labels[step])
                bits[step] = (message.content - before)[: step.stop - step.start]
        return bits

    def pop(self, message: Message, count: int) -> tuple[Tensor, Tensor]:
        """Pop images `(count, C, H, W)`, float32, and labels `(count,)`, zeros of a model without."""
        images, labels = np.zeros((count, self.pixels), np.bool_), np.zeros(count, np.int64)
        with torch.no_grad(), FixedArithmetic():
            for step in _steps(count, len(message.state)):
                images[step], labels[step] = self._pop(message, step.stop - step.start)
        return torch.from_numpy(images).float().unflatten(1, self.image_shape), torch.from_numpy(labels)

    # ---- one image a chain

    def _push(self, message: Message, x: Bits, y: Labels) -> None:
        message.reserve(self.pixels + self.model.latent_dim + 1)
        dimensions = self._posterior(x, y)
        buckets = [message.pop(len(x), PRECISION, masses.at) for masses in dimensions]
        ones = self._ones(buckets, y)
        white = np.uint64(2**PIXEL_BITS) - ones
        start, size = np.where(x.T, white, np.uint64(0)), np.where(x.T, ones, white)
        for pixel in reversed(range(self.pixels)):
            message.push(start[pixel], size[pixel], PIXEL_BITS)
        one = np.ones(len(x), np.uint64)
        for bucket in reversed(buckets):
            message.push(bucket, one, self.latent_bits)
        if self.num_classes:
            share = np.uint64(2**LABEL_BITS // self.num_classes)
            message.push(y.astype(np.uint64) * share, one * share, LABEL_BITS)

    def _pop(self, message: Message, count: int) -> tuple[Bits, Labels]:
        message.reserve(self.model.latent_dim)
        y, one = np.zeros(count, np.int64), np.ones(count, np.uint64)
        if self.num_classes:
            share = np.uint64(2**LABEL_BITS // self.num_classes)
            y = message.pop(count, LABEL_BITS, lambda place: (label := place // share, label * share, one * share)).astype(np.int64)
        buckets = [message.pop(count, self.latent_bits, lambda place: (place, place, one)) for _ in range(self.model.latent_dim)]
        ones = self._ones(buckets, y)
        white = np.uint64(2**PIXEL_BITS) - ones
        x = np.zeros((self.pixels, count), np.bool_)
        for pixel in range(self.pixels):
            place = message.peek(count, PIXEL_BITS)
            x[pixel] = is_one = place >= white[pixel]
            size = np.where(is_one, ones[pixel], white[pixel])
            message.drop(place, np.where(is_one, white[pixel], np.uint64(0)), size, PIXEL_BITS)
        for masses, bucket in reversed(list(zip(self._posterior(x.T, y), buckets, strict=True))):
            message.push(*masses.of(bucket), PRECISION)
        return x.T, y

    # ---- what the model says, in fixed arithmetic

    def _posterior(self, x: Bits, y: Labels) -> list[GaussianMasses]:
        """The masses of buckets in each of D dimensions."""
        images = torch.from_numpy(x.reshape(-1, *self.image_shape).astype(np.float64))
        normal: Any = factors(self.model.posterior(images, self._label(y)))
        loc, scale = (values.double().numpy() for values in (normal.loc, normal.scale))
        if not (np.isfinite(loc).all() and (scale > 0).all() and np.isfinite(scale).all()):
            raise ConfigurationError("the posterior of an image is not finite, so the image cannot be compressed")
        return [GaussianMasses(loc[:, d], scale[:, d], self.latent_bits) for d in range(self.model.latent_dim)]

    def _ones(self, buckets: list[Words], y: Labels) -> Words:
        """The places of the value 1, `(pixels, B)`, from 1 to all but one."""
        z = torch.from_numpy(centres(self.latent_bits)[np.stack(buckets, axis=1)])
        logits = _logits(self.model.likelihood(z, self._label(y))).double().flatten(1).numpy().T
        if not np.isfinite(logits).all():
            raise ConfigurationError("the likelihood of an image is not finite, so the image cannot be compressed")
        share: Numbers = tables.interpolated(tables.sigmoid(), logits, -tables.REACH)
        places: Words = np.clip(np.floor(share * 2**PIXEL_BITS), 1, 2**PIXEL_BITS - 1).astype(np.uint64)
        return places

    def _label(self, y: Labels) -> Tensor | None:
        return torch.from_numpy(y) if self.num_classes else None


def _steps(count: int, chains: int) -> list[slice]:
    """The images that go on all chains at once: a chain's first, its second, ..."""
    return [slice(first, min(first + chains, count)) for first in range(0, count, chains)]


def _logits(likelihood: Any) -> Tensor:
    pixels: Any = factors(likelihood)
    return pixels.outwards(_logits(pixels.inner)) if isinstance(pixels, Reordered) else pixels.logits


def require_codable(model: Any, image_shape: Sequence[int]) -> None:
    """Refuse a model whose images cannot be coded: the message names what the model would need.

    Raises:
        ConfigurationError: its likelihood is no Bernoulli, its posterior no diagonal Gaussian, its prior not N(0, I), or its net
            has operations without fixed arithmetic.
    """
    if not isinstance(model, LatentVariableModel):
        raise ConfigurationError(f"{kind_of(model)} has no latent, so there is nothing to code images with")
    model, y = in_double(model), torch.zeros(1, dtype=torch.int64) if classes_of(model) else None
    x, z = torch.zeros(1, *image_shape, dtype=torch.float64), torch.zeros(1, model.latent_dim, dtype=torch.float64)
    with torch.no_grad():
        prior = _required(model.prior(y), Normal, "prior", "N(0, I): model.prior.name=standard")
        _required(model.posterior(x, y), Normal, "posterior", "a diagonal Gaussian: model.posterior.name=diagonal")
        _required(model.likelihood(z, y), Bernoulli, "likelihood", "a Bernoulli: model.likelihood.name=bernoulli")
        if not (bool((prior.loc == 0).all()) and bool((prior.scale == 1).all())):
            raise ConfigurationError("the prior is another Gaussian, and bits-back coding wants N(0, I): model.prior.name=standard")
        with FixedArithmetic():  # which refuses an operation that it does not know
            model.posterior(x, y)
            _logits(model.likelihood(z, y))


def _required(distribution: Any, kind: type, what: str, wanted: str) -> Any:
    """The distribution of each number by itself, if it is of the right kind."""
    each: Any = factors(distribution)
    if isinstance(each, Reordered):
        each = factors(each.inner)
    if not isinstance(each, kind):
        raise ConfigurationError(f"the {what} is {kind_of(each or distribution)}, and bits-back coding wants {wanted}")
    return each
