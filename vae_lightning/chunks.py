"""The fast path: many optimizer steps for one turn of Lightning's loop, each with its gradients from one compiled graph.

A step on MNIST takes a few milliseconds, of which Lightning's hooks and autograd's bookkeeping are a third. So

- `ChunkLoop` takes most steps without any hook. It keeps all of Lightning's counters, and hands every batch after which
  something may happen (logging, the progress bar, validation, the end of an epoch or of training) to Lightning itself;
- `Step` computes loss, gradients and figures in one graph, traced once from `Module.functional_loss`, which is pure.

`install` is the door: it puts both into a Trainer, or says why that Trainer stays as it is. The plain path, one turn of
Lightning's loop a step, computes the same to within rounding.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    Timer,
)
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.optimization.automatic import _AutomaticOptimization
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer import call
from torch import Tensor

from vae_lightning.callbacks import FrameRecorder, LastCheckpoint, StopOnInterrupt, Timing
from vae_lightning.compilation import compiled
from vae_lightning.models.base import Module
from vae_lightning.models.metrics import summed
from vae_lightning.models.optimization import direct_step, laid_out_like
from vae_lightning.types import Batch, Noise

__all__ = ["CHUNK", "COMPILE_FROM", "install", "reason_against"]

CHUNK = 50
"""Steps between two batches that Lightning itself sees, at most."""
COMPILE_FROM = 2000
"""`compile="auto"` compiles for runs of at least so many steps: compiling takes as long as some thousand of them."""

STEP_HOOKS = (
    "backward",
    "configure_gradient_clipping",
    "on_after_backward",
    "on_before_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "optimizer_step",
    "optimizer_zero_grad",
)
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
MOVING_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device")
CHUNKED = (
    EarlyStopping,
    FrameRecorder,
    LastCheckpoint,
    LearningRateMonitor,
    ModelSummary,
    ProgressBar,
    StopOnInterrupt,
    Timer,
    Timing,
)
"""Callbacks that need not see every batch."""


def install(trainer: L.Trainer, model: L.LightningModule, compile: str | bool = "auto") -> str | None:
    """Give `trainer` the fast path for `model`; None, or why it stays on Lightning's own.

    Args:
        compile: True, False for Lightning's own loop, or "auto": compile from `COMPILE_FROM` steps on.
    """
    reason = "trainer.compile=false" if compile is False else reason_against(trainer, model)
    if reason is None:
        assert isinstance(model, Module)
        epoch_loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop.epoch_loop = ChunkLoop(trainer, Step(trainer, model, compile), epoch_loop.min_steps, epoch_loop.max_steps)
    return reason


def reason_against(trainer: L.Trainer, model: L.LightningModule) -> str | None:
    """Why `model` in `trainer` needs Lightning's own loop, in words; None where it does not."""
    if not isinstance(model, Module):
        return f"{type(model).__name__} is not one of this project's models"
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        return "several devices train"
    if trainer.accumulate_grad_batches != 1:
        return "trainer.accumulate_grad_batches is not 1"
    if trainer.precision not in ("32-true", "bf16-mixed"):
        return f"trainer.precision={trainer.precision}"
    if trainer._detect_anomaly:
        return "trainer.detect_anomaly=true"
    for hook in ("training_step", *STEP_HOOKS, *BATCH_HOOKS):
        if getattr(type(model), hook) is not getattr(Module, hook):
            return f"{type(model).__name__} has its own {hook}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint):
            if callback._every_n_train_steps == 0 and callback._train_time_interval is None:
                continue
            return f"{type(callback).__name__} saves between validations"
        for hook in STEP_HOOKS if isinstance(callback, CHUNKED) else (*STEP_HOOKS, *BATCH_HOOKS):
            if getattr(type(callback), hook, None) is not getattr(L.Callback, hook, None):
                return f"{type(callback).__name__} wants to see every step ({hook})"
    return None


class ChunkLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with as many steps as possible between two of its turns."""

    def __init__(self, trainer: L.Trainer, step: "Step", min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self.step = step
        self.automatic_optimization = _StepOptimization(trainer, step)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        if not self.restarting:
            for _ in range(self._steps_unseen()):
                self._advance_unseen(data_fetcher)
        super().advance(data_fetcher)

    def _steps_unseen(self) -> int:
        """How many steps can be taken before the one after which something may happen."""
        trainer, batch, step = self.trainer, self.batch_idx + 1, self.global_step
        distances = [CHUNK - batch % CHUNK, trainer.num_training_batches - batch]
        if trainer.log_every_n_steps:
            distances.append(trainer.log_every_n_steps - self._batches_that_stepped % trainer.log_every_n_steps)
        if trainer.val_check_batch not in (None, float("inf")):
            done = self.total_batch_idx + 1 if trainer.check_val_every_n_epoch is None else batch
            distances.append(trainer.val_check_batch - done % trainer.val_check_batch)
        if self.max_steps != -1:
            distances.append(self.max_steps - step)
        if trainer.should_stop and self.min_steps and self.min_steps > step:
            distances.append(self.min_steps - step)
        # the first full batch stops the clock of the start-up; of data of unknown length, any batch may be the last
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early
        if stops or not self.step.has_begun or trainer.num_training_batches == float("inf"):
            return 0
        return max(0, int(min(distances)) - 1)

    def _advance_unseen(self, data_fetcher: _DataFetcher) -> None:
        """One batch, with the counters of `advance` and `on_advance_end` and none of their hooks."""
        trainer, progress = self.trainer, self.batch_progress
        batch, _, _ = next(data_fetcher)
        progress.is_last_batch = data_fetcher.done
        batch = self._prepared(batch)
        progress.increment_ready()
        progress.increment_started()
        self.automatic_optimization.run(trainer.optimizers[0], self.batch_idx, OrderedDict(batch=batch))
        progress.increment_processed()
        self.update_lr_schedulers("step", update_plateau_schedulers=False)
        progress.increment_completed()
        self._batches_that_stepped += 1

    def _prepared(self, batch: Any) -> Any:
        """What Lightning makes of `batch` before a step."""
        trainer = self.trainer
        if isinstance(batch, Batch) and self._stays and batch.images.device == trainer.strategy.root_device:
            return trainer.datamodule.on_after_batch_transfer(batch, 0)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)

    @property
    def _stays(self) -> bool:
        """Whether a batch on the device need not be handed to Lightning to be moved there, for a quarter of a millisecond."""
        owners, base = (self.trainer.datamodule, self.trainer.lightning_module), L.core.hooks.DataHooks
        own = any(getattr(type(owner), hook) is not getattr(base, hook) for owner in owners if owner for hook in MOVING_HOOKS)
        return owners[0] is not None and not own


class _StepOptimization(_AutomaticOptimization):
    """Lightning's automatic optimization, with `Step` in place of training_step, backward and the optimizer's closure."""

    def __init__(self, trainer: L.Trainer, step: "Step") -> None:
        super().__init__(trainer)
        self.step = step

    def run(self, optimizer: torch.optim.Optimizer, batch_idx: int, kwargs: OrderedDict[str, Any]) -> dict[str, Any]:
        progress = self.optim_progress.optimizer
        progress.step.increment_ready()
        loss = self.step(optimizer, kwargs["batch"], batch_idx)
        progress.zero_grad.increment_ready()
        progress.zero_grad.increment_started()
        progress.zero_grad.increment_completed()
        progress.step.increment_completed()
        return {"loss": loss}


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
