"""The classifier: the project's own judge of samples, and one of the replaced systems' models."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_lightning.arguments import require
from vae_lightning.distributions.likelihoods import full_precision
from vae_lightning.errors import kind_of
from vae_lightning.models.base import Module
from vae_lightning.models.parts import built_part
from vae_lightning.nets import CLASSIFIERS, classified, dropout_noise
from vae_lightning.noise import Source
from vae_lightning.types import MNIST_CLASSES, MNIST_SHAPE, Noise

__all__ = ["Classifier"]


class Classifier(Module):
    """p(y | x) by a network with softmax output.

    Args:
        net: `{"name": "classifier_cnn", ...}`.
        num_classes: C; None: MNIST's. The commands give that of the data.
        image_shape: of one image, `(channels, H, W)`; None: MNIST's. The commands give that of the data.

    >>> model = Classifier(net={"name": "classifier_mlp", "hidden": [8]}, num_classes=3, image_shape=(3, 8, 8))
    >>> model.predict(torch.zeros(4, 3, 8, 8)).shape
    torch.Size([4, 3])
    """

    monitor: ClassVar[str] = "val/accuracy"
    monitor_mode: ClassVar[str] = "max"

    def __init__(
        self,
        net: str | Mapping[str, Any] = "classifier_cnn",
        num_classes: int | None = None,
        optimizer: str | Mapping[str, Any] = "adam",
        lr_schedule: str | Mapping[str, Any] = "constant",
        seed: int = 0,
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(optimizer, lr_schedule, seed)
        self.keep_hyperparameters(locals())
        num_classes = self.hparams["num_classes"] = MNIST_CLASSES if num_classes is None else num_classes
        image_shape = self.hparams["image_shape"] = list(MNIST_SHAPE if image_shape is None else image_shape)
        require(num_classes >= 2, "num_classes", num_classes, "at least 2")
        self.num_classes, self.image_shape = num_classes, tuple(image_shape)
        self.net = built_part("net", net, CLASSIFIERS, nn.Module, num_classes=num_classes, image_shape=self.image_shape)

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        return Noise(x.new_empty(0), dropout_noise(self.net, source, "net") if training else ())

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """Logits `(B, C)` of images `(B, C, H, W)`; `y` is not looked at."""
        weights = next(self.net.parameters())
        return full_precision(classified(self.net, x.to(weights.dtype), iter(noise.dropout) if noise and noise.dropout else None))

    def terms(self, output: Tensor, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        cross_entropy = F.cross_entropy(output, y, reduction="none")
        return {"loss": cross_entropy, "accuracy": (output.argmax(-1) == y).to(output.dtype)}

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Class probabilities `(B, C)` of images `(B, C, H, W)`."""
        return self.forward(x).softmax(-1)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Penultimate activations `(B, F)` of images `(B, C, H, W)`: what the distances between sets of images are of.

        Raises:
            NotImplementedError: the net has no method `features(x)`.
        """
        penultimate = getattr(self.net, "features", None)
        if penultimate is None:
            raise NotImplementedError(f"{kind_of(self.net)} has no features(x), which distances are of")
        features: Tensor = penultimate(x)
        return features
