"""Figures that move: what a model made of the same images while it learned, and a walk through a finished model's latents.

The frames of a training are written by `vae_lightning.callbacks.FrameRecorder` and read by `read_recording`.
"""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.figures.latents import one_of_each, plane_of
from vae_lightning.figures.style import DIGIT_COLORS, digit_bar, figure, show_tiles, tiles
from vae_lightning.inference.latents import classes_of, great_circle, line, mean_images
from vae_lightning.noise import generator
from vae_lightning.types import LatentVariableModel

__all__ = [
    "Animation",
    "Recording",
    "latent_walk",
    "read_recording",
    "training_decoded",
    "training_manifold",
    "training_reconstructions",
]

Frame = np.ndarray[Any, np.dtype[np.uint8]]
HELD = ("epoch", "reconstructions", "decoded", "z", "labels")
GREYS, COLORS = 16, 64
"""How many colours a GIF of images has, and one of coloured points."""


@dataclass(frozen=True)
class Animation:
    """Pictures to be shown one after another, for ever."""

    frames: list[Frame]
    """Each uint8 `(H, W, 3)`."""
    seconds: float
    """How long each is shown; the last one four times as long."""
    colors: int = GREYS
    """How many colours the GIF may have, at most 256."""

    def gif(self) -> bytes:
        """A looping GIF with one palette for all frames, so that it stays small and nothing flickers."""
        some = self.frames[:: max(1, len(self.frames) // 5)]
        palette = Image.fromarray(np.concatenate([*some, self.frames[-1]])).quantize(self.colors)
        pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        shown = [round(1000 * self.seconds)] * (len(pictures) - 1) + [round(4000 * self.seconds)]
        file = io.BytesIO()
        pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=shown, loop=0, optimize=True)
        return file.getvalue()

    def save_mp4(self, path: Path) -> None:
        """Write H.264 into `path`, an MP4 whatever its name.

        Raises:
            ConfigurationError: there is no encoder; imageio-ffmpeg brings one.
        """
        height, width = (side - side % 2 for side in self.frames[0].shape[:2])  # the format wants even sides
        options = {"fps": 1 / self.seconds, "macro_block_size": 1, "output_params": ["-movflags", "+faststart", "-f", "mp4"]}
        try:
            from imageio_ffmpeg import write_frames

            writer = write_frames(str(path), (width, height), **options)
            writer.send(None)
        except (ImportError, OSError, RuntimeError) as error:
            raise ConfigurationError(f"{path}: needs an encoder: pip install imageio-ffmpeg") from error
        for frame in [*self.frames, *self.frames[-1:] * 3]:
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()


@dataclass(frozen=True)
class Recording:
    """The frames that a training left, in their order."""

    epochs: list[float]
    """When each was taken."""
    reconstructions: list[Tensor]
    """Means of p(x | z) at the posterior means of the first 100 test images, `(100, 28, 28)` in [0, 1] each."""
    decoded: list[Tensor]
    """Means of p(x | z) at the same latents each time, `(400, 28, 28)` in [0, 1] each."""
    z: list[Tensor]
    """A posterior sample of each of the same test images, `(N, D)` each."""
    labels: Tensor
    """Of those images, `(N,)`."""


def read_recording(folder: Path) -> Recording:
    """The recording in `folder`.

    Raises:
        DataError: there is none, or a file of it is damaged.
    """
    paths = sorted(folder.glob("step_*.npz"))
    if len(paths) < 2:
        raise DataError(f"{folder}: has no frames of the training; train with callbacks.animation.frames=25")
    frames = []
    for path in paths:
        try:
            with np.load(path) as file:
                frames.append({name: torch.from_numpy(file[name]) for name in HELD})
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
            raise DataError(f"{path}: is damaged; remove it, the animation can do without") from error
        if not _is_frame(frames[-1], frames[0]):
            raise DataError(f"{path}: is no frame of this training; remove it, the animation can do without")
    return Recording(
        [float(frame["epoch"]) for frame in frames],
        [frame["reconstructions"] / 255 for frame in frames],
        [frame["decoded"] / 255 for frame in frames],
        [frame["z"] for frame in frames],
        frames[-1]["labels"],
    )


def _is_frame(frame: dict[str, Tensor], first: dict[str, Tensor]) -> bool:
    """Whether arrays from a file have the kinds and shapes that a recorder writes, those of the first frame."""
    alike = all(frame[name].shape == first[name].shape for name in HELD)
    pictures = all(frame[name].dim() == 3 and frame[name].dtype == torch.uint8 for name in ("reconstructions", "decoded"))
    points = frame["z"].dim() == 2 and frame["z"].is_floating_point() and frame["labels"].shape == frame["z"].shape[:1]
    return alike and pictures and points and frame["epoch"].numel() == 1


# ---- over a training


def training_reconstructions(recording: Recording, seconds: float = 0.5) -> Animation:
    """The reproductions of the first 100 test images."""
    return _sheets(recording, recording.reconstructions, 10, "reproductions", seconds)


def training_decoded(recording: Recording, title: str = "decoded latents", seconds: float = 0.5) -> Animation:
    """The mesh on [-4, 4]^2, or the same prior samples, decoded."""
    return _sheets(recording, recording.decoded, 20, title, seconds)


def training_manifold(recording: Recording, seconds: float = 0.5) -> Animation:
    """Posterior samples of test images by label; of more than two dimensions, in the plane of the last frame's components."""
    projection, names = plane_of(recording.z[-1].double())
    points = [projection(z.double()).numpy() for z in recording.z]
    extent = 1.3 * float(np.quantile(np.abs(points[-1]), 0.998))
    made, axes = figure(3.8, 3.1)
    shuffled = torch.randperm(len(recording.labels), generator=generator("order of drawing")).numpy()
    colors = [DIGIT_COLORS[label % len(DIGIT_COLORS)] for label in recording.labels[torch.from_numpy(shuffled)].tolist()]
    dots = axes.scatter(*points[-1][shuffled].T, s=3, c=colors, alpha=0.6, linewidths=0)
    digit_bar(made, axes, int(recording.labels.max()) + 1)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), xlabel=names[0], ylabel=names[1])

    def draw(number: int) -> None:
        dots.set_offsets(points[number][shuffled])
        axes.set_title(f"one sample of each q(z | x): epoch {recording.epochs[number]:.1f}")

    return _rendered(made, draw, len(points), seconds, COLORS)


