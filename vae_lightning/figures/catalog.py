"""Every figure that `evaluate.py` draws: its name, what it needs, its caption, and the call that draws it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from vae_lightning import figures
from vae_lightning.arguments import require
from vae_lightning.figures.animation import Animation, Recording
from vae_lightning.figures.latents import Projection
from vae_lightning.figures.metrics import curves_in
from vae_lightning.inference.svi import SVISettings
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["CATALOG", "Entry", "Subject"]


@dataclass(frozen=True)
class Subject:
    """What there is to draw: a trained model, the test images, and what was written down of its training."""

    model: Any
    """A latent-variable model, or a classifier, which has `predict`."""
    x: Tensor
    """Test images `(N, 1, 28, 28)` in [0, 1]."""
    y: Tensor
    """Their labels `(N,)`."""
    num_classes: int
    """Of the labels that the model uses; 0: it ignores them."""
    rates: Mapping[str, tuple[float, float]]
    """Rate and distortion in nats, by split; empty for a classifier."""
    convergence: Mapping[int, Estimate]
    """The nll of the test images by K, the number of importance samples."""
    estimates: Mapping[str, Estimate]
    """The nll of some test images, the same for all, by several estimators; empty if it was not measured."""
    history: Mapping[str, tuple[Tensor, Tensor]]
    """Steps and values of every metric logged in training; empty if nothing was."""
    step: int
    """The optimizer step that the weights are of."""
    recording: Path
    """Folder of the frames of the training."""
    mask: Tensor
    """Bool `(1, 28, 28)`: what is seen of an image that is to be completed."""
    svi: SVISettings
    """How q(z | seen part) is fitted."""
    extent: float
    """Half the side of the square of latents that is decoded."""
    projection: Projection
    """How latents of more than two dimensions are brought to a plane."""
    digit: int
    """The digit where one has to be chosen."""
    seed: int
    """Of everything that is drawn at random."""

    @cached_property
    def probabilities(self) -> Tensor:
        """A classifier's, `(N, C)`."""
        return torch.cat([self.model.predict(part) for part in self.x.split(1000)])

    @cached_property
    def recorded(self) -> Recording:
        """The frames of the training."""
        return figures.read_recording(self.recording)


class Entry(NamedTuple):
    """One figure of the catalogue."""

    unfit: Callable[[Subject], str | None]
    """Why the figure makes no sense for a subject, or None."""
    draw: Callable[[Subject], Figure | Animation]
    """The figure."""
    caption: str
    """What one sees, and what a good one looks like."""
    settings: tuple[str, ...] = ()
    """The settings of an evaluation that it depends on, by their names in `conf/evaluation/`."""


def _latent(subject: Subject) -> str | None:
    return None if isinstance(subject.model, LatentVariableModel) else "the model has no latent"


def _plane(subject: Subject) -> str | None:
    size = getattr(subject.model, "latent_dim", 2)
    return _latent(subject) or (None if size == 2 else f"the latent has {size} dimensions, not two")


def _more_than(dimensions: int) -> Callable[[Subject], str | None]:
    words = ("one dimension", "two dimensions")[dimensions - 1]

    def unfit(subject: Subject) -> str | None:
        size = getattr(subject.model, "latent_dim", 0)
        return _latent(subject) or (None if size > dimensions else f"the latent has no more than {words}")

    return unfit


def _conditional(subject: Subject) -> str | None:
    return _latent(subject) or (None if subject.num_classes else "the model ignores labels")


def _classifier(subject: Subject) -> str | None:
    return None if hasattr(subject.model, "predict") else "the model is no classifier"


def _curves(subject: Subject) -> str | None:
    return None if curves_in(subject.history) else "the run logged no metric to TensorBoard or CSV"


def _recorded(subject: Subject) -> str | None:
    if any(subject.recording.glob("step_*.npz")):
        return None
    return _latent(subject) or "no frames were recorded: train with callbacks.animation.frames=25"


def _label(subject: Subject) -> int | None:
    if not subject.num_classes:
        return None
    require(subject.digit < subject.num_classes, "evaluation.digit", subject.digit, f"below {subject.num_classes}, the classes")
    return subject.digit


def _chosen_digit(subject: Subject) -> Figure:
    there = subject.y.unique().tolist()
    require(subject.digit in there, "evaluation.digit", subject.digit, f"one of the labels of the test images: {there}")
    return figures.chosen_digit(subject.model, subject.x, subject.y, subject.digit, seed=subject.seed)


def _completion(subject: Subject) -> Figure:
    some = figures.one_of_each(subject.y)
    return figures.completion(subject.model, subject.x[some], subject.y[some], subject.mask, subject.svi, seed=subject.seed)


def _isocontours(subject: Subject) -> Figure:
    each = figures.one_of_each(subject.y)
    some = each[2:4] or each[:2]
    return figures.isocontours(subject.model, subject.x[some], subject.y[some], subject.mask, subject.svi, seed=subject.seed)


