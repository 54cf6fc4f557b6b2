"""One optimizer step, with gradients from a compiled graph where the graph is exact, else as the model computes them."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from vae_lightning.engine.eligibility import reason_against
from vae_lightning.engine.purity import ReadsRunStateError, changes_of, hooked, python_state, run_state_forbidden, untouched
from vae_lightning.machine.compilation import compiled
from vae_lightning.models.base import Module, numbers_of
from vae_lightning.models.finite import check_loss
from vae_lightning.models.optimization import direct_step, laid_out_like
from vae_lightning.models.sums import summed
from vae_lightning.types import Noise

__all__ = ["COMPILE_FROM", "MOST_GRAPHS", "Step"]

log = logging.getLogger(__name__)

COMPILE_FROM = 2000
"""Steps from which on `compile="auto"` compiles: compiling takes as long as some thousand steps."""
MOST_GRAPHS = 4
"""Graphs that a training compiles at most: compiling does not pay for a model that changes more often."""
CLOSE = {"32-true": 1e-4, "bf16-mixed": 3e-2}
"""Relative difference by which a graph's loss may miss the model's own, by precision; a larger one is not due to rounding."""
SAME = 1e-5
"""Relative difference between two losses of the same weights and batch that a different order of summing may cause."""

Pair = tuple[Tensor, Tensor]
Inputs = tuple[Tensor, Tensor, Noise, Tensor]
Graph = Callable[..., tuple[Sequence[Tensor], Tensor, Tensor]]


class Step:
    """One optimizer step, as `Module.training_step`, backward, Lightning's clipping and the optimizer compute it.

    `may_go_on` is called before each batch that Lightning itself sees, as hooks may change whatever a step depends on.

    Args:
        compile: True, False, or "auto": in trainings of at least `COMPILE_FROM` steps.
    """

    graphs: int
    """Graphs compiled so far."""
    plain_loss: Callable[[Any, int], Tensor]
    """The loss of a batch by Lightning's own way to `training_step`."""

    def __init__(self, trainer: L.Trainer, model: Module, compile: str | bool) -> None:
        self.trainer, self.model, self.compile = trainer, model, compile
        self.goes_on = True
        self._told: set[str] = set()
        self._full_batch: int | None = None
        self._graph: _CompiledStep | None = None
        self.graphs = 0
        self._gave_up = False
        self._compared_epoch: int | None = None
        self._state: dict[str, Any] | None = None
        self._update: Callable[[], object] | None = None

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
        if self._graph is not None:
            if hook := hooked(self.model):
                self._forget([f"a hook on {hook}"])
            else:
                self._graph.look()
        self._update = None
        return True

    def __call__(self, optimizer: torch.optim.Optimizer, batch: Pair, batch_idx: int) -> Tensor:
        size = len(batch[0])
        # a training may go on from within an epoch with its last batch, which is smaller
        if self._full_batch is None and size == getattr(self.trainer.train_dataloader, "batch_size", size):
            self._full_batch = size
        if self._graph is None and size == self._full_batch and self._pays():
            self._graph = self._compiled(batch, batch_idx)
        loss = torch.zeros(())

        def closure() -> Tensor:
            nonlocal loss
            with torch.enable_grad():  # an optimizer may call this within its own no_grad
                loss = self._gradients(batch, batch_idx)
            self._clip(optimizer)
            return loss

        if self._update is not None:
            closure()
            self._update()
        else:  # an optimizer may ask for the loss more than once, and may have been changed since `may_go_on`
            optimizer.step(closure)  # type: ignore[arg-type]
            self._update = direct_step(optimizer)
        return loss

    def _gradients(self, batch: Pair, batch_idx: int) -> Tensor:
        """The loss of `batch`, with its gradient in the `grad` of every parameter."""
        if self._graph is not None:
            inputs = self.model.step_inputs(batch, batch_idx)
            if self._graph.fits(inputs):
                loss, sums = self._graph(inputs)
                check_loss(self.model, loss, batch, batch_idx)
                if self._is_exact(loss, inputs):
                    self.model._window.add_sums(self._graph.terms, sums, len(batch[0]))
                    return loss
        loss = self.plain_loss(batch, batch_idx)
        for parameter in self.model.parameters():
            parameter.grad = None
        loss.backward()
        return loss.detach()

    def _is_exact(self, loss: Tensor, inputs: Inputs) -> bool:
        """Whether a graph's `loss` is the model's own, checked once an epoch: a model may read what `python_state` cannot see."""
        epoch = self.model.current_epoch
        if self._graph is None or epoch == self._compared_epoch:
            return True
        self._compared_epoch = epoch
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            plain = float(self.model.functional_loss({}, *inputs)[0])
        if not abs(float(loss) - plain) > CLOSE[self.trainer.precision] * max(1.0, abs(plain)):
            return True
        self._graph, self._gave_up = None, True
        self._tell(f"the compiled loss is {float(loss):g}, and the model's own {plain:g}", "not compiled")
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

    def _compiled(self, batch: Pair, batch_idx: int) -> "_CompiledStep | None":
        """The graph for batches of this shape; None, with the reason in the log, where there cannot be one."""
        graph = _CompiledStep(self.model, self.trainer.precision_plugin.forward_context)
        state = python_state(self.model)
        with untouched(self.model):
            inputs = self.model.step_inputs(batch, batch_idx)
            changed = changes_of(state, python_state(self.model))
        reason = f"preparing a step changes {', '.join(changed[:3])}" if changed else graph.reason_against(inputs)
        if reason is None and graph.compile(inputs):
            self.graphs += 1
            self._compared_epoch = None
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


