"""One optimizer step, by a compiled graph where the graph is exact, else as the model and the optimizer compute it."""

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from vae_lightning.engine.chunk import Chunks, chunks_of
from vae_lightning.engine.eligibility import reason_against
from vae_lightning.engine.function import Pair, Result
from vae_lightning.engine.graph import Moment, StepGraph
from vae_lightning.engine.purity import changes_of, hooked, python_state, untouched
from vae_lightning.engine.update.adam import is_adam
from vae_lightning.machine.signals import patient
from vae_lightning.models.base import Module
from vae_lightning.models.finite import check_loss
from vae_lightning.models.optimization import direct_step
from vae_lightning.noise import Source

__all__ = ["COMPILE_FROM", "MOST_GRAPHS", "Step"]

log = logging.getLogger(__name__)

COMPILE_FROM = 2000
"""Steps from which on `compile="auto"` compiles: compiling takes as long as some thousand steps."""
MOST_GRAPHS = 4
"""Graphs that a training compiles at most: compiling does not pay for a model that changes more often."""
CLOSE = {"32-true": 1e-4, "bf16-mixed": 3e-2}
"""Relative difference by which a graph's loss may miss the model's own, by precision; a larger one is not due to rounding."""


class Step:
    """One optimizer step, as `Module.training_step`, backward, Lightning's clipping and the optimizer compute it.

    `may_go_on` is called before each batch that Lightning itself sees, as hooks may change whatever a step depends on.

    Args:
        compile: True, False, or "auto": in trainings of at least `COMPILE_FROM` steps.
    """

    graphs: int
    """Graphs compiled so far."""
    graph_of: Callable[[L.Trainer, Module], StepGraph] = StepGraph
    """What makes the graph of a step."""
    plain_loss: Callable[[Any, int], Tensor]
    """The loss of a batch by Lightning's own way to `training_step`."""

    def __init__(self, trainer: L.Trainer, model: Module, compile: str | bool) -> None:
        self.trainer, self.model, self.compile = trainer, model, compile
        self.goes_on = True
        self._told: set[str] = set()
        self._full_batch: int | None = None
        self._graph: StepGraph | None = None
        self._chunks: Chunks | None = None
        self.graphs = 0
        self._gave_up = False
        self._compared_epoch: int | None = None
        self._state: dict[str, Any] | None = None
        self._update: Callable[[], object] | None = None
        self._stale = True

    @property
    def has_begun(self) -> bool:
        """Whether a step with a full batch was taken; graphs are compiled for full batches."""
        return self._full_batch is not None

    def may_go_on(self) -> bool:
        """Whether the next steps may be taken here, after looking anew at all that a step depends on."""
        model = self.trainer.lightning_module
        reason = reason_against(self.trainer, model) if model is self.model else "another model is trained"
        self.goes_on = reason is None
        if reason is not None:
            self._tell(reason, "Lightning's own loop")
            return False
        state = python_state(self.model)
        if self._state is not None and (changed := changes_of(self._state, state)):
            self._forget(changed)
        self._state = state
        if self._graph is not None and (hook := hooked(self.model)):
            self._forget([f"a hook on {hook}"])
        self._stale, self._update = True, None
        return True

    # ---- the steps

    def may_choose(self) -> bool:
        """Whether the next step can be taken by `choose`."""
        graph = self._looked()
        return graph is not None and graph.data is not None and graph.holds()

    def choose(self, optimizer: torch.optim.Optimizer, number: int, batch_idx: int) -> None:
        """Take the step on batch `number` of the loader, which nobody has fetched, and whose gradients nobody will look at."""
        graph = self._graph
        assert graph is not None
        moment = graph.choice(number)
        if self._whole(graph, moment, batch_idx) is None:
            self(optimizer, graph.pair(moment), batch_idx)

    def may_choose_in_one_go(self) -> bool:
        """Whether `choose_in_one_go` can take the next steps: on a GPU, once this epoch's first step is known to be exact."""
        graph = self._looked()
        return graph is not None and self._chunks is not None and self._compared_epoch == self.model.current_epoch

    def settings(self) -> list[float]:
        """The optimizer's numbers at the next step, and the value that gradients are clipped to."""
        assert self._graph is not None
        assert self._graph.update is not None
        return [*self._graph.update.values(), float(self.trainer.gradient_clip_val or 0.0)]

    def choose_in_one_go(self, first: int, settings: list[list[float]]) -> None:
        """`choose` on the batches from number `first` on, each with its row of `settings`, without waiting for any."""
        assert self._chunks is not None
        self._chunks.run(first, settings)

    def settle(self) -> None:
        """Hand what the steps of `choose` have summed up to the model, before anybody looks."""
        if self._graph is not None and self._graph.update is not None:
            self._graph.settle()

    def __call__(self, optimizer: torch.optim.Optimizer, batch: Pair, batch_idx: int) -> Tensor:
        """Take the step on `batch`, whose loss it returns."""
        size = len(batch[0])
        # a training may go on from within an epoch with its last batch, which is smaller
        if self._full_batch is None and size == getattr(self.trainer.train_dataloader, "batch_size", size):
            self._full_batch = size
        graph = self._looked()
        if graph is None and size == self._full_batch and self._pays() and not self._waits_for(optimizer):
            self._graph = self._compiled(optimizer, batch, batch_idx)
            graph = self._looked()
        if graph is not None and graph.update is not None and graph.fits(batch) and graph.holds():
            result = self._whole(graph, graph.moment(batch, batch_idx), batch_idx)
            if result is not None:
                graph.show(result)
                graph.settle()
                return result.loss
        return self._stepped(optimizer, batch, batch_idx)

    def _waits_for(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether `optimizer` must take the first step of all by itself, in which it makes the state that its update reads."""
        return self.trainer.global_step == 0 and not optimizer.state and not is_adam(optimizer)

    def _looked(self) -> StepGraph | None:
        """The graph, with its tensors as they are now."""
        if self._graph is not None and self._stale:
            self._stale = False
            if not self._graph.look():
                self._forget(["the optimizer or the data"])
        return self._graph

    def _whole(self, graph: StepGraph, moment: Moment, batch_idx: int) -> Result | None:
        """Take a whole step; None, with all as it was, if the graph is found not to compute the model's step."""
        compares = self.model.current_epoch != self._compared_epoch
        if compares:
            plain, before = self._plain(graph, moment), [tensor.clone() for tensor in graph.changing()]
        result = graph.run(moment)
        if result.loss.device.type == "cpu" and not math.isfinite(result.loss.item()):  # then the step was not taken
            check_loss(self.model, result.loss, graph.pair(moment), batch_idx)
        if compares and not self._is_close(float(result.loss), plain):
            for tensor, value in zip(graph.changing(), before, strict=True):
                tensor.copy_(value)
            return None
        graph.count_step()
        return result

    def _stepped(self, optimizer: torch.optim.Optimizer, batch: Pair, batch_idx: int) -> Tensor:
        """Take a step by the optimizer's own `step`, which may ask for the loss more than once."""
        self.settle()
        loss = torch.zeros(())

        def closure() -> Tensor:
            nonlocal loss
            with torch.enable_grad():  # an optimizer may call this within its own no_grad
                loss = self._gradients(batch, batch_idx)
            self._clip(optimizer)
            return loss

        graph = self._looked()
        if graph is not None and graph.update is not None:
            closure()
            graph.update.plain_step()
        elif self._update is not None:
            closure()
            self._update()
        else:  # an optimizer may have been changed since `may_go_on`
            optimizer.step(closure)  # type: ignore[arg-type]
            self._update = direct_step(optimizer)
        self._stale = self._graph is not None and self._graph.update is not None
        return loss

    def _gradients(self, batch: Pair, batch_idx: int) -> Tensor:
        """The loss of `batch`, with its gradient in the `grad` of every parameter."""
        graph = self._looked()
        if graph is not None and graph.update is None and graph.fits(batch):
            moment = graph.moment(batch, batch_idx)
            result = graph.run(moment)
            check_loss(self.model, result.loss, batch, batch_idx)
            compares = self.model.current_epoch != self._compared_epoch
            if not compares or self._is_close(float(result.loss), self._plain(graph, moment)):
                assert result.sums is not None
                graph.show(result)
                self.model._window.add_sums(graph.terms, result.sums, len(batch[0]))
                return result.loss
        loss = self.plain_loss(batch, batch_idx)
        for parameter in self.model.parameters():
            parameter.grad = None
        loss.backward()
        return loss.detach()

    def _plain(self, graph: StepGraph, moment: Moment) -> float:
        """The loss of a step as the model computes it."""
        x, y = graph.pair(moment)
        noise = self.model.draw_noise(x, moment[1]) if isinstance(moment[1], Source) else moment[1]
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            return float(self.model.functional_loss({}, x, y, noise, graph.state.step)[0])

    def _is_close(self, loss: float, plain: float) -> bool:
        """Whether a graph's `loss` is the model's own, asked once an epoch: a model may read what `python_state` cannot see."""
        self._compared_epoch = self.model.current_epoch
        if not abs(loss - plain) > CLOSE[self.trainer.precision] * max(1.0, abs(plain)):
            return True
        self._graph, self._gave_up = None, True
        self._tell(f"the compiled loss is {loss:g}, and the model's own {plain:g}", "not compiled")
        return False

    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        trainer = self.trainer
        if trainer.gradient_clip_val:
            self.model.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    # ---- compiling

    def _pays(self) -> bool:
        if self._gave_up:
            return False
        if self.compile == "auto":
            return bool(self.trainer.estimated_stepping_batches >= COMPILE_FROM)
        return bool(self.compile)

    def _forget(self, changed: list[str]) -> None:
        """Drop the graph, because the model has changed in `changed` since the graph was traced."""
        if self._graph is None:
            return
        self._graph = None
        if self.graphs >= MOST_GRAPHS:
            self._gave_up = True
            what = ", ".join(changed[:3])
            advice = "a number that weighs the loss can be named in `numbers` of the model's class"
            self._tell(f"the model changes again and again ({what}); {advice}", "not compiled")

    def _compiled(self, optimizer: torch.optim.Optimizer, batch: Pair, batch_idx: int) -> StepGraph | None:
        """The graph for batches of this shape; None, with the reason in the log, where there cannot be one."""
        graph = self.graph_of(self.trainer, self.model)
        state = python_state(self.model)
        with untouched(self.model):
            inputs = self.model.step_inputs(batch, batch_idx)
            changed = changes_of(state, python_state(self.model))
        reason = f"preparing a step changes {', '.join(changed[:3])}" if changed else graph.reason_against(inputs)
        with patient() if self.graphs else nullcontext():  # no checkpoint has the steps by the graph so far
            compiles = reason is None and graph.compile(optimizer, batch, batch_idx)
        if compiles:
            self.graphs += 1
            self._compared_epoch, self._stale = None, True
            self._chunks = chunks_of(graph)
            return graph
        self._gave_up = True
        if reason is not None:
            self._tell(reason, "not compiled")
        return None

    def _tell(self, reason: str, what: str) -> None:
        """Log, once for each reason, how steps are computed from now on."""
        if reason not in self._told:
            self._told.add(reason)
            log.warning("from step %d on: %s, because %s", self.trainer.global_step + 1, what, reason)