def _sheets(recording: Recording, images: Sequence[Tensor], columns: int, title: str, seconds: float) -> Animation:
    made, axes = figure(3.5, 3.8)
    show_tiles(axes, images[-1], columns)

    def draw(number: int) -> None:
        axes.images[0].set_data(tiles(images[number], columns).numpy())
        axes.set_title(f"{title}: epoch {recording.epochs[number]:.1f}")

    return _rendered(made, draw, len(images), seconds)


# ---- through a finished model


@torch.no_grad()
def latent_walk(model: LatentVariableModel, x: Tensor, y: Tensor, num_classes: int | None = None, steps: int = 6) -> Animation:
    """Means decoded on the way from the posterior mean of one digit's first image to the next digit's, and back to the first.

    In straight lines where the latent has at most two dimensions, else on great circles; of a conditional model, every label.
    """
    require(steps >= 2, "steps", steps, "at least 2")
    num_classes = classes_of(model) if num_classes is None else num_classes
    stops = one_of_each(y)
    loc = model.posterior(x[stops], y[stops]).mean
    walk = line if model.latent_dim <= 2 else great_circle
    z = walk(loc, loc.roll(-1, 0), steps + 1)[:-1].transpose(0, 1).flatten(0, 1)
    count = max(1, num_classes)
    labels = torch.arange(count, device=z.device).repeat(len(z)) if num_classes else None
    images = mean_images(model, z.repeat_interleave(count, 0), labels).view(len(z), count, *x.shape[1:])
    made, axes = figure(2.4 if count == 1 else 4.4, 2.7 if count == 1 else 2.2)
    show_tiles(axes, images[0], 5 if count > 1 else 1)
    digits = y.unique().tolist()

    def draw(number: int) -> None:
        axes.images[0].set_data(tiles(images[number], 5 if count > 1 else 1).numpy())
        stage = number // steps
        axes.set_title(f"from {digits[stage]} to {digits[(stage + 1) % len(digits)]}: {number % steps}/{steps}")

    return _rendered(made, draw, len(z), 0.12)


def _rendered(made: Figure, draw: Callable[[int], None], count: int, seconds: float, colors: int = GREYS) -> Animation:
    """Each frame as pixels; the layout is that of the first frame, so that nothing jumps."""
    frames = []
    for number in range(count):
        draw(number)
        made.canvas.draw()
        made.set_layout_engine("none")
        frames.append(np.array(made.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]
    return Animation(frames, seconds, colors)
