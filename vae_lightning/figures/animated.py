"""`Animation`: frames that are shown one after another, as GIF or MP4."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from vae_lightning.errors import ConfigurationError

__all__ = ["COLORS", "GREYS", "Animation", "rendered"]

Frame = np.ndarray[Any, np.dtype[np.uint8]]
GREYS, COLORS = 16, 64
"""Colours of a GIF of grey images, and of a GIF of coloured points."""


@dataclass(frozen=True)
class Animation:
    """Frames that are shown one after another, in a loop.

    >>> black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    >>> Animation([black, white], seconds=0.5).gif()[:6]
    b'GIF89a'
    """

    frames: list[Frame]
    """Pixels of each frame, uint8 `(H, W, 3)`."""
    seconds: float
    """The time that each frame is shown; the last one is shown four times as long."""
    colors: int = GREYS
    """How many colours the GIF may have, at most 256."""

    def gif(self) -> bytes:
        """A looping GIF with one palette for all frames, so that it stays small and nothing flickers."""
        sample = self.frames[:: max(1, len(self.frames) // 5)]
        palette = Image.fromarray(np.concatenate([*sample, self.frames[-1]])).quantize(self.colors)
        pictures = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in self.frames]
        shown = [round(1000 * self.seconds)] * (len(pictures) - 1) + [round(4000 * self.seconds)]
        file = io.BytesIO()
        pictures[0].save(file, format="GIF", save_all=True, append_images=pictures[1:], duration=shown, loop=0, optimize=True)
        return file.getvalue()

    def save_mp4(self, path: Path) -> None:
        """Write H.264 into `path`.

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


def rendered(fig: Figure, draw: Callable[[int], None], count: int, seconds: float, colors: int = GREYS) -> Animation:
    """The animation of `count` frames, each drawn by `draw(number)` into `fig`, in the layout of the first frame."""
    frames = []
    for number in range(count):
        draw(number)
        fig.canvas.draw()
        fig.set_layout_engine("none")
        frames.append(np.array(fig.canvas.buffer_rgba())[..., :3].copy())  # type: ignore[attr-defined]
    return Animation(frames, seconds, colors)
