"""A model of permuted pixels as one of images: it takes and gives images whose pixels are in their places.

The permutation is around the model and not in it, so whatever is its own, a prior made of the model's posteriors of learned
pseudo-inputs too, stays as it was trained.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vae_lightning.distributions.factors import factors
from vae_lightning.types import LatentVariableModel

__all__ = ["Reordered", "in_place"]

ONE = torch.Size()
Reorder = Callable[[Tensor], Tensor]
"""Images `(*, C, H, W)` to images of the same shape."""


def in_place(model: Any, permute: Reorder, unpermute: Reorder) -> Any:
    """`model`, a latent-variable model, a classifier, or both, for images with their pixels in place.

    Args:
        permute: images as the model was trained on, from images with their pixels in place.
        unpermute: the inverse.
    """
    latent, classifies = isinstance(model, LatentVariableModel), hasattr(model, "predict")
    kind = (_Both if classifies else _Latent) if latent else _Classifier
    return kind(model, permute, unpermute)


class Reordered(Distribution):
    """A distribution over images as one over the images that `outwards` makes of them.

    >>> inner = torch.distributions.Normal(torch.tensor([1.0, 2.0]), 1.0)
    >>> Reordered(inner, lambda x: x.flip(-1), lambda x: x.flip(-1)).mean
    tensor([2., 1.])

    Args:
        inner: over images `(C, H, W)`: of them, or a pixel by itself with batch shape `(*, C, H, W)`.
        inwards: images as `inner` knows them.
        outwards: the inverse.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  (torch's own name and kind)

    def __init__(self, inner: Distribution, inwards: Reorder, outwards: Reorder) -> None:
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)
        self.inner, self.inwards, self.outwards = inner, inwards, outwards
        self.has_rsample = inner.has_rsample

    @property
    def support(self) -> Any:
        return self.inner.support

    @property
    def mean(self) -> Tensor:
        return self.outwards(self.inner.mean)

    @property
    def variance(self) -> Tensor:
        return self.outwards(self.inner.variance)

    def sample(self, sample_shape: Any = ONE) -> Tensor:
        return self.outwards(self.inner.sample(sample_shape))

    def rsample(self, sample_shape: Any = ONE) -> Tensor:
        return self.outwards(self.inner.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Tensor = self.inner.log_prob(self.inwards(value))
        return log_prob if self.event_shape else self.outwards(log_prob)


class _Adapter:
    def __init__(self, model: Any, permute: Reorder, unpermute: Reorder) -> None:
        self.model, self.permute, self.unpermute = model, permute, unpermute
        self.num_classes = getattr(model, "num_classes", 0)


class _Latent(_Adapter):
    """A `types.LatentVariableModel`."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.latent_dim: int = self.model.latent_dim

    def prior(self, y: Tensor | None = None) -> Distribution:
        prior: Distribution = self.model.prior(y)
        return prior

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        posterior: Distribution = self.model.posterior(self.permute(x), y)
        return posterior

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        likelihood: Distribution = self.model.likelihood(z, y)
        pixels = factors(likelihood)
        if pixels is None:
            return Reordered(likelihood, self.permute, self.unpermute)
        # as a distribution of each pixel, of which unseen ones can be left out
        reordered = Reordered(pixels, self.permute, self.unpermute)
        return Independent(reordered, len(likelihood.event_shape), validate_args=False)


class _Classifier(_Adapter):
    """What a classifier has: class probabilities of images, and what its last layer sees of them."""

    def predict(self, x: Tensor) -> Tensor:
        probabilities: Tensor = self.model.predict(self.permute(x))
        return probabilities

    def features(self, x: Tensor) -> Tensor:
        features: Tensor = self.model.features(self.permute(x))
        return features


class _Both(_Latent, _Classifier):
    pass
