"""Representations of images whose factors of variation are known, and the numbers of the protocol by which they are scored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.inference.chunks import chunks

__all__ = ["Array", "Codes", "DisentanglementSettings", "GroundTruth", "Represent"]

Represent = Callable[[Tensor], Tensor]
"""Images `(B, C, H, W)` on the CPU to their representations `(B, D)`."""
Array = NDArray[Any]
IMAGES_AT_ONCE = 2000


@runtime_checkable
class GroundTruth(Protocol):
    """Data whose images are functions of factors; a factor is given as the number of its value, from 0.

    >>> from vae_lightning.data import Shapes2DDataModule
    >>> isinstance(Shapes2DDataModule(), GroundTruth), Shapes2DDataModule().factor_names
    (True, ('shape', 'scale', 'rotation', 'x', 'y'))
    """

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Name of each of the F factors."""
        ...

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """How many values each factor has."""
        ...

    def images_of(self, factors: Tensor) -> Tensor:
        """Images `(N, C, H, W)` in [0, 1] of factors int64 `(N, F)`."""
        ...


@dataclass(frozen=True)
class DisentanglementSettings:
    """The numbers of the protocol.

    >>> DisentanglementSettings(num_train=100, num_test=50, batch_size=2, num_variance=10).num_images
    1310
    """

    num_train: int = 10_000
    """Images of MIG, training images of SAP and DCI, and training batches of the FactorVAE and beta-VAE scores."""
    num_test: int = 5000
    """Test images, or batches."""
    batch_size: int = 64
    """Images, or pairs of images, a batch."""
    num_variance: int = 10_000
    """Images from which the FactorVAE score knows the variance of each latent."""
    prune_below: float = 0.05
    """Latents of a smaller standard deviation have no vote in the FactorVAE score."""
    num_bins: int = 20
    """Bins of equal width that MIG sorts each latent into."""
    svm_penalty: float = 0.01
    """C of SAP's linear classifiers."""
    num_trees: int = 10
    """Trees of each of DCI's forests."""
    leaf_share: float = 0.01
    """Least share of the training images in a leaf: smaller ones hold noise, which all latents then seem to tell about."""
    num_resamples: int = 100
    """Bootstrap samples for the standard errors of MIG and SAP."""

    def __post_init__(self) -> None:
        for name in ("num_train", "num_test", "batch_size", "num_variance", "num_bins", "num_resamples"):
            require(getattr(self, name) >= 2, name, getattr(self, name), "at least 2")
        require(self.num_trees >= 1, "num_trees", self.num_trees, "at least 1")
        require(self.prune_below >= 0, "prune_below", self.prune_below, "at least 0")
        require(self.svm_penalty > 0, "svm_penalty", self.svm_penalty, "positive")
        require(0 < self.leaf_share <= 0.5, "leaf_share", self.leaf_share, "above 0 and at most 0.5")

    @property
    def num_images(self) -> int:
        """How many images a whole report asks for."""
        points = 3 * self.num_train + 2 * self.num_test + self.num_variance
        return points + 3 * self.batch_size * (self.num_train + self.num_test)


class Codes:
    """Representations by factors.

    Args:
        represent: images to representations.
        data: factors to images.
        expected: how many images will be asked for; if that many combinations of factors do not exist, each is encoded now.

    >>> class Bars:
    ...     factor_names, factor_sizes = ("left", "right"), (3, 2)
    ...
    ...     def images_of(self, factors):
    ...         return factors.float().view(-1, 1, 1, 2)
    >>> Codes(lambda images: images.flatten(1), Bars())(torch.tensor([[2, 1]]))
    tensor([[2., 1.]])
    """

    def __init__(self, represent: Represent, data: GroundTruth, expected: int = 0) -> None:
        self.represent, self.data, self.sizes = represent, data, data.factor_sizes
        self._table: Tensor | None = None
        combinations = torch.Size(self.sizes).numel()
        if combinations <= expected:
            self._table = self._encode(torch.stack(torch.unravel_index(torch.arange(combinations), self.sizes), -1))

    def __call__(self, factors: Tensor) -> Tensor:
        """Representations float32 `(*, D)`, on the CPU, of factors int64 `(*, F)`."""
        rows = factors.flatten(0, -2)
        if self._table is None:
            codes = self._encode(rows)
        else:
            places = torch.tensor([torch.Size(self.sizes[i + 1 :]).numel() for i in range(len(self.sizes))])
            codes = self._table[(rows * places).sum(-1)]
        return codes.view(*factors.shape[:-1], -1)

    def draw(self, count: int, source: torch.Generator) -> Tensor:
        """Factors int64 `(count, F)`, all values equally likely."""
        return torch.stack([torch.randint(size, (count,), generator=source) for size in self.sizes], -1)

    def draw_pairs(self, count: int, source: torch.Generator) -> tuple[Array, Array]:
        """Representations `(count, D)` and factors `(count, F)`."""
        factors = self.draw(count, source)
        return self(factors).double().numpy(), factors.numpy()

    @torch.no_grad()
    def _encode(self, factors: Tensor) -> Tensor:
        codes = torch.empty(0)
        start = 0
        for (rows,) in chunks(IMAGES_AT_ONCE, factors):
            part = self.represent(self.data.images_of(rows))
            if start == 0:
                require(part.shape[-1] >= 2, "latent_dim", part.shape[-1], "at least 2 for metrics of disentanglement")
                # one block and not many small ones, between which freed memory could not be used again
                codes = torch.empty(len(factors), part.shape[-1])
            codes[start : start + len(part)] = part
            start += len(part)
        return codes
