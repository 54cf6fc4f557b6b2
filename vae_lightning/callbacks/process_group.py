"""Processes that train one model together take leave of each other before they end."""

import atexit
import gc
from typing import ClassVar

import pytorch_lightning as L
import torch.distributed
from pytorch_lightning.callbacks import Callback

__all__ = ["LeavesItsGroup"]


class LeavesItsGroup(Callback):
    """Has a process of several leave their group as it ends; of a training in one process, this callback does nothing.

    A thread of gloo may still hold a tensor when the interpreter goes, which ends a process that has done all it had to do by
    SIGABRT ("terminate called without an active exception"); torchrun then ends the others and calls the training a failure.
    Lightning has processes leave their group with NCCL only.

    >>> LeavesItsGroup().setup(L.Trainer(logger=False, accelerator="cpu"), L.LightningModule(), "fit")  # one process
    """

    sees_every_batch: ClassVar[bool] = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            atexit.unregister(_leave)  # a process trains, validates and tests, and leaves once
            atexit.register(_leave)


def _leave() -> None:
    gc.collect()  # a model and its Trainer hold each other, and the group, whose threads end when nothing does
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
