"""Figures that move: what a model made of the same images while it learned, and a walk through a finished model's latents."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vae_lightning.abilities import Labels, classes_of
from vae_lightning.arguments import require
from vae_lightning.figures.animated import COLORS, GREYS, Animation, rendered
from vae_lightning.figures.latents import plane_of
from vae_lightning.figures.recording import Recording, read_recording
from vae_lightning.figures.registry import declare, needs_latent
from vae_lightning.figures.style import class_bar, class_colors, figure, show_tiles, tiles
from vae_lightning.figures.subject import MOST_CLASSES, Subject, first_images
from vae_lightning.inference.latents import great_circle, line, mean_images
from vae_lightning.noise import generator
from vae_lightning.types import LatentVariableModel

__all__ = [
    "NO_FRAMES",
    "Animation",
    "Recording",
    "latent_walk",
    "read_recording",
    "training_decoded",
    "training_manifold",
    "training_reconstructions",
]

NO_FRAMES = "the training has recorded no frames"
"""Why an animation of a training cannot be drawn; a `callbacks.FrameRecorder` records them."""

# ---- over a training


def recorded(subject: Subject) -> str | None:
    """Need: frames of the training."""
    if any(subject.recording.glob("step_*.npz")):
        return None
    return needs_latent(subject) or NO_FRAMES


@declare("training_reconstructions", "animations", recorded)
def _training_reconstructions(s: Subject) -> Animation:
    """The reproductions of the first 100 test images while the model learned.

    The weights are those of the epoch shown, not of a checkpoint. Good: the kind of image within the first epoch, sharper ones
    until the end.
    """
    return training_reconstructions(s.recorded)


@declare("training_latents", "animations", recorded)
def _training_latents(s: Subject) -> Animation:
    """What the same latents decode to while the model learned: a mesh on [-4, 4]^2 for two dimensions, else samples of the prior.

    Good: kinds of image take their places early and move little later.
    """
    return training_decoded(s.recorded)


@declare("training_manifold", "animations", recorded)
def _training_manifold(s: Subject) -> Animation:
    """One sample of q(z | x) of each of up to 5,000 test images in the colour of its label, while the model learned.

    Of more than two dimensions, on the last frame's principal components. Good: a cloud that parts into classes and keeps the
    prior's extent.
    """
    return training_manifold(s.recorded, labels=s.labels)


@declare("latent_walk", "animations", needs_latent)
def _latent_walk(s: Subject) -> Animation:
    """Means of p(x | z) on the way from one class's first test image to the next class's, and back to the first.

    Of images without labels, on the way between the first ten test images. Good: one shape becomes the other without a jump.
    """
    return latent_walk(s.model, s.x, s.y, s.num_classes, labels=s.labels)


def training_reconstructions(recording: Recording, seconds: float = 0.5) -> Animation:
    """The reproductions of the first 100 test images."""
    return _sheets(recording, recording.reconstructions, 10, "reproductions", seconds)


def training_decoded(recording: Recording, title: str = "decoded latents", seconds: float = 0.5) -> Animation:
    """The mesh on [-4, 4]^2, or the same prior samples, decoded."""
    return _sheets(recording, recording.decoded, 20, title, seconds)


def training_manifold(recording: Recording, seconds: float = 0.5, labels: Labels | None = None) -> Animation:
    """Posterior samples of test images by label; of more than two dimensions, in the plane of the last frame's components."""
    labels = labels or Labels()
    projection, names = plane_of(recording.z[-1].double())
    points = [projection(z.double()).numpy() for z in recording.z]
    extent = 1.3 * float(np.quantile(np.abs(points[-1]), 0.998))
    fig, axes = figure(3.8, 3.1)
    shuffled = torch.randperm(len(recording.labels), generator=generator("order of drawing")).numpy()
    classes = labels.classes_in(recording.labels)
    palette = class_colors(max(1, classes))
    colors = [palette[label] for label in recording.labels[torch.from_numpy(shuffled)].tolist()]
    dots = axes.scatter(*points[-1][shuffled].T, s=3, c=colors, alpha=0.6, linewidths=0)
    class_bar(fig, axes, labels, classes)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xlabel=names[0], ylabel=names[1])

    def draw(number: int) -> None:
        dots.set_offsets(points[number][shuffled])
        axes.set_title(f"one sample of each q(z | x): epoch {recording.epochs[number]:.1f}")

    return rendered(fig, draw, len(points), seconds, COLORS)


def _sheets(recording: Recording, images: Sequence[Tensor], columns: int, title: str, seconds: float) -> Animation:
    fig, axes = figure(3.5, 3.8)
    show_tiles(axes, images[-1], columns)

    def draw(number: int) -> None:
        axes.images[0].set_data(tiles(images[number], columns).numpy())
        axes.set_title(f"{title}: epoch {recording.epochs[number]:.1f}")

    return rendered(fig, draw, len(images), seconds, _colors(images[0]))


# ---- through a finished model


@torch.no_grad()
def latent_walk(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor,
    num_classes: int | None = None,
    steps: int = 6,
    labels: Labels | None = None,
) -> Animation:
    """Means decoded on the way from the posterior mean of one class's first image to the next class's, and back to the first.

    In straight lines where the latent has at most two dimensions, else on great circles; of a conditional model, every label.
    """
    require(steps >= 2, "steps", steps, "at least 2")
    labels = labels or Labels()
    num_classes = classes_of(model) if num_classes is None else num_classes
    stops = first_images(y, labels)
    loc = model.posterior(x[stops], y[stops]).mean
    walk = line if model.latent_dim <= 2 else great_circle
    z = walk(loc, loc.roll(-1, 0), steps + 1)[:-1].transpose(0, 1).flatten(0, 1)
    count = max(1, min(num_classes, MOST_CLASSES))
    every = torch.arange(count, device=z.device).repeat(len(z)) if num_classes else None
    images = mean_images(model, z.repeat_interleave(count, 0), every).view(len(z), count, *x.shape[1:])
    fig, axes = figure(2.4 if count == 1 else 4.4, 2.7 if count == 1 else 2.2)
    columns = 5 if count > 1 else 1
    show_tiles(axes, images[0], columns)
    names = labels.listed(y[stops].tolist()) if labels.exist else [f"image {place}" for place in stops]

    def draw(number: int) -> None:
        axes.images[0].set_data(tiles(images[number], columns).numpy())
        stage = number // steps
        axes.set_title(f"from {names[stage]} to {names[(stage + 1) % len(names)]}: {number % steps}/{steps}")

    return rendered(fig, draw, len(z), 0.12, _colors(images[0]))


def _colors(images: Tensor) -> int:
    """How many colours a GIF of images `(N, C, H, W)` or, in grey, `(N, H, W)` needs."""
    return 256 if images.dim() > 3 and images.shape[-3] == 3 else GREYS
