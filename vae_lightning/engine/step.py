"""One optimizer step, its gradients from a compiled graph."""

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from vae_lightning.compilation import compiled
from vae_lightning.models.base import Module
from vae_lightning.models.metrics import summed
from vae_lightning.models.optimization import direct_step, laid_out_like
from vae_lightning.types import Noise

__all__ = ["COMPILE_FROM", "Step"]

COMPILE_FROM = 2000
"""`compile="auto"` compiles for runs of at least so many steps: compiling takes as long as some thousand of them."""

Graph = Callable[..., tuple[Sequence[Tensor], Tensor, Tensor]]


class Step:
    """One optimizer step, as `Module.training_step`, backward, Lightning's clipping and the optimizer compute it."""

    def __init__(self, trainer: L.Trainer, model: Module, compile: str | bool) -> None:
        self.trainer, self.model, self.compile = trainer, model, compile
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names, self.parameters = list(trained), list(trained.values())
        self._graph: Graph | None = None
        self._terms: tuple[str, ...] = ()
        self._full_batch: int | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._update: Callable[[], object] = lambda: None

    @property
    def has_begun(self) -> bool:
        """Whether a full batch has been taken, which is what is compiled for."""
        return self._full_batch is not None

    def __call__(self, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        size = len(batch[0])
        # the last batch of an epoch is smaller, and a run may go on from there
        if self._full_batch is None and size == getattr(self.trainer.train_dataloader, "batch_size", size):
            self._full_batch = size
            self._graph = self._compiled(*self.model.step_inputs(batch, batch_idx)) if self._pays() else None
        take = self._take_compiled if self._graph is not None and size == self._full_batch else self._take_eager
        loss = take(batch, batch_idx)
        self._clip(optimizer)
        if optimizer is self._optimizer:
            self._update()
        else:  # the first step, or that of another fit, which has an optimizer of its own
            optimizer.step()
            self._optimizer, self._update = optimizer, direct_step(optimizer)
        return loss

    def _take_eager(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        with self.trainer.precision_plugin.forward_context():
            loss = self.model.training_step(batch, batch_idx)
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        return loss.detach()

    def _take_compiled(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        assert self._graph is not None
        with torch.no_grad():
            gradients, loss, sums = self._graph(self.parameters, *self.model.step_inputs(batch, batch_idx))
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.model._window.add_sums(self._terms, sums, len(batch[0]))
        return loss

    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        trainer = self.trainer
        if trainer.gradient_clip_val:
            self.model.clip_gradients(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    def _pays(self) -> bool:
        if self.compile == "auto":
            return bool(self.trainer.estimated_stepping_batches >= COMPILE_FROM)
        return bool(self.compile)

    def _compiled(self, x: Tensor, y: Tensor, noise: Noise, step: Tensor) -> Graph | None:
        """The graph of gradients, loss and sums for batches of this shape; None where there cannot be one."""

        def graph(parameters: list[Tensor], x: Tensor, y: Tensor, noise: Noise, step: Tensor) -> Any:
            def loss_of(parameters: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
                with self.trainer.precision_plugin.forward_context():
                    return self.model.functional_loss(dict(zip(self.names, parameters, strict=True)), x, y, noise, step)

            gradients, (loss, terms) = torch.func.grad_and_value(loss_of, has_aux=True)(parameters)
            self._terms = tuple(terms)
            return [laid_out_like(*pair) for pair in zip(parameters, gradients, strict=True)], loss, summed(terms)

        return compiled(graph, self.parameters, x, y, noise, step)
