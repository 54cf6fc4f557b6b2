"""Lightning's loop and the optimizer step of one model that is trained in a stack of models."""

from collections.abc import Callable
from typing import Any, cast

import pytorch_lightning as L

from vae_lightning.engine.loop import ChunkLoop
from vae_lightning.engine.stack import MemberGraph
from vae_lightning.engine.step import Step
from vae_lightning.engine.turns import Turn
from vae_lightning.models.base import Module

__all__ = ["StackedLoop", "StackedStep"]


class StackedStep(Step):
    """The optimizer step of a model that is trained in a stack: full batches go through the stack's graph."""

    def __init__(self, turn: Turn, trainer: L.Trainer, model: Module) -> None:
        super().__init__(trainer, model, compile=True)
        self.graph_of = lambda trainer, model: MemberGraph(turn, trainer, model)

    def choose_many(self, numbers: range, after: Callable[[], None] | None) -> int:
        """Take the steps on batches `numbers` of the loader, from the first on, as far as can be; how many were taken."""
        graph = cast(MemberGraph, self._graph)
        if self.model.current_epoch != self._compared_epoch:
            return 0  # a single step is compared to the model's own
        taken = graph.run_many(numbers, after)
        for _ in range(taken):
            graph.count_step()
        return taken


class StackedLoop(ChunkLoop):
    """Lightning's loop over the batches of an epoch, in which a model asks for many steps at once."""

    step: StackedStep

    def _advance_all_unseen(self, data_fetcher: Any, count: int) -> None:
        while count:
            taken = self._advance_together(data_fetcher, count)
            if not taken:  # the step that the stack could not take says why if it is taken alone
                self._advance_unseen(data_fetcher)
            count -= max(1, taken)

    def _advance_together(self, data_fetcher: Any, count: int) -> int:
        """Take at most `count` steps with the other models of the stack; how many were taken."""
        batches = self.own_batches(data_fetcher)
        if batches is None or not self.step.may_choose():
            return 0
        first = batches.pass_over(0).start

        def after() -> None:
            batches.pass_over(1)
            self.count_unseen(data_fetcher, 1)

        # a schedule that goes on at every step says the learning rate of the next
        taken = self.step.choose_many(range(first, first + count), after if self.schedules_every_step else None)
        if not self.schedules_every_step:
            batches.pass_over(taken)
            self.count_unseen(data_fetcher, taken)
        return taken