class _CompiledStep:
    """Gradients, loss and sums of a training step as one graph of parameters, buffers, the model's numbers and a batch."""

    def __init__(self, model: Module, precision: Callable[[], Any]) -> None:
        self.model, self.precision = model, precision
        self.terms: tuple[str, ...] = ()
        self._run: Graph | None = None

    def look(self) -> None:
        """Collect the model's tensors and numbers as they are now, for the next calls of the graph."""
        parameters = dict(self.model.named_parameters())
        self._trained = [parameters[name] for name in self._names]
        others = {**{name: p for name, p in parameters.items() if name not in self._names}, **dict(self.model.named_buffers())}
        self._other_names, self._others = list(others), [tensor.detach() for tensor in others.values()]
        device = self._trained[0].device
        self._numbers = {name: torch.as_tensor(value, device=device).float() for name, value in numbers_of(self.model).items()}
        self._idle = [p for name, p in parameters.items() if name not in self._names]

    def reason_against(self, inputs: Inputs) -> str | None:
        """Why no graph can compute the model's step, in words; found by computing it twice and undoing all that this changes."""
        if hook := hooked(self.model):
            return f"{hook} has a hook"
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        try:
            with untouched(self.model) as changed, run_state_forbidden(self.model), torch.enable_grad(), self.precision():
                loss, terms = self.model.functional_loss(trained, *inputs)
                gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
                with torch.no_grad():
                    again = float(self.model.functional_loss(trained, *inputs)[0])
        except ReadsRunStateError as error:
            return str(error)
        if changed:
            return f"computing the loss changes {', '.join(changed[:3])}"
        # the model draws from a generator or iterator of its own, whose next values a graph would never ask for
        if not math.isclose(float(loss), again, rel_tol=SAME) and math.isfinite(again):
            return f"the loss of the same batch is {float(loss):g} at first, and {again:g} when it is computed again"
        # a parameter that the loss does not depend on must have no gradient: an optimizer treats zero differently
        self._names = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is not None]
        self.terms = tuple(terms)
        return None if self._names else "the loss depends on no parameter"

    def compile(self, inputs: Inputs) -> bool:
        """Trace and compile for inputs of these shapes; False, with a warning, where that fails."""
        self.look()

        def graph(
            trained: list[Tensor],
            others: list[Tensor],
            numbers: dict[str, Tensor],
            x: Tensor,
            y: Tensor,
            noise: Noise,
            step: Tensor,
        ) -> Any:
            def loss_of(trained: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
                tensors = dict(zip([*self._names, *self._other_names], [*trained, *others], strict=True))
                with self.precision():
                    return self.model.functional_loss(tensors, x, y, noise, step, numbers)

            gradients, (loss, terms) = torch.func.grad_and_value(loss_of, has_aux=True)(trained)
            return [laid_out_like(*pair) for pair in zip(trained, gradients, strict=True)], loss, summed(terms)

        self._run = compiled(graph, self._trained, self._others, self._numbers, *inputs)
        self._form = _form(inputs)
        return self._run is not None

    def fits(self, inputs: Inputs) -> bool:
        return _form(inputs) == self._form

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The loss `()` and the sums of the terms, with the gradients in `grad` of the parameters."""
        assert self._run is not None
        with torch.no_grad():
            gradients, loss, sums = self._run(self._trained, self._others, self._numbers, *inputs)
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        for parameter in self._idle:
            parameter.grad = None
        return loss, sums


def _form(inputs: Inputs) -> list[Any]:
    """Device, shapes and dtypes of the tensors that go into a step: a graph fits only inputs of one form."""
    x, y, noise, step = inputs
    tensors = (x, y, noise.posterior, *noise.dropout, step)
    return [x.device, *((tensor.shape, tensor.dtype) for tensor in tensors)]
