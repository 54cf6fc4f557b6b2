"""Measure what every evaluation has of the images of a split: a model's bounds and likelihoods, a classifier's accuracy."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from vae_lightning.abilities import binarization_of, labels_of, nll_floor_of, predicts
from vae_lightning.commands.options import Options, at_evaluation
from vae_lightning.commands.treatments import is_of_binary_images
from vae_lightning.evaluation.report import Settings, classifier_report, latent_variable_report, marginal_report
from vae_lightning.inference.chunks import chunks
from vae_lightning.inference.latents import classes_of
from vae_lightning.types import Estimate, ImageData, LatentVariableModel

__all__ = ["measure_split", "nll_floor"]

BATCH = 500
"""Images in a batch, if the data module has no `eval_batch_size`."""


class _Batches:
    """Images and labels in batches on `device`; each pass through them shows a progress bar.

    The batches are as large as in the test at the end of training: the noise of a bound is a function of the batch's number.
    """

    def __init__(self, images: tuple[Tensor, Tensor], size: int, device: torch.device, progress: Progress, title: str) -> None:
        self.images, self.size, self.device, self.progress, self.title = images, size, device, progress, title

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        total = -(-len(self.images[0]) // self.size)
        for x, y in self.progress.track(chunks(self.size, *self.images), total=total, description=self.title):
            yield x.to(self.device), y.to(self.device)


def measure_split(
    model: Any, data: ImageData, split: str, num_images: int | None, options: Options, progress: Progress
) -> dict[str, Estimate]:
    """The estimates of `num_images` images of a split, or of all; `model` is on the device of `options`."""
    binarization, size = binarization_of(data), getattr(data, "eval_batch_size", BATCH)

    def batches(count: int | None, what: str) -> _Batches:
        return _Batches(data.evaluation_images(split, count), size, options.device, progress, f"{split} {what}")

    report: dict[str, Estimate] = {}
    with at_evaluation():
        if isinstance(model, LatentVariableModel):
            report |= _latent_variable(model, batches, split, num_images, binarization, options)
        if predicts(model) and labels_of(data).exist:
            report |= classifier_report(model.predict, batches(num_images, "labels"), binarization)
        classes = classes_of(model) if isinstance(model, LatentVariableModel) else 0
        if classes and options.marginal_images and split == "test":
            count = min(options.marginal_images, num_images or options.marginal_images)
            settings = Settings(options.marginal_samples, seed=options.seed, precision=options.precision)
            images = batches(count, "images x labels")
            report |= marginal_report(model, images, split, binarization, settings, classes, options.budget)
    return report


def _latent_variable(
    model: LatentVariableModel,
    batches: Callable[[int | None, str], _Batches],
    split: str,
    num_images: int | None,
    binarization: str,
    options: Options,
) -> dict[str, Estimate]:
    """The estimates of a latent-variable model: ELBO and its terms, nll."""
    classes = classes_of(model)
    settings = Settings(
        options.num_samples,
        elbo_samples=getattr(model, "bound_samples", 1),
        seed=options.seed,
        convergence=options.convergence if split == "test" else (),
        per_class=bool(options.parts and classes) and split == "test",
        precision=options.precision,
    )
    images = batches(num_images, "images")
    return latent_variable_report(model, images, split, binarization, settings, classes, options.budget)


def nll_floor(model: Any, data: object) -> float | None:
    """Nats that no nll should be below; None where `data` knows no such number, or `model` gives densities of pixels."""
    return nll_floor_of(data) if is_of_binary_images(model) else None
