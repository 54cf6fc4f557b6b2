"""The frames of a training: written by `vae_lightning.callbacks.FrameRecorder`, read by `read_recording`, drawn as animations."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vae_lightning.errors import DataError
from vae_lightning.machine.archives import arrays_in
from vae_lightning.machine.reading import content_within

__all__ = ["Recording", "read_recording"]

FRAME = 256 << 20
"""The most bytes of a frame, packed or unpacked: 500 colour images of 256 x 256 pixels are 100 million."""
MOST_CLASSES = 100_000
RECORDING = 4 << 30
"""The most bytes of all frames."""
HELD = ("epoch", "reconstructions", "decoded", "z", "labels")


@dataclass(frozen=True)
class Recording:
    """The frames that a training left, in their order.

    >>> frame = torch.zeros(100, 28, 28)
    >>> Recording([0.0, 1.0], [frame, frame], [frame, frame], [torch.zeros(5, 2)] * 2, torch.arange(5)).epochs
    [0.0, 1.0]
    """

    epochs: list[float]
    """When each was taken."""
    reconstructions: list[Tensor]
    """Means of p(x | z) at the posterior means of up to 100 test images, `(100, H, W)` or `(100, 3, H, W)` in [0, 1] each."""
    decoded: list[Tensor]
    """Means of p(x | z) at the same latents each time, `(400, H, W)` or `(400, 3, H, W)` in [0, 1] each."""
    z: list[Tensor]
    """A posterior sample of each of the same test images, `(N, D)` each."""
    labels: Tensor
    """Labels of the images in `z`, `(N,)`."""


def read_recording(folder: Path) -> Recording:
    """The recording in `folder`.

    Raises:
        DataError: there is none, or a file of it is damaged.
    """
    paths = sorted(folder.glob("step_*.npz"))
    if len(paths) < 2:
        raise DataError(f"{folder}: has no frames of the training, which a callbacks.FrameRecorder records")
    frames = []
    for path in paths:
        try:
            held = arrays_in(content_within(path, FRAME, folder), HELD, FRAME)
            frames.append({name: torch.from_numpy(array) for name, array in held.items()})
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise DataError(f"{path}: is damaged; remove it, the animation can do without") from error
        if not _is_frame(frames[-1], frames[0]):
            raise DataError(f"{path}: is no frame of this training; remove it, the animation can do without")
        if sum(array.nbytes for array in frames[-1].values()) * len(paths) > RECORDING:
            raise DataError(f"{folder}: its frames are larger than those of a training; remove some of them")
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
    pictures = all(frame[name].dim() in (3, 4) and frame[name].dtype == torch.uint8 for name in ("reconstructions", "decoded"))
    points = frame["z"].dim() == 2 and frame["z"].is_floating_point() and frame["labels"].shape == frame["z"].shape[:1]
    labels = frame["labels"]
    numbers = not labels.is_floating_point() and (not len(labels) or 0 <= int(labels.min()) <= int(labels.max()) < MOST_CLASSES)
    return alike and pictures and points and numbers and frame["epoch"].numel() == 1