CATALOG: dict[str, Entry] = {
    "learning_curves": Entry(
        _curves,
        lambda s: figures.learning_curves(s.history, s.step),
        "Training (means since the entry before) and validation over optimizer steps; the dotted line is the checkpoint "
        "of this page. Good: both improve and stay together. Validation that turns while training goes on is overfitting.",
    ),
    "rate_distortion": Entry(
        lambda s: None if s.rates else "the model has no latent",
        lambda s: figures.rate_distortion(s.rates),
        "Rate (KL) against distortion (-log-likelihood), nats per image; along a grey line the ELBO is the same. Good: "
        "far to the lower left, test close to train. A rate near 0 is a collapsed posterior; a larger beta moves a model "
        "to the upper left.",
    ),
    "nll_convergence": Entry(
        lambda s: None if len(s.convergence) > 1 else "the nll was estimated with one K only: evaluation=full has several",
        lambda s: figures.nll_convergence(s.convergence, s.estimates),
        "-log p(x) of test images against K, the number of importance samples, with its standard error over images; dashed, "
        "how far other estimators are from the last point, going by the images for which all were computed. Good: the curve "
        "has become level, and the others are no lower.",
    ),
    "kl_per_dimension": Entry(
        _latent,
        lambda s: figures.kl_bars(s.model, s.x, s.y),
        "KL(q(z | x) || p(z)) of each latent dimension, mean over test images, in falling order. Good: no dimension near "
        "0 that the model could have used; those near 0 say nothing about the image.",
    ),
    "reconstructions": Entry(
        _latent,
        lambda s: figures.reconstructions(s.model, s.x, s.y, seed=s.seed),
        "Test images with the highest, middle and lowest ELBO of all (above each, in nats): the input, the mean of p(x | "
        "z) for a sample z of q(z | x), and a sample of p(x | z). Good: the middle ones are the same digit in the same "
        "hand; the worst are odd to the eye too.",
        ("seed",),
    ),
    "reconstruction_pairs": Entry(
        _latent,
        lambda s: figures.reconstruction_pairs(s.model, s.x, s.y, seed=s.seed),
        "Sixteen test images chosen at random with their labels: the input, and beside it the mean of p(x | z) at the "
        "mean of q(z | x). Good: each pair shows the same digit; blur is where the model is unsure.",
        ("seed",),
    ),
    "reproductions": Entry(
        _latent,
        lambda s: figures.reproductions(s.model, s.x, s.y),
        "The first 100 test images and the means of p(x | z) at the means of q(z | x). Good: the right side can be read "
        "like the left.",
    ),
    "samples": Entry(
        _latent,
        lambda s: figures.samples(s.model, num_classes=s.num_classes, seed=s.seed, device=s.x.device),
        "Above, means of p(x | z) for z from the prior; below, a sample of p(x | z) for the same z. Good: each is a digit "
        "somebody could have written, and they differ. Shapes between digits mean that the prior covers latents which no "
        "image uses.",
        ("seed",),
    ),
    "latent_grid_10x10": Entry(
        _plane,
        lambda s: figures.latent_grid(s.model, s.extent, 10, _label(s), s.x.device),
        "Means of p(x | z) on a mesh of 10 x 10 latents, z_0 to the right, z_1 upwards. Good: neighbours resemble each "
        "other, and all digits have a place.",
        ("extent", "digit"),
    ),
    "latent_grid_20x20": Entry(
        _plane,
        lambda s: figures.latent_grid(s.model, s.extent, 20, _label(s), s.x.device),
        "The same on 20 x 20 latents: the borders between digits. The corners are far out in the prior and hardly ever sampled.",
        ("extent", "digit"),
    ),
    "latent_grid_quantiles": Entry(
        _plane,
        lambda s: figures.latent_quantile_grid(s.model, 20, _label(s), s.x.device),
        "The same at equal steps of the prior's probability, so that every tile stands for the same share of samples. "
        "Good: each digit has about a tenth of the tiles.",
        ("digit",),
    ),
    "traversals": Entry(
        _more_than(2),
        lambda s: figures.latent_traversals(s.model, s.x, s.y),
        "The most active latent dimensions, by KL over the test images (by the variance of posterior means where the KL is "
        "no sum over dimensions), each moved from -3 to 3 while the others stay at the first test image's posterior mean. "
        "Good: a row changes one thing, such as slant or width; a row that changes nothing is unused.",
    ),
    "posterior_means": Entry(
        _latent,
        lambda s: figures.posterior_means(s.model, s.x, s.y, s.projection),
        "The mean of q(z | x) of every test image in the colour of its label, which the model has not seen unless it is "
        "conditional. Of more than two dimensions, projected to a plane, by principal components if not asked otherwise. "
        "Good: digits form groups; in a conditional model they must not, for the label is known already and z is left for "
        "the style.",
        ("projection",),
    ),
    "posterior_samples": Entry(
        _latent,
        lambda s: figures.posterior_samples(s.model, s.x, s.y, s.seed, s.projection),
        "One sample of q(z | x) of every test image: together, the aggregate posterior. Good: it fills the prior, a round "
        "cloud of standard deviation 1, without holes.",
        ("seed", "projection"),
    ),
    "interpolations": Entry(
        _latent,
        lambda s: figures.interpolations(s.model, s.x, s.y),
        "Means of p(x | z) at ten equal steps between the posterior means of the first test images of two digits. Good: "
        "every step is a shape somebody could write, not two digits laid over each other. A conditional model keeps the "
        "label it starts from.",
    ),
    "interpolations_spherical": Entry(
        _more_than(1),
        lambda s: figures.interpolations(s.model, s.x, s.y, spherical=True),
        "The same along great circles, which keep to the distance from the origin where a prior of many dimensions has its mass.",
    ),
    "class_style_grid": Entry(
        _conditional,
        lambda s: figures.class_style_grid(s.model, s.num_classes, seed=s.seed, device=s.x.device),
        "Means of p(x | z, y): a latent from the prior a column, a digit a row. Good: a row is one digit, a column one hand.",
        ("seed",),
    ),
    "style_transfer": Entry(
        _conditional,
        lambda s: figures.style_transfer(s.model, s.x, s.y, s.num_classes),
        "The first test image of each digit, encoded with its label and decoded with every label. Good: a row keeps slant "
        "and width of its input in all ten digits.",
    ),
    "class_means": Entry(
        _latent,
        lambda s: figures.class_means(s.model, s.x, s.y, seed=s.seed),
        "The mean latent of each digit's test images, decoded (first row), and with Gaussian noise of standard deviation "
        "0.1 added. Good: the typical form of each digit, and small changes of it below.",
        ("seed",),
    ),
    "chosen_digit": Entry(
        _latent,
        _chosen_digit,
        "One digit (evaluation.digit): its mean latent with Gaussian noise of standard deviation 1, decoded. Good, of a "
        "conditional model: the same digit in many hands. Of others the noise leads to other digits.",
        ("digit", "seed"),
    ),
    "isocontours": Entry(
        _plane,
        _isocontours,
        "The latent of a test image of which a part is seen. Middle: lines of equal log p(z, seen part) and log q(z), q "
        "fitted to that image by stochastic variational inference. Right: the exact posterior p(z | seen part), "
        "normalised by quadrature, in shades, q in lines at one to five standard deviations, and KL(q || p) above. Good: "
        "the lines lie on each other and the KL is near 0; more than that is what a diagonal Gaussian cannot follow.",
        ("mask", "svi", "seed"),
    ),
    "completion": Entry(
        _latent,
        _completion,
        "The seen part of the first test image of each digit (the rest grey); below, for the unseen part, means of p(x | "
        "z) for three samples of the q(z) that was fitted to the seen part, the mean of 200 such, and the original. Good: "
        "samples join the seen part, and differ where the seen part leaves it open.",
        ("mask", "svi", "seed"),
    ),
    "confusion_matrix": Entry(
        _classifier,
        lambda s: figures.confusion_matrix(s.y, s.probabilities.argmax(-1), s.probabilities.shape[-1]),
        "Test images by label and predicted class. Good: nothing beside the diagonal.",
    ),
    "mistakes": Entry(
        _classifier,
        lambda s: figures.mistakes(s.x, s.y, s.probabilities),
        "Test images whose class is wrong, the most confident first: label, prediction, probability given to it. Good: "
        "few, and such that one would hesitate oneself.",
    ),
    "training_reconstructions": Entry(
        _recorded,
        lambda s: figures.training_reconstructions(s.recorded),
        "The reproductions of the first 100 test images while the model learned; the weights are those of the epoch "
        "shown, not of a checkpoint. Good: digits within the first epoch, sharper ones until the end.",
    ),
    "training_latents": Entry(
        _recorded,
        lambda s: figures.training_decoded(s.recorded),
        "What the same latents decode to while the model learned: a mesh on [-4, 4]^2 for two dimensions, else samples of "
        "the prior. Good: digits take their places early and move little later.",
    ),
    "training_manifold": Entry(
        _recorded,
        lambda s: figures.training_manifold(s.recorded),
        "One sample of q(z | x) of each of 5,000 test images in the colour of its label, while the model learned; of more "
        "than two dimensions, on the last frame's principal components. Good: a cloud that parts into digits and keeps "
        "the prior's extent.",
    ),
    "latent_walk": Entry(
        _latent,
        lambda s: figures.latent_walk(s.model, s.x, s.y, s.num_classes),
        "Means of p(x | z) on the way from one digit's first test image to the next digit's, and back to the first. Good: "
        "one shape becomes the other without a jump.",
    ),
}
