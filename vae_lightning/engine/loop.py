"""Many optimizer steps for one turn of Lightning's loop; the only file that uses Lightning's private names."""

from collections import OrderedDict
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.optimization.automatic import _AutomaticOptimization
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.trainer import call

from vae_lightning.data.loader import Batches
from vae_lightning.engine.step import Step
from vae_lightning.types import Batch

__all__ = ["CHUNK", "ChunkLoop"]

CHUNK = 50
"""The most steps between two batches that Lightning itself sees."""
MOVING_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device")


class ChunkLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, with as many steps as possible between two of its turns."""

    def __init__(self, trainer: L.Trainer, step: Step, min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self.step = step
        self.automatic_optimization: _StepOptimization = _StepOptimization(trainer, step)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        if self.step.may_go_on() and not self.restarting:
            try:
                self._advance_all_unseen(data_fetcher, self._steps_unseen())
            finally:
                self.step.settle()
        super().advance(data_fetcher)

    def _advance_all_unseen(self, data_fetcher: _DataFetcher, count: int) -> None:
        """Take the `count` steps before the one after which something may happen: in one go, where the step can."""
        batches = _own_batches(data_fetcher)
        for left in range(count, 0, -1):
            if left > 1 and batches is not None and self.step.may_choose_in_one_go():
                self._advance_in_one_go(data_fetcher, batches, left)
                break
            self._advance_unseen(data_fetcher)

    def _advance_in_one_go(self, data_fetcher: _DataFetcher, batches: Batches, count: int) -> None:
        """Train on `count` batches, with the counters of `_advance_unseen`; if somebody interrupts, counters and weights agree."""
        first = batches.pass_over(0).start
        settings: list[list[float]] = []
        if self.schedules_every_step:
            try:
                while len(settings) < count:
                    settings.append(self.step.settings())
                    self._pass_over(data_fetcher, batches)
            finally:
                self.step.choose_in_one_go(first, settings)
            return
        self.step.choose_in_one_go(first, [self.step.settings()] * count)
        counted = 0
        try:
            for counted in range(1, count + 1):  # while the device computes  # noqa: B007
                self._pass_over(data_fetcher, batches)
        except BaseException:
            for _ in range(count - counted):
                self._pass_over(data_fetcher, batches)
            raise

    def _pass_over(self, data_fetcher: _DataFetcher, batches: Batches) -> None:
        """Count a step that is taken in one go with others."""
        batches.pass_over(1)
        self.count_unseen(data_fetcher, 1)

    def _steps_unseen(self) -> int:
        """How many steps can be taken before the step after which something may happen."""
        trainer, batch, step = self.trainer, self.batch_idx + 1, self.global_step
        distances = [CHUNK, trainer.num_training_batches - batch]
        if trainer.log_every_n_steps:
            distances.append(trainer.log_every_n_steps - self._batches_that_stepped % trainer.log_every_n_steps)
        if trainer.val_check_batch not in (None, float("inf")):
            done = self.total_batch_idx + 1 if trainer.check_val_every_n_epoch is None else batch
            distances.append(trainer.val_check_batch - done % trainer.val_check_batch)
        if self.max_steps != -1:
            distances.append(self.max_steps - step)
        if trainer.should_stop and self.min_steps and self.min_steps > step:
            distances.append(self.min_steps - step)
        # Lightning sees the first full batch, at which the start-up ends; and every batch, where any may be the last
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early
        if stops or not self.step.has_begun or trainer.num_training_batches == float("inf"):
            return 0
        return max(0, int(min(distances)) - 1)

    def _advance_unseen(self, data_fetcher: _DataFetcher) -> None:
        """Train on one batch, with the counters of `advance` and `on_advance_end` and without their hooks."""
        progress, batches = self.batch_progress, _own_batches(data_fetcher)
        if batches is not None and self.step.may_choose():
            (number,) = batches.pass_over(1)
            data_fetcher.fetched += 1
            progress.is_last_batch = False
            progress.increment_ready()
            progress.increment_started()
            self.automatic_optimization.choose(number, self.batch_idx)
        else:
            batch, _, _ = next(data_fetcher)
            progress.is_last_batch = data_fetcher.done
            batch = self._prepared(batch)
            progress.increment_ready()
            progress.increment_started()
            self.trainer._logger_connector.on_batch_start(batch)
            self.automatic_optimization.run(self.trainer.optimizers[0], self.batch_idx, OrderedDict(batch=batch))
        progress.increment_processed()
        if self.trainer.lr_scheduler_configs:
            self.update_lr_schedulers("step", update_plateau_schedulers=False)
        progress.increment_completed()
        self._batches_that_stepped += 1

    def count_unseen(self, data_fetcher: _DataFetcher, count: int) -> None:
        """Count steps that were taken, on batches that nobody has fetched."""
        progress = self.batch_progress
        data_fetcher.fetched += count
        for _ in range(count):
            progress.is_last_batch = False
            progress.increment_ready()
            progress.increment_started()
            self.automatic_optimization.count_step()
            progress.increment_processed()
            if self.trainer.lr_scheduler_configs:
                self.update_lr_schedulers("step", update_plateau_schedulers=False)
            progress.increment_completed()
            self._batches_that_stepped += 1

    @property
    def schedules_every_step(self) -> bool:
        """Whether a schedule changes the learning rate at steps, and not at epochs alone."""
        return any(config.interval == "step" for config in self.trainer.lr_scheduler_configs)

    own_batches = staticmethod(lambda data_fetcher: _own_batches(data_fetcher))

    def _prepared(self, batch: Any) -> Any:
        """`batch` as Lightning prepares it before a step, on the device and binarized."""
        trainer = self.trainer
        if isinstance(batch, Batch) and self._stays and batch.images.device == trainer.strategy.root_device:
            return trainer.datamodule.on_after_batch_transfer(batch, 0)
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
        return call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)

    @property
    def _stays(self) -> bool:
        """Whether a batch on the device can skip Lightning's moving of it, which takes a quarter of a millisecond."""
        owners, base = (self.trainer.datamodule, self.trainer.lightning_module), L.core.hooks.DataHooks
        moved = any(getattr(type(owner), hook) is not getattr(base, hook) for owner in owners if owner for hook in MOVING_HOOKS)
        return owners[0] is not None and not moved


