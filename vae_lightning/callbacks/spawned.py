"""What a training in processes that Lightning spawns brings back to the process that spawned them.

Lightning brings back the weights and the logged metrics in single precision. The steps that were taken, by which the final
validation and test are logged, the metrics in double precision, and the timings come back here, by way of `callback_metrics`.
"""

from multiprocessing import parent_process
from typing import Any, ClassVar

import pytorch_lightning as L
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from vae_lightning.machine.lightning import purge_no_more, spawns

__all__ = ["BringsBack"]

BROUGHT = "brought back"
"""The entry of `callback_metrics` with what the first spawned process says of its training."""
MEANS = ("epoch_means", "evaluation_means")
TIMES = ("first_step_seconds", "images", "training_seconds")


class BringsBack(Callback):
    """Brings steps, metrics and timings back from spawned processes; with any other strategy, this callback does nothing.

    Args:
        timing: the callback whose attributes `first_step_seconds`, `images` and `training_seconds` are brought back.

    >>> BringsBack(timing=None).received(L.Trainer(logger=False, accelerator="cpu"), L.LightningModule())  # nothing was spawned
    """

    sees_every_batch: ClassVar[bool] = False

    def __init__(self, timing: Any) -> None:
        self.timing = timing

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if parent_process() is not None and spawns(trainer) and trainer.is_global_zero:
            trainer.callback_metrics[BROUGHT] = {  # type: ignore[assignment]  # Lightning passes on whatever is there
                "loops": trainer.fit_loop.state_dict(),
                "means": {name: dict(getattr(pl_module, name)) for name in MEANS if hasattr(pl_module, name)},
                "times": {name: getattr(self.timing, name) for name in TIMES},
            }

    def received(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        """Let `trainer` and `model` in the process that spawned others stand where those stood when they ended."""
        brought: Any = trainer.callback_metrics.pop(BROUGHT, None)
        if brought is None:
            return
        trainer.fit_loop.load_state_dict(brought["loops"])
        for name, means in brought["means"].items():
            setattr(model, name, means)
        for name, value in brought["times"].items():
            setattr(self.timing, name, value)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                purge_no_more(logger)
