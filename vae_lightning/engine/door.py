"""`install(trainer, model)` gives a Trainer the fast path, or says why the Trainer keeps Lightning's own loop."""

import pytorch_lightning as L

from vae_lightning.engine.eligibility import reason_against
from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.engine.stacked_loop import StackedLoop, StackedStep
from vae_lightning.engine.step import Step
from vae_lightning.engine.turns import present_turn
from vae_lightning.errors import StackError
from vae_lightning.models.base import Module

__all__ = ["install"]


def install(trainer: L.Trainer, model: L.LightningModule, compile: str | bool = "auto") -> str | None:
    """Give `trainer` the fast path for `model`; None, or why the trainer keeps Lightning's own loop.

    Args:
        compile: True; False, for Lightning's own loop; or "auto": compile in trainings of at least `step.COMPILE_FROM` steps.
    """
    reason = "compile is False" if compile is False else reason_against(trainer, model)
    if reason is not None and present_turn() is not None:
        raise StackError(f"trainer: cannot train in a stack of models, because {reason}")
    if reason is None:
        assert isinstance(model, Module)
        epoch_loop = trainer.fit_loop.epoch_loop
        turn = present_turn()
        kind, step = (
            (ChunkLoop, Step(trainer, model, compile)) if turn is None else (StackedLoop, StackedStep(turn, trainer, model))
        )
        if turn is not None and turn.number and trainer.progress_bar_callback is not None:
            trainer.progress_bar_callback.disable()  # a terminal shows one at a time: the first model's, which is where all stand
        trainer.fit_loop.epoch_loop = kind(trainer, step, epoch_loop.min_steps, epoch_loop.max_steps)
    return reason
