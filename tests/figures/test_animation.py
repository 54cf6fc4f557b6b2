"""Animations loop, keep their frames in order, and say which epoch they are at."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Independent, Normal
from toys import Painter

from vae_lightning.errors import DataError
from vae_lightning.figures.animation import (
    Animation,
    latent_walk,
    read_recording,
    training_decoded,
    training_manifold,
    training_reconstructions,
)


def recorded(folder: Path, frames: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(frames):
        np.savez_compressed(
            folder / f"step_{50 * number:09d}.npz",
            epoch=number / 2,
            reconstructions=np.full((100, 28, 28), 100 * number, np.uint8),
            decoded=np.full((400, 28, 28), 255 - 100 * number, np.uint8),
            z=np.random.default_rng(number).normal(size=(50, 2)).astype(np.float32),
            labels=np.arange(50) % 10,
        )
    return folder


def test_recording_is_read_in_the_order_of_the_training(tmp_path: Path) -> None:
    recording = read_recording(recorded(tmp_path))
    assert recording.epochs == [0, 0.5, 1]
    assert [float(images.mean()) for images in recording.reconstructions] == pytest.approx([0, 100 / 255, 200 / 255])
    assert recording.labels.tolist() == [i % 10 for i in range(50)]


@pytest.mark.parametrize("draw", [training_reconstructions, training_decoded, training_manifold])
def test_animation_of_a_training_has_a_frame_for_each_file_and_none_is_like_another(tmp_path: Path, draw) -> None:  # type: ignore[no-untyped-def]
    animation = draw(read_recording(recorded(tmp_path)))
    assert len(animation.frames) == 3
    assert len({frame.tobytes() for frame in animation.frames}) == 3
    assert draw(read_recording(tmp_path)).gif() == animation.gif()


def test_gif_loops_with_the_last_frame_four_times_as_long() -> None:
    frames = [np.full((10, 12, 3), level, np.uint8) for level in (0, 100, 200)]
    with Image.open(io.BytesIO(Animation(frames, 0.5).gif())) as picture:
        assert picture.size == (12, 10)
        assert picture.info["loop"] == 0
        durations = []
        for number, level in enumerate((0, 100, 200)):
            picture.seek(number)
            durations.append(picture.info["duration"])
            assert abs(int(np.asarray(picture.convert("L"))[5, 5]) - level) <= 8
        assert durations == [500, 500, 2000]


def test_mp4_is_written_where_there_is_an_encoder(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    Animation([np.full((11, 13, 3), level, np.uint8) for level in (0, 250)], 0.5).save_mp4(tmp_path / "a.mp4")
    _, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "a.mp4"))
    assert seconds == pytest.approx(2.5, abs=0.1)


def test_walk_goes_from_class_to_class_and_back_to_the_first(x: Tensor, y: Tensor) -> None:
    animation = latent_walk(Painter(), x, y, steps=3)
    assert len(animation.frames) == 30
    z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    straight = Painter()
    straight.posterior = lambda x, y=None: Independent(Normal(z[(y > 0).long()], 0.1), 1)  # type: ignore[method-assign]
    walked = latent_walk(straight, x[:2], torch.tensor([0, 1]), steps=2)
    darkness = [float(frame[frame.shape[0] // 2 + 20, frame.shape[1] // 2, 0]) / 255 for frame in walked.frames]
    expected = [1 - float(torch.tensor(value).sigmoid()) for value in (1.0, 0.0, -1.0, 0.0)]
    assert darkness == pytest.approx(expected, abs=0.03), "there and back"
    assert len(latent_walk(Painter(3, num_classes=10), x, y, num_classes=10, steps=2).frames) == 20


def test_missing_and_damaged_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no frames .* callbacks\.FrameRecorder"):
        read_recording(tmp_path)
    path = recorded(tmp_path) / "step_000000050.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"step_000000050.npz: is damaged"):
        read_recording(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"reconstructions": np.zeros((100, 28, 28))},
        {"decoded": np.zeros((4, 28, 28), np.uint8)},
        {"z": np.zeros((50, 3), np.float32)},
        {"z": np.array(["a"] * 50)},
        {"labels": np.zeros(3, int)},
        {"epoch": np.zeros(2)},
        {"z": np.array([object()] * 50)},
    ],
)
def test_file_of_somebody_else_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = recorded(tmp_path) / "step_000000100.npz"
    with np.load(path) as file:
        frame = {**file, **changes}
    np.savez_compressed(path, **frame)
    with pytest.raises(DataError, match=r"step_000000100\.npz: .*; remove it"):
        read_recording(tmp_path)


def test_file_with_damaged_content_is_named(tmp_path: Path) -> None:
    path = recorded(tmp_path) / "step_000000050.npz"
    content = bytearray(path.read_bytes())
    content[300:400] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"step_000000050\.npz: is damaged"):
        read_recording(tmp_path)
