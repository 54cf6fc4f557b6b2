"""`Subject`: what a figure is drawn of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vae_lightning.abilities import Labels
from vae_lightning.figures.recording import Recording, read_recording
from vae_lightning.inference.chunks import over_chunks
from vae_lightning.inference.svi import DEFAULT, SVISettings
from vae_lightning.types import Estimate

__all__ = ["Projection", "Subject"]

Projection = Literal["pca", "umap"]


@dataclass(frozen=True)
class Subject:
    """What there is to draw: a trained model, test images, and what was written down of the training.

    >>> subject = Subject(model=None, x=torch.zeros(4, 3, 8, 8), y=torch.tensor([0, 1, 1, 0]))
    >>> subject.first_images(), subject.mask.shape
    ([0, 1], torch.Size([1, 8, 8]))
    """

    model: Any
    """A latent-variable model, or a classifier, which has `predict`; in evaluation mode."""
    x: Tensor
    """Test images `(N, C, H, W)` in [0, 1], on the model's device."""
    y: Tensor
    """The images' labels `(N,)`, int64; zeros if there are none."""
    labels: Labels = field(default_factory=Labels)
    """The classes of the images, and what they are called."""
    num_classes: int = 0
    """Classes of the labels that the model uses; 0: it ignores labels."""
    rates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Rate and distortion in nats, by split; empty for a classifier."""
    convergence: Mapping[int, Estimate] = field(default_factory=dict)
    """The nll of the test images by K, the number of importance samples."""
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    """The nll of some test images, the same for all, by several estimators; empty if it was not measured."""
    history: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Steps and values of every metric logged in training; empty if nothing was."""
    step: int = 0
    """The optimizer step that the weights are of."""
    recording: Path = Path("animation")
    """Folder of the frames of the training."""
    observed: Tensor | None = None
    """Bool `(1, H, W)`, True where an image that is to be completed is seen; None: its upper half."""
    svi: SVISettings = DEFAULT
    """How q(z | seen part) is fitted."""
    extent: float = 4.0
    """Half the side of the square of latents that is decoded."""
    projection: Projection = "pca"
    """How latents of more than two dimensions are brought to a plane."""
    label: int = 0
    """The class where one has to be chosen."""
    seed: int = 0
    """Fixes all that is drawn at random."""

    @property
    def mask(self) -> Tensor:
        """Bool `(1, H, W)`, True where an image that is to be completed is seen."""
        if self.observed is not None:
            return self.observed
        height, width = self.x.shape[-2:]
        return (torch.arange(height) < height // 2).view(1, -1, 1).expand(1, height, width)

    @cached_property
    def probabilities(self) -> Tensor:
        """What a classifier gives the test images, `(N, C)`."""
        return over_chunks(self.model.predict, self.x, size=1000)

    @cached_property
    def recorded(self) -> Recording:
        """The frames of the training."""
        return read_recording(self.recording)

    def first_images(self) -> list[int]:
        """Places of the first test image of each class, at most twenty; of images without labels, the first ten."""
        return first_images(self.y, self.labels)


MOST_CLASSES = 20
"""Classes of which a figure shows one row or column each."""


def first_images(y: Tensor, labels: Labels) -> list[int]:
    """Places of the first image of each class among labels `(N,)`, at most twenty; without labels, the first ten images."""
    if not labels.exist:
        return list(range(min(10, len(y))))
    return [int((y == label).nonzero()[0]) for label in y.unique().tolist()[:MOST_CLASSES]]
