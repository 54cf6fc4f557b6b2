"""A callback that contenders add: images and seconds of each epoch, with all that belongs to it but validation."""

import json
import time
from pathlib import Path

import pytorch_lightning as L
import torch


class EpochClock(L.Callback):
    """Writes one line of JSON an epoch into the file `path`."""

    sees_every_batch = False  # or Lightning's own loop would be what is timed

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.began = self.validation_began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, *_: object) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        if self.began:
            loader = trainer.train_dataloader
            images = min(int(trainer.num_training_batches) * loader.batch_size, len(loader.images))
            with self.path.open("a") as file:
                file.write(json.dumps({"images": images, "seconds": time.perf_counter() - self.began}) + "\n")
        self.began = time.perf_counter()

    on_train_end = on_train_epoch_start

    # Lightning calls checkpoints after all other callbacks, so that saving them is not taken for validation

    def on_validation_start(self, *_: object) -> None:
        self.validation_began = time.perf_counter()

    def on_validation_end(self, *_: object) -> None:
        self.began += time.perf_counter() - self.validation_began
