"""A callback that the `ours` contender adds: seconds of each epoch with all that belongs to it but validation."""

import time
from pathlib import Path

import pytorch_lightning as L


class EpochClock(L.Callback):
    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.began = self.validation_began = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        if self.began:
            with self.path.open("a") as file:
                file.write(f"{time.perf_counter() - self.began}\n")
        self.began = time.perf_counter()

    on_train_end = on_train_epoch_start

    # Lightning calls checkpoints after all other callbacks, so that saving them is not taken for validation

    def on_validation_start(self, *_: object) -> None:
        self.validation_began = time.perf_counter()

    def on_validation_end(self, *_: object) -> None:
        self.began += time.perf_counter() - self.validation_began
