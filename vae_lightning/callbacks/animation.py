"""Frames of a training: reconstructions, decoded latents and posterior samples, always of the same images and noise.

`evaluate.py` makes animations of the frames: `figures.animation`.
"""

import io
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from vae_lightning.abilities import classes_of, sorted_by_class
from vae_lightning.arguments import require
from vae_lightning.callbacks.looking import fixed_images, undisturbed, unpermuted
from vae_lightning.callbacks.progress import is_interrupted
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.latents import latent_mesh, mean_images
from vae_lightning.machine.files import write_bytes
from vae_lightning.noise import standard_normal
from vae_lightning.types import LatentVariableModel

__all__ = ["FrameRecorder", "frame_steps"]

IMAGES, POINTS, ROWS, EXTENT = 100, 5000, 20, 4.0
"""Test images that are reconstructed, test images that are encoded, rows of the mesh, and half the mesh's side."""


def frame_steps(total: int, frames: int) -> list[int]:
    """The optimizer steps of at most `frames` frames, from 0 to `total`: dense at the start, at equal ratios from step 50 on.

    >>> frame_steps(total=800, frames=6)
    [0, 50, 100, 200, 400, 800]
    """
    later = np.geomspace(total, min(50, total), frames - 1).round().astype(int)
    return sorted({0, *later.tolist()})


class FrameRecorder(Callback):
    """Writes `frames` files `dirpath`/step_*.npz over a training of a latent-variable model.

    A file holds, for the weights of one optimizer step:

    - `epoch`: how many epochs had been trained, a fraction within one;
    - `reconstructions`: decoded posterior means of the first test images, uint8 `(100, H, W)`, or in colour `(100, 3, H, W)`;
    - `decoded`: means of p(x | z), uint8 `(400, H, W)` or `(400, 3, H, W)`. With two latent dimensions z is a mesh on
      [-4, 4]^2; otherwise z are prior samples, the same in each file, and with every label in turn in a conditional model;
    - `z`: a posterior sample of each of 5,000 test images, float32 `(5000, D)`, and the images' `labels`.

    Where there are fewer test images, all are taken.

    Args:
        dirpath: folder of the files.
        frames: how many, at most; 0: none. A frame costs a tenth of a second.

    >>> FrameRecorder("animation", frames=1)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: frames=1: must be 0 (none) or at least 2
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, dirpath: str, frames: int = 25) -> None:
        require(frames == 0 or frames >= 2, "frames", frames, "0 (none) or at least 2")
        self.folder, self.frames = Path(dirpath), frames
        self._due: list[int] = []
        self._before: Path | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.frames or not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        few, many = (fixed_images(trainer, "test", count) for count in (None, POINTS))
        if few is None or many is None or not isinstance(pl_module, LatentVariableModel):
            return
        if sorted_by_class(trainer.datamodule):  # type: ignore[attr-defined]
            apart = max(1, len(many[0]) // IMAGES)
            few = many[0][::apart], many[1][::apart]
        self._few, self._many = (few[0][:IMAGES].clone(), few[1][:IMAGES].clone()), many
        total = trainer.estimated_stepping_batches
        # a training that only time ends has no known length: each frame comes after twice as many steps as the one before
        ends = 0 < total < float("inf")
        steps = frame_steps(int(total), self.frames) if ends else [0, *(50 * 2**i for i in range(self.frames - 1))]
        self._take_along(trainer.global_step)
        for path in self.folder.glob("step_*.npz"):  # frames of another training in this folder
            if path.stem > self._path(trainer.global_step).stem or trainer.global_step == 0:
                path.unlink()
        self._due = [step for step in steps if step >= trainer.global_step and not self._path(step).exists()]
        self._record(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._record(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # a training may end before the steps it was to take
        if self._due and not is_interrupted(trainer):
            self._due = [trainer.global_step]
            self._record(trainer, pl_module)

    def _record(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Write a frame if one is due. As not every batch comes here, the frame may be of a few steps later."""
        if not self._due or trainer.global_step < self._due[0]:
            return
        self._due = [step for step in self._due if step > trainer.global_step]
        with undisturbed(trainer, model):
            frame = self._frame(trainer, model)
        file = io.BytesIO()
        np.savez_compressed(file, **frame)
        write_bytes(self._path(trainer.global_step), file.getvalue())

    def _frame(self, trainer: L.Trainer, model: Any) -> dict[str, Any]:
        (x, y), (many, labels) = self._few, self._many
        posterior, classes = model.posterior(many, labels), classes_of(model)
        y_decoded = torch.arange(ROWS * ROWS, device=x.device) % max(1, classes)
        if model.latent_dim == 2 and not classes:
            z = latent_mesh(EXTENT, ROWS).to(posterior.mean)
        else:
            prior, epsilon = (
                model.prior(y_decoded),
                standard_normal((ROWS * ROWS, model.latent_dim), posterior.mean, "animation", "prior"),
            )
            # a conditional model decodes one sample with every label
            z = from_noise(prior, epsilon.repeat_interleave(max(1, classes), 0)[: ROWS * ROWS])
        decoded = mean_images(model, z, y_decoded)
        sample = from_noise(posterior, standard_normal(posterior.mean.shape, posterior.mean, "animation", "posterior"))
        return {
            "epoch": trainer.global_step * trainer.accumulate_grad_batches / max(1, trainer.num_training_batches),
            "reconstructions": _bytes(unpermuted(trainer, mean_images(model, model.posterior(x, y).mean, y))),
            "decoded": _bytes(unpermuted(trainer, decoded)),
            "z": sample.float().cpu().numpy(),
            "labels": labels.cpu().numpy(),
        }

    # ---- a run that goes on in a new folder has the frames from before

    def state_dict(self) -> dict[str, Any]:
        return {"folder": str(self.folder)} if self.frames else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = Path(state_dict["folder"]) if "folder" in state_dict else None

    def _take_along(self, step: int) -> None:
        if self._before is None or self._before.resolve() == self.folder.resolve():
            return
        for path in sorted(self._before.glob("step_*.npz")):
            if path.stem <= self._path(step).stem:
                self.folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.folder / path.name)

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:09d}.npz"


def _bytes(images: Tensor) -> Any:
    """Images `(N, C, H, W)` in [0, 1] as uint8, without the channel where there is only one."""
    return (images * 255).round().to(torch.uint8).squeeze(1).cpu().numpy()
