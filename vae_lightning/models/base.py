"""What every model shares: the steps, their noise, the logging and the optimizer. Models add only their mathematics.

A training step is a pure function of (parameters, batch, noise, step): `Module.terms(self(x, y, noise), x, y, step)`,
with `noise` drawn beforehand by `draw_noise`. `functional_loss` hands it to `torch.func` and compilers as such.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from torch import Tensor
from torch.func import functional_call

from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.models.metrics import MetricSums
from vae_lightning.models.optimization import build_optimizer, build_schedule, check_specs, restore_layout
from vae_lightning.noise import generator
from vae_lightning.types import Noise
from vae_lightning.version import __version__

__all__ = ["CHECKPOINT_FORMAT", "EVALUATION_SEED", "Module", "named"]

CHECKPOINT_FORMAT = 1
"""Grows when checkpoints of earlier versions can no longer be read."""
EVALUATION_SEED = 0
"""Fixes the noise of validation and test whatever the run's seed, so that figures of different runs are comparable."""


def named(spec: str | Mapping[str, Any]) -> dict[str, Any]:
    """`"mlp"` or `{"name": "mlp", ...}` as a plain dict, so that it survives in a checkpoint."""
    return {"name": spec} if isinstance(spec, str) else {key: _plain(value) for key, value in spec.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


class Module(L.LightningModule):
    """A LightningModule whose loss is the mean over the batch of the per-image term `loss`.

    Args:
        optimizer: `{"name": "adam", "lr": 1e-3, ...}`, with any argument of that torch optimizer.
        lr_schedule: `{"name": "constant"}` or another in `models.optimization.SCHEDULES`.
        seed: fixes all noise of training, beside epoch, batch and rank.
    """

    monitor: ClassVar[str] = "val/loss"
    """The metric that says which checkpoint is best, and what a sweep optimises."""
    monitor_mode: ClassVar[str] = "min"
    num_classes: int = 0
    """How many classes of labels the model uses; 0: it ignores labels."""

    def __init__(
        self,
        optimizer: str | Mapping[str, Any] = "adam",
        lr_schedule: str | Mapping[str, Any] = "constant",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.optimizer, self.lr_schedule, self.seed = named(optimizer), named(lr_schedule), seed
        check_specs(self.optimizer, self.lr_schedule)
        self._window, self._epoch, self._evaluation = MetricSums(), MetricSums(), MetricSums()
        self._logged_step = 0
        self._sums_so_far: dict[str, dict[str, float]] = {}
        self._sums_epoch: int | None = None
        self.epoch_means: dict[str, float] = {}
        """Means over the whole of the last training epoch, by metric name."""
        self.evaluation_means: dict[str, float] = {}
        """Means over the last validation and the last test, by metric name."""

    def keep_hyperparameters(self, arguments: Mapping[str, Any]) -> None:
        """Save constructor arguments, `locals()` for all, as plain containers, which a checkpoint can hold safely."""
        own = {k: _plain(v) for k, v in arguments.items() if k != "self" and not k.startswith("_")}
        self.save_hyperparameters({**self.hparams, **own})

    # ---- what a model defines

    def draw_noise(self, x: Tensor, *key: int | str, training: bool = True) -> Noise:
        """Everything random in one step on images `x`, a function of `key` alone; dropout noise only in training."""
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Any:
        raise NotImplementedError

    def terms(self, output: Any, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        """Per-image figures `(B,)` from forward's output; `loss` among them is what is minimised."""
        raise NotImplementedError

    # ---- the steps

    def functional_loss(
        self, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor, noise: Noise, step: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss and its terms as a pure function of all its arguments, for `torch.func` and compilers.

        The mapping holds every parameter (and buffer, if it is to vary) by its name in `state_dict()`.
        """
        output = functional_call(self, dict(parameters), (x, y, noise))
        terms = self.terms(output, x, y, step)
        return terms["loss"].mean(), terms

    def step_inputs(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor, Noise, Tensor]:
        """What a training step is a function of beside the parameters: images, labels, noise and the step's number."""
        x, y = self._checked(batch)
        noise = self.draw_noise(x, self.seed, "train", self.current_epoch, self._batch_of_all_ranks(batch_idx))
        return x, y, noise, self._step(x)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y, noise, step = self.step_inputs(batch, batch_idx)
        terms = self.terms(self(x, y, noise), x, y, step)
        loss = terms["loss"].mean()
        self._window.add(terms)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        every, step = getattr(self.trainer, "log_every_n_steps", 0), self.trainer.global_step
        # where gradients are accumulated, several batches end at the same step, and only the first of them is logged there
        if every and step % every == 0 and step != self._logged_step and self._window.count:
            self._logged_step = step
            self._flush_window(log=True)

    def on_train_epoch_start(self) -> None:
        self._window.reset()
        self._epoch.reset()

    def on_train_epoch_end(self) -> None:
        self._flush_window(log=False)
        self.epoch_means = {f"train/{k}": v for k, v in self._epoch.means(self._sum_over_ranks).items()}
        # not to the logger, which has the means of each window; what Lightning brings back from spawned processes
        self.log_dict(self.epoch_means, logger=False, sync_dist=True)

    def _flush_window(self, *, log: bool) -> None:
        """Log the means since the last time, over every image and not the last batch only."""
        if log:
            means = {f"train/{k}": v for k, v in self._window.means(self._sum_over_ranks).items()}
            shown = self.monitor.replace("val/", "train/")
            self.log_dict({k: v for k, v in means.items() if k != shown})
            self.log_dict(self._gradient_norm())
            self.log(shown, means.get(shown, means["train/loss"]), prog_bar=True)
        self._epoch.merge(self._window)
        self._window.reset()

    def on_validation_epoch_start(self) -> None:
        self._evaluation.reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx, "test")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _evaluation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, split: str) -> None:
        x, y = self._checked(batch)
        noise = self.draw_noise(x, EVALUATION_SEED, split, self._batch_of_all_ranks(batch_idx), training=False)
        self._evaluation.add(self.terms(self(x, y, noise), x, y, self._step(x)))

    def _log_evaluation(self, split: str) -> None:
        for name, value in self._evaluation.means(self._sum_over_ranks).items():
            key = f"{split}/{name}"
            self.evaluation_means[key] = value
            self.log(key, value, prog_bar=key == self.monitor, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["vae_lightning"] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "epoch": self.current_epoch,
            "sums": {"window": self._window.totals(self._sum_over_ranks), "epoch": self._epoch.totals(self._sum_over_ranks)},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = checkpoint.get("vae_lightning", {})
        self._sums_so_far, self._sums_epoch = own.get("sums", {}), own.get("epoch")

    def on_train_start(self) -> None:
        for optimizer in self.trainer.optimizers:
            restore_layout(optimizer)
        # of a run that goes on in the middle of an epoch: its means are of the whole epoch
        for sums, totals in ((self._window, self._sums_so_far.get("window")), (self._epoch, self._sums_so_far.get("epoch"))):
            if totals and self._sums_epoch == self.current_epoch:
                sums.restore(totals, self.trainer.world_size, self.device)
        self._sums_so_far = {}
        self._logged_step = self.trainer.global_step

    # ---- small things the steps need

    def _checked(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = batch
        if self.num_classes and y.device.type == "cpu" and not 0 <= int(y.min()) <= int(y.max()) < self.num_classes:
            raise DataError(f"labels: found {int(y.min())} to {int(y.max())}, but the model knows 0 to {self.num_classes - 1}")
        return x, y

    def _step(self, x: Tensor) -> Tensor:
        attached = self._trainer is not None
        # filled and not copied, for which a GPU would have to wait
        return torch.full((), float(self.global_step if attached else 0), device=x.device, dtype=torch.float32)

    def _batch_of_all_ranks(self, batch_idx: int) -> int:
        """The batch's number among those of all ranks, as the loader deals them out."""
        return batch_idx * self.trainer.world_size + self.global_rank

    def _gradient_norm(self) -> dict[str, Tensor]:
        """The norm over all parameters of the gradient that the last step was taken with, after clipping."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norms = [gradient.norm(dtype=torch.promote_types(gradient.dtype, torch.float32)) for gradient in gradients]
        return {"train/gradient_norm": torch.stack(norms).norm()} if norms else {}

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        reduced = self.trainer.strategy.reduce(value, reduce_op="sum")
        assert isinstance(reduced, Tensor)
        return reduced

    def _uniforms(self, x: Tensor, layers: Iterable[tuple[int, tuple[int, ...]]], *key: int | str) -> tuple[Tensor, ...]:
        """Uniform noise on [0, 1) for dropout layers given as (rows, features)."""
        source = generator(*key, "dropout", device=x.device)
        return tuple(
            torch.rand(rows, *features, generator=source, device=x.device, dtype=torch.float32) for rows, features in layers
        )

    # ---- optimizer

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.parameters(), self.optimizer, scaled=self._gradients_are_scaled())
        schedule = build_schedule(optimizer, self.lr_schedule, self._total_steps, self._steps_per_epoch)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "lr"}}

    def _gradients_are_scaled(self) -> bool:
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _total_steps(self) -> int:
        total = self.trainer.estimated_stepping_batches
        if total in (-1, float("inf")):
            raise ConfigurationError(f"model.lr_schedule={self.lr_schedule['name']}: needs trainer.max_epochs or trainer.max_steps")
        return int(total)

    def _steps_per_epoch(self) -> int:
        # estimated_stepping_batches sets the loader up, which num_training_batches is then the length of
        _ = self.trainer.estimated_stepping_batches
        # the last step of an epoch is taken with the batches that are left
        return max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))
