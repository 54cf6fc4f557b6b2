"""What goes wrong with jobs of a sweep at their first attempt: Lightning's callback that tests give to a training."""

import os
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as L

from vae_lightning.errors import DataError

CRASHES, KILLED, WITHOUT_FILE = {3, 11, 19, 27, 35}, {4, 13, 22, 31, 40}, {5}


class Troubles(L.Callback):
    """Crashes, kills or refuses the job of some seeds in its third step, if it has not been here before.

    Args:
        folder: for the marks of who has been here.
    """

    def __init__(self, folder: str, seed: int) -> None:
        self.mark, self.seed = Path(folder, str(seed)), seed

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != 2 or self.mark.exists():
            return
        self.mark.touch()
        if self.seed in CRASHES:
            raise RuntimeError("a mistake of ours")
        if self.seed in KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seed in WITHOUT_FILE:
            raise DataError(f"{self.mark}.txt: there is no such file")
