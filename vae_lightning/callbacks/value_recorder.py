"""The test's values of each image as a file, which the error over images and differences between runs are computed from.

The file is a `.npz` with an array `(N,)` for each metric of the model (`elbo`, `log_likelihood`, `kl`, ..., float32, nats), in the
order of the test split, and `_images`, float64 `(N,)`, a number by which each image is known again. There is none of models with
test steps of their own, and none where several processes test images of a loader that does not say which are whose (`places`).
"""

import logging
from pathlib import Path

import numpy as np
import pytorch_lightning as L

from vae_lightning.errors import StorageError
from vae_lightning.machine.files import replacing

__all__ = ["ValueRecorder"]

log = logging.getLogger(__name__)


class ValueRecorder(L.Callback):
    """Writes the test's values of each image when a test has ended, whole or not at all; where it cannot, a line says so.

    Args:
        path: the file, `test_per_image.npz` in a run folder.

    >>> ValueRecorder(Path("run/test_per_image.npz")).path.name
    'test_per_image.npz'
    """

    sees_every_batch = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values = getattr(pl_module, "test_values", None)
        if not isinstance(values, dict) or not values or not trainer.is_global_zero:
            return
        try:
            with replacing(self.path) as unfinished, unfinished.open("wb") as file:
                np.savez(file, **{name: value.numpy() for name, value in values.items()})
        except StorageError as error:  # metrics.json, which is written next, is worth more
            log.warning("%s; the run has no values of single images", error)
