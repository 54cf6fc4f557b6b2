"""What every evaluation measures of the images of a split: bounds and likelihoods of a VAE, the accuracy of a classifier."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from vae_lightning.commands.options import Options
from vae_lightning.data import ImageDataModule
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.report import Settings, classifier_report, latent_variable_report, marginal_report
from vae_lightning.evaluation.sanity import NLL_FLOOR
from vae_lightning.models import M1, M2, VAE, Classifier
from vae_lightning.models.base import Module
from vae_lightning.types import Batch, Estimate

__all__ = ["measure_split", "nll_floor"]


class _Batches:
    """Batches of a split as `(x, y)` on `device`, to be gone through any number of times, each with a progress bar."""

    def __init__(
        self, data: ImageDataModule, split: str, num_images: int | None, device: torch.device, progress: Progress, what: str
    ) -> None:
        self.loader = data.evaluation_loader(split, num_images)
        self.data, self.device, self.progress = data, device, progress
        self.title = f"{split} {what}"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, key in self.progress.track(self.loader, total=len(self.loader), description=self.title):
            batch = Batch(images.to(self.device), labels.to(self.device), key)
            yield self.data.on_after_batch_transfer(batch, 0)


def measure_split(
    model: Any, data: ImageDataModule, split: str, num_images: int | None, options: Options, progress: Progress
) -> dict[str, Estimate]:
    """The estimates of `num_images` images of a split, or of all; `model` is on the device of `options`.

    Raises:
        ConfigurationError: there is nothing to measure of such a model.
    """
    batches = _Batches(data, split, num_images, options.device, progress, "images")
    if isinstance(model, Classifier):
        return classifier_report(model, batches, data.binarization)
    if not isinstance(model, VAE):
        raise ConfigurationError(f"a {type(model).__name__} cannot be evaluated: it is neither a VAE nor a classifier")
    settings = Settings(
        options.num_samples,
        elbo_samples=model.bound_samples,
        seed=options.seed,
        convergence=options.convergence if split == "test" else (),
        per_class=bool(options.parts and model.num_classes) and split == "test",
    )
    report = latent_variable_report(model, batches, split, data.binarization, settings, model.num_classes, options.budget)
    if isinstance(model, M1 | M2):
        again = _Batches(data, split, num_images, options.device, progress, "labels")
        report |= classifier_report(model.predict, again, data.binarization)
    if model.num_classes and options.marginal_images and split == "test":
        count = min(options.marginal_images, num_images or options.marginal_images)
        some = _Batches(data, split, count, options.device, progress, "images x labels")
        fewer = dataclasses.replace(settings, num_samples=options.marginal_samples)
        report |= marginal_report(model, some, split, data.binarization, fewer, model.num_classes, options.budget)
    return report


def nll_floor(model: Module, data: ImageDataModule) -> float | None:
    """What an nll should not be below: known for outcomes of pixels, 0 or 1, on MNIST."""
    binary = isinstance(model, VAE) and model.likelihood_of.binary
    return NLL_FLOOR if binary and data.dataset == "mnist" else None
