"""What a part of an evaluation is given: a model, which is known by the protocol only, images, and settings."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.batches import are_binary
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.distances import FEWEST
from vae_lightning.evaluation.factor_codes import GroundTruth
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.evaluation.registry import configured
from vae_lightning.inference.svi import DEFAULT, SVISettings
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["ImageCounts", "Judge", "Material", "PartSettings"]

T = TypeVar("T")
LOOKED_AT = 16
"""Images whose pixels are looked at."""
AT_ONCE = 500
"""Images whose posteriors are computed at once."""


@runtime_checkable
class Judge(Protocol):
    """A classifier in evaluation mode, on the device of the images.

    >>> from vae_lightning.models import Classifier
    >>> isinstance(Classifier(), Judge)
    True
    """

    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities `(B, num_classes)` of images `(B, C, H, W)`."""
        ...

    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations `(B, F)` of images `(B, C, H, W)`."""
        ...


@configured("images")
@dataclass(frozen=True)
class ImageCounts:
    """How many images a part takes, at equal distances; see `conf/evaluation/default.yaml`.

    >>> ImageCounts(probes=1)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: probes=1: must be at least 2, or null for all
    """

    estimators: int | None = 100
    """Images for the estimators of log p(x) and the inference gaps; as many are simulated for bidirectional Monte Carlo."""
    information: int | None = None
    """Images for active units, KL per dimension, and mutual information; None: all."""
    structured: int | None = 100
    """Images whose unseen quadrants are predicted."""
    samples: int | None = 10_000
    """Samples that are drawn, and as many real images beside them."""
    probes: int | None = 10_000
    """Training images that probes learn from."""
    verification: int | None = 20
    """Images that the checks of a likelihood take."""

    def __post_init__(self) -> None:
        for name, count in dataclasses.asdict(self).items():
            least = FEWEST if name == "samples" else 2
            require(count is None or count >= least, name, count, f"at least {least}, or null for all")


@dataclass(frozen=True)
class PartSettings:
    """Settings of the parts of an evaluation.

    >>> PartSettings(of_parts=(ImageCounts(samples=50),)).of(ImageCounts).samples
    50
    """

    num_samples: int = 1000
    """K of importance sampling."""
    svi: SVISettings = DEFAULT
    """Settings of the fit of a posterior to an image."""
    seed: int = 0
    """Seed of all noise."""
    of_parts: tuple[object, ...] = ()
    """Settings of single parts: instances of the dataclasses in `evaluation.registry.SETTINGS`."""

    def of(self, kind: type[T]) -> T:
        """The settings of class `kind` in `of_parts`, or else the defaults of `kind`."""
        return next((settings for settings in self.of_parts if isinstance(settings, kind)), None) or kind()


@dataclass(frozen=True)
class Material:
    """What a part of an evaluation measures: a model, known by the protocol only, and its images.

    >>> import torch
    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    >>> images = lambda split, count: (torch.zeros(count or 20, 1, 28, 28), torch.zeros(count or 20, dtype=torch.int64))
    >>> material = Material(model, images, {}, "none", num_classes=0)
    >>> material.represent(material.images("test", 3)[0]).shape
    torch.Size([3, 2])
    """

    model: LatentVariableModel
    """A model in evaluation mode."""
    images: Callable[[str, int | None], tuple[Tensor, Tensor]]
    """Gives, for `(split, count)`, images `(N, *event)` in [0, 1] on the model's device and labels `(N,)`; count None: all."""
    bound: Mapping[str, Estimate]
    """The estimates of the test images that every evaluation has, by name: `elbo`, `log_likelihood`, `kl`, `nll`, ..."""
    binarization: str
    """The binarization of the images."""
    num_classes: int
    """Classes of a conditional model; 0 for others."""
    settings: PartSettings = field(default_factory=PartSettings)
    """Settings of the parts."""
    budget: Budget = field(default_factory=Budget)
    """The limit on what is computed at once."""
    judge: Judge | None = None
    """The classifier that judges samples."""
    judge_name: str = ""
    """The judge's run, in words."""
    judge_binarization: str = ""
    """The binarization of the images that the judge was trained on."""
    factors: GroundTruth | None = None
    """The data set's factors of variation, if it has known ones."""
    has_labels: bool = True
    """Whether the images have labels; otherwise all labels are 0."""
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def counts(self) -> ImageCounts:
        """How many images each part takes."""
        return self.settings.of(ImageCounts)

    def labelled(self, split: str, count: int | None) -> tuple[Tensor, Tensor | None]:
        """Images of a split as `images` gives them, and the labels that a conditional model is given; None for others."""
        x, y = self.images(split, count)
        return x, (y if self.num_classes else None)

    def has_grey_levels(self) -> bool:
        """Whether the first test images have other pixels than 0 and 1."""
        return not are_binary(self.images("test", LOOKED_AT)[0])

    @torch.no_grad()
    def represent(self, x: Tensor) -> Tensor:
        """Means of q(z | x), `(N, D)`, of images `(N, *event)` on any device; for models without labels."""
        device = self.model.prior(None).mean.device
        return self.budget.over(lambda images: self.model.posterior(images.to(device), None).mean, x, most=AT_ONCE)

    def shared(self, compute: Callable[["Material"], T]) -> T:
        """The value of `compute(self)`, which is computed once, however many parts ask for it."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return cast(T, self._shared[compute])

    def estimate(self, values: Tensor, estimator: str, *, num_samples: int = 0, **rest: Any) -> Estimate:
        """The mean of `values` `(N,)`, one for each image, with its standard error.

        Args:
            estimator: how the values were estimated, in words.
            num_samples: K, latent samples an image.
            rest: further fields of `types.Estimate`.
        """
        return estimate(values, num_samples=num_samples, binarization=self.binarization, estimator=estimator, **rest)