class _StepOptimization(_AutomaticOptimization):
    """Lightning's automatic optimization, with `Step` in place of training_step, backward and the optimizer's closure.

    Where the step may no longer be taken here, because a callback was added, say, this is Lightning's own optimization.
    """

    def __init__(self, trainer: L.Trainer, step: Step) -> None:
        super().__init__(trainer)
        self.step = step
        step.plain_loss = self._plain_loss

    def run(self, optimizer: torch.optim.Optimizer, batch_idx: int, kwargs: OrderedDict[str, Any]) -> dict[str, Any]:
        if not self.step.goes_on:
            return super().run(optimizer, batch_idx, kwargs)
        self.optim_progress.optimizer.step.increment_ready()
        loss = self.step(optimizer, kwargs["batch"], batch_idx)
        self._count_step()
        return {"loss": loss}

    def choose(self, number: int, batch_idx: int) -> None:
        """`run` on batch `number` of the loader, which nobody has fetched."""
        self.optim_progress.optimizer.step.increment_ready()
        self.step.choose(self.trainer.optimizers[0], number, batch_idx)
        self._count_step()

    def count_step(self) -> None:
        """Count a step that was taken elsewhere."""
        self.optim_progress.optimizer.step.increment_ready()
        self._count_step()

    def _count_step(self) -> None:
        progress = self.optim_progress.optimizer
        progress.zero_grad.increment_ready()
        progress.zero_grad.increment_started()
        progress.zero_grad.increment_completed()
        progress.step.increment_completed()

    def _plain_loss(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The loss of a batch by Lightning's way to `training_step`, in which a model may log."""
        loss = call._call_strategy_hook(self.trainer, "training_step", batch, batch_idx)
        assert isinstance(loss, torch.Tensor)
        return loss


def _own_batches(data_fetcher: _DataFetcher) -> Batches | None:
    """The iterator over this project's one loader that `data_fetcher` fetches from; None where it fetches from something else."""
    combined = data_fetcher.combined_loader._iterator
    iterators = [] if combined is None else combined.iterators
    return iterators[0] if len(iterators) == 1 and type(iterators[0]) is Batches else None
