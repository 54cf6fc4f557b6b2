"""A callback that writes down how much memory the process holds."""

import ctypes
import gc
import os
from pathlib import Path

import pytorch_lightning as L


def resident() -> float:
    """Megabytes that are in use, without what the allocator keeps to give out again."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Resident(L.Callback):
    """Adds a line to `file` after each epoch, or after each training."""

    def __init__(self, file: str, epochs: bool) -> None:
        self.file, self.epochs = file, epochs

    def note(self) -> None:
        with Path(self.file).open("a") as file:
            file.write(f"{resident():.2f}\n")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.epochs:
            self.note()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.epochs:
            self.note()
