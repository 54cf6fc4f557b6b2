"""What every model shares: the steps, their noise, the logging and the optimizer. Models add only their mathematics.

A training step is a pure function of (parameters, numbers, batch, noise, step): `Module.terms(self(x, y, noise), x, y, step)`,
with `noise` from `draw_noise`, a function of its own. `functional_loss` hands it to `torch.func` and compilers as such.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.func import functional_call

from vae_lightning.batches import check_batch, check_labels
from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.checkpoints import CHECKPOINT_FORMAT, Progress, compact, migrate
from vae_lightning.machine.lightning import has_trainer
from vae_lightning.models.finite import check_gradient, check_loss, check_means
from vae_lightning.models.image_values import ImageValues
from vae_lightning.models.optimization import build_optimizer, check_specs, restore_layout, try_specs
from vae_lightning.models.pretrained import Pretrained
from vae_lightning.models.schedules import PlateauSchedule, Schedule, SteppedSchedule, build_schedule, check_length
from vae_lightning.models.sums import MetricSums, require_totals, summed
from vae_lightning.noise import Source, key_of
from vae_lightning.types import Noise
from vae_lightning.version import __version__

__all__ = ["BOOKKEEPING", "CHECKPOINT_FORMAT", "EVALUATION_SEED", "Module", "named", "numbers_of", "replaced_numbers"]

EVALUATION_SEED = 0
"""Fixes the noise of validation and test whatever the run's seed, so that metrics of different runs are comparable."""
BOOKKEEPING = frozenset(
    {
        "_continued_from",
        "_epoch",
        "_evaluation",
        "_first_batch",
        "_logged_step",
        "_sums_epoch",
        "_sums_so_far",
        "_test_images",
        "_window",
        "epoch_means",
        "evaluation_means",
        "test_values",
    }
)
"""Attributes of a `Module` that say how training goes; no step depends on them."""


def named(spec: str | Mapping[str, Any]) -> dict[str, Any]:
    """`"mlp"` or `{"name": "mlp", ...}` as a plain dict, so that it survives in a checkpoint."""
    return {"name": spec} if isinstance(spec, str) else {key: _plain(value) for key, value in spec.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, nn.Module):  # which only code can give again: a spec of it says so when a checkpoint is loaded
        return {"module": f"{type(value).__module__}.{type(value).__qualname__}"}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def numbers_of(model: nn.Module) -> dict[str, float | Tensor]:
    """The present values of the attributes that `numbers` of `model` and of its parts name, by path: `objective_of.beta`.

    An attribute that holds no number is left out: a weight may be a function, too.

    >>> from vae_lightning import BetaVAE
    >>> numbers_of(BetaVAE(beta=2.0, latent_dim=2, net={"name": "mlp", "hidden": [8]}))
    {'kl_weight.start': 0.0, 'kl_weight.end': 1.0, 'kl_weight.steps': 0, 'objective_of.beta': 2.0}
    """
    values: dict[str, float | Tensor] = {}
    for prefix, part in model.named_modules():
        for path in getattr(type(part), "numbers", ()):
            owner, _, field = path.partition(".")
            value: Any = vars(part).get(owner)
            value = getattr(value, field, None) if field else value
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number or (isinstance(value, Tensor) and value.dim() == 0):
                values[f"{prefix}.{path}" if prefix else path] = value
    return values


@contextmanager
def replaced_numbers(model: nn.Module, values: Mapping[str, Any]) -> Iterator[None]:
    """Within, `values` replace the numbers of `model`, by the paths of `numbers_of`."""
    before: list[tuple[dict[str, Any], str, Any]] = []
    parts = dict(model.named_modules())
    for path, value in values.items():
        attributes, owner, field = _place_of(path, parts)
        if owner in attributes:
            before.append((attributes, owner, attributes[owner]))
        if not field:
            attributes[owner] = value
        elif dataclasses.is_dataclass(attributes.get(owner)):
            attributes[owner] = dataclasses.replace(attributes[owner], **{field: value})
    try:
        yield
    finally:
        for attributes, owner, value in reversed(before):
            attributes[owner] = value


def _place_of(path: str, parts: Mapping[str, nn.Module]) -> tuple[dict[str, Any], str, str]:
    """Where the number at `path` stands: its part's attributes, the attribute's name, and the field in that, or an empty string."""
    words = path.split(".")
    depth = max(end for end in range(len(words)) if ".".join(words[:end]) in parts)
    owner, *field = words[depth:]
    return vars(parts[".".join(words[:depth])]), owner, ".".join(field)


class _Terms(nn.Module):
    """A training step as one module, so that one `functional_call` replaces the parameters that `terms` reads, too."""

    def __init__(self, model: "Module") -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor, noise: Noise, step: Tensor) -> dict[str, Tensor]:
        return self.model.terms(self.model(x, y, noise), x, y, step)


class Module(Pretrained, L.LightningModule):
    """A LightningModule whose loss is the mean over the batch of the per-image term `loss`.

    A model of one's own says in `draw_noise` what is random in a step, computes in `forward`, and gives in `terms` the loss and
    what is logged.

    Args:
        optimizer: `{"name": "adam", "lr": 1e-3, ...}`, with any argument of that torch optimizer, or the import path of another;
            `groups` is the import path of a function of the model that gives torch's parameter groups.
        lr_schedule: `{"name": "constant"}` or another in `models.schedules.SCHEDULES`, or an import path; `models.schedules` says
            how a schedule of one's own is written.
        seed: fixes all noise of training, beside the epoch and each image's place.

    >>> class MeanImage(Module):
    ...     def __init__(self) -> None:
    ...         super().__init__(optimizer={"name": "sgd", "lr": 0.1})
    ...         self.mean = nn.Parameter(torch.zeros(1, 28, 28))
    ...
    ...     def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
    ...         return Noise(x.new_empty(0))
    ...
    ...     def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Tensor:
    ...         return x - self.mean
    ...
    ...     def terms(self, output: Tensor, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
    ...         return {"loss": output.square().sum((1, 2, 3))}
    >>> model, x, y = MeanImage(), torch.ones(4, 1, 28, 28), torch.zeros(4, dtype=torch.int64)
    >>> loss, terms = model.functional_loss({}, x, y, model.draw_noise(x, Source.of(x, "example")), torch.tensor(0.0))
    >>> loss.item(), terms["loss"].shape
    (784.0, torch.Size([4]))
    """

    monitor: ClassVar[str] = "val/loss"
    """The metric that says which checkpoint is best, and what a sweep optimises."""
    monitor_mode: ClassVar[str] = "min"
    numbers: ClassVar[tuple[str, ...]] = ()
    """Attributes, or fields of dataclasses in them (`"kl_weight.end"`), that weigh the loss and may change as training goes on.

    A compiled step takes in the numbers' present values each time; where any other attribute changes, the step is compiled again.
    """
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
        self._first_batch = True
        self._sums_so_far: dict[str, dict[str, float]] = {}
        self._sums_epoch: int | None = None
        self._continued_from: Progress | None = None
        self.epoch_means: dict[str, float] = {}
        """Means over the whole of the last training epoch, by metric name."""
        self.evaluation_means: dict[str, float] = {}
        """Means over the last validation and the last test, by metric name."""
        self._test_images = ImageValues()
        self.test_values: dict[str, Tensor] = {}
        """Values of each image of the last test, `(N,)` by metric name without `test/`: see `models.image_values`."""

    def keep_hyperparameters(self, arguments: Mapping[str, Any], without: Iterable[str] = ()) -> None:
        """Save constructor arguments, `locals()` for all, as plain containers, which a checkpoint can hold safely.

        Args:
            without: names that a base class has saved and that this class's constructor does not take.
        """
        plain = {k: _plain(v) for k, v in arguments.items() if k != "self" and not k.startswith("_")}
        for key in without:
            self.hparams.pop(key, None)
        self.save_hyperparameters({**self.hparams, **plain})

    # ---- what a model defines

    def draw_noise(self, x: Tensor, source: Source, training: bool = True) -> Noise:
        """Everything random in one step on images `x`, a function of `source` alone; dropout noise only in training."""
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor | None = None, noise: Noise | None = None) -> Any:
        raise NotImplementedError

    def terms(self, output: Any, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        """Per-image numbers `(B,)` from forward's output; `loss` among them is what is minimised."""
        raise NotImplementedError

    # ---- the steps

    def functional_loss(
        self,
        parameters: Mapping[str, Tensor],
        x: Tensor,
        y: Tensor,
        noise: Noise,
        step: Tensor,
        numbers: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The training loss and its terms as a pure function of all its arguments, for `torch.func` and compilers.

        Args:
            parameters: every parameter (and buffer, if it is to vary) by its name in `state_dict()`.
            numbers: values `()` by the paths of `numbers_of`, to be used instead of the present ones; None: the present ones.
        """
        with replaced_numbers(self, numbers or {}):
            tensors = {f"model.{name}": tensor for name, tensor in parameters.items()}
            terms: dict[str, Tensor] = functional_call(_Terms(self), tensors, (x, y, noise, step))
        return terms["loss"].mean(), terms

    def step_inputs(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor, Noise, Tensor]:
        """The inputs of a training step beside the parameters: images, labels, noise and the step's number."""
        x, y = self._checked(batch, "train")
        return x, y, self.draw_noise(x, self.training_source(x, batch_idx)), self._step(x)

    def training_source(self, x: Tensor, batch_idx: int) -> Source:
        """Where the noise of a training step on images `x` comes from."""
        return self._source(x, batch_idx, "train", self.seed, self.current_epoch)

    def _source(self, x: Tensor, batch_idx: int, split: str, *key: int) -> Source:
        """Where the noise of the batch `x` comes from; a loader that does not tell images apart counts them batch by batch."""
        loader = self.trainer.train_dataloader if split == "train" else getattr(self.trainer, f"{split}_dataloaders")
        places = getattr(loader, "places", None)
        if places is not None:
            # a training that goes on with another batch size counts its batches from where the old ones stood
            dealt = getattr(loader, "dealt", 0) if split == "train" else 0
            return Source(key_of(split, *key, device=x.device), places(dealt - 1 if dealt else batch_idx).to(x.device))
        number = batch_idx * self.trainer.world_size + self.global_rank
        return Source.of(x, split, *key, number)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y, noise, step = self.step_inputs(batch, batch_idx)
        terms = self.terms(self(x, y, noise), x, y, step)
        loss = terms["loss"].mean()
        check_loss(self, loss, batch, batch_idx)
        self._window.add(terms)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        every, step = getattr(self.trainer, "log_every_n_steps", 0), self.trainer.global_step
        # where gradients are accumulated, several batches end at the same step, and only the first of them is logged there
        if every and step % every == 0 and step != self._logged_step and self._window.count:
            self._logged_step = step
            self._flush_window(batch_idx)

    def on_train_epoch_start(self) -> None:
        self._window.reset()
        self._epoch.reset()

    def on_train_epoch_end(self) -> None:
        self._flush_window()
        self._check_gradient(self._gradient_norm(), self.trainer.fit_loop.batch_idx)
        self.epoch_means = {f"train/{k}": v for k, v in self._epoch.means(self._sum_over_ranks).items()}
        # not to the logger, which has the means of each window; what Lightning brings back from spawned processes
        self.log_dict(self.epoch_means, logger=False, sync_dist=True)

    def _flush_window(self, batch_idx: int | None = None) -> None:
        """Take the means since the last time, over every image and not the last batch only; log them after batch `batch_idx`."""
        means = {f"train/{k}": v for k, v in self._window.means(self._sum_over_ranks).items()}
        check_means(self, means)
        if batch_idx is not None:
            norms = self._gradient_norm()
            self._check_gradient(norms, batch_idx)
            of_monitor = self.monitor.replace("val/", "train/")
            shown = of_monitor if of_monitor in means else "train/loss"
            self.log_dict({k: v for k, v in means.items() if k != shown})
            self.log_dict(norms)
            self.log(shown, means[shown], prog_bar=True)
        self._epoch.merge(self._window)
        self._window.reset()

    def on_validation_epoch_start(self) -> None:
        self._first_batch = True
        self._evaluation.reset()

    def on_test_epoch_start(self) -> None:
        self._first_batch = True
        self._evaluation.reset()
        self._test_images.reset()

    def on_validation_model_zero_grad(self) -> None:
        # what is validated, and becomes a checkpoint, are the weights after the step that was taken with this gradient
        self._check_gradient(self._gradient_norm(), self.trainer.fit_loop.batch_idx)
        super().on_validation_model_zero_grad()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx, "val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluation_step(batch, batch_idx, "test")

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")
        self.test_values = self._test_images.gathered(self._reduced, self.trainer.world_size)
        self._test_images.reset()

    @property
    def leaves_out_stand_ins(self) -> bool:
        """Whether a batch that stands in for one, where a process has none, does not count in this model's metrics."""
        own = (type(self).validation_step, type(self).test_step)
        return own == (Module.validation_step, Module.test_step)

    def _evaluation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, split: str) -> None:
        x, y = self._checked(batch, split)
        noise = self.draw_noise(x, self._source(x, batch_idx, split, EVALUATION_SEED), training=False)
        terms = self.terms(self(x, y, noise), x, y, self._step(x))
        stands_in_at = getattr(getattr(self.trainer, f"{split}_dataloaders"), "stands_in_at", None)
        if stands_in_at is not None and stands_in_at(batch_idx):  # of several processes, one without a batch
            self._evaluation.add_sums(terms, torch.zeros_like(summed(terms)), 0)
            return
        self._evaluation.add(terms)
        if split == "test":
            places = getattr(self.trainer.test_dataloaders, "places", None)
            self._test_images.add(terms, x, None if places is None else places(batch_idx).to(x.device))

    def _log_evaluation(self, split: str) -> None:
        means = {f"{split}/{name}": value for name, value in self._evaluation.means(self._sum_over_ranks).items()}
        if self.trainer.state.fn == TrainerFn.FITTING:
            check_means(self, means, self.trainer.val_dataloaders)
        for key, value in means.items():
            self.evaluation_means[key] = value
            self.log(key, value, prog_bar=key == self.monitor, sync_dist=True)
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            for config in self.trainer.lr_scheduler_configs:
                if isinstance(config.scheduler, PlateauSchedule):
                    config.scheduler.observe(means)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["vae_lightning"] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "model": type(self).__name__,
            "epoch": self.current_epoch,
            "sums": {"window": self._window.totals(self._sum_over_ranks), "epoch": self._epoch.totals(self._sum_over_ranks)},
        }
        # the tensors of a model that is trained in a stack are views into those of all models
        checkpoint["state_dict"].update(compact(checkpoint["state_dict"]))  # the dict itself stays: it knows its modules' versions
        if "optimizer_states" in checkpoint:
            checkpoint["optimizer_states"] = compact(checkpoint["optimizer_states"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        migrate(checkpoint)
        own = checkpoint.get("vae_lightning", {})
        require_totals(own.get("sums", {}))
        self._sums_so_far, self._sums_epoch = own.get("sums", {}), own.get("epoch")
        fits = has_trainer(self) and self.trainer.state.fn == TrainerFn.FITTING
        self._continued_from = Progress.of(checkpoint) if fits and "loops" in checkpoint else None

    def on_train_start(self) -> None:
        self._first_batch = True
        for optimizer in self.trainer.optimizers:
            restore_layout(optimizer)
        for config in self.trainer.lr_scheduler_configs:
            # the checkpoint may be of a training that had none, or another
            if isinstance(config.scheduler, Schedule):
                config.scheduler.move_to(self.trainer.global_step)
            elif isinstance(config.scheduler, SteppedSchedule) and not isinstance(config.scheduler, PlateauSchedule):
                epochs = self._continued_from.epochs if self._continued_from else self.trainer.current_epoch
                config.scheduler.move_to(self.trainer.global_step if config.interval == "step" else epochs)
        self._continued_from = None
        # of a run that goes on in the middle of an epoch: its means are of the whole epoch
        for sums, totals in ((self._window, self._sums_so_far.get("window")), (self._epoch, self._sums_so_far.get("epoch"))):
            if totals and self._sums_epoch == self.current_epoch:
                sums.restore(totals, self.trainer.world_size, self.device)
        self._sums_so_far = {}
        self._logged_step = self.trainer.global_step

    # ---- small things the steps need

    def _checked(self, batch: tuple[Tensor, Tensor], split: str = "train") -> tuple[Tensor, Tensor]:
        """Images and labels of a batch: the first of a loop is looked at as a whole, later ones where no GPU has to wait for it."""
        first, self._first_batch = self._first_batch, False
        x, y = self._checked_first(batch, split) if first else batch
        lowest, classes = self._label_range()
        if classes and (first or y.device.type == "cpu"):
            check_labels(y, lowest, classes)
        return x, y

    def _checked_first(self, batch: tuple[Tensor, Tensor], split: str) -> tuple[Tensor, Tensor]:
        dtype = next((p.dtype for p in self.parameters()), torch.float32)
        return check_batch(batch, split, dtype, getattr(self, "image_shape", None))

    def _label_range(self) -> tuple[int, int]:
        """The lowest label that may come, and the number of classes; 0: labels are ignored."""
        return 0, self.num_classes

    def _step(self, x: Tensor) -> Tensor:
        attached = has_trainer(self)
        # filled and not copied, for which a GPU would have to wait
        return torch.full((), float(self.global_step if attached else 0), device=x.device, dtype=torch.float32)

    def _gradient_norm(self) -> dict[str, Tensor]:
        """The norm over all parameters of the gradient that the last step was taken with, after clipping."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norms = [gradient.norm(dtype=torch.promote_types(gradient.dtype, torch.float32)) for gradient in gradients]
        return {"train/gradient_norm": torch.stack(norms).norm()} if norms else {}

    def _check_gradient(self, norms: dict[str, Tensor], batch_idx: int) -> None:
        if not self._gradients_are_scaled():  # float16 takes no step on a gradient that has overflown
            check_gradient(self, norms, batch_idx)

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        return self._reduced(value, "sum")

    def _reduced(self, value: Tensor, by: str) -> Tensor:
        reduced = self.trainer.strategy.reduce(value.to(self.device), reduce_op=by)
        assert isinstance(reduced, Tensor)
        return reduced

    # ---- optimizer

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self, self.optimizer, scaled=self._clips_only_unfused())
        if self.trainer.gradient_clip_val and self._clips_only_unfused() and any(g.get("fused") for g in optimizer.param_groups):
            raise ConfigurationError("optimizer.fused=True: clips no gradients in mixed precision; leave it out")
        monitor = (self.monitor, self.monitor_mode)
        schedule = build_schedule(optimizer, self.lr_schedule, self._total_steps, self._steps_per_epoch, monitor)
        if schedule is None:
            return optimizer
        check_length(schedule, self.lr_schedule, self._total_steps, self._steps_per_epoch)
        watches = isinstance(schedule, PlateauSchedule)
        if watches and not self.trainer.enable_validation:
            raise ConfigurationError(f"lr_schedule.name={self.lr_schedule['name']}: looks at validations, and there are none")
        # a plateau is looked for where validation ends, before checkpoints are written, and not where Lightning would
        interval = "epoch" if watches else schedule.interval
        config = {"scheduler": schedule, "interval": interval, "name": "lr", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": config}

    def has_learning_rate(self) -> bool:
        """Whether the optimizer has a learning rate by that name, which can be logged: some have none."""
        if type(self).configure_optimizers is not Module.configure_optimizers:
            return True
        return all("lr" in group for group in build_optimizer(self, self.optimizer).param_groups)

    def rehearse_optimizer(self) -> None:
        """Take a step of the optimizer and of the schedule on gradients of zero, of a copy of a model that is to be trained.

        Raises:
            ConfigurationError: says which argument is wrong, or which parameter cannot be trained so.
        """
        if type(self).configure_optimizers is Module.configure_optimizers:
            try_specs(self, self.optimizer, self.lr_schedule, (self.monitor, self.monitor_mode))

    def _gradients_are_scaled(self) -> bool:
        return getattr(self.trainer.precision_plugin, "scaler", None) is not None

    def _clips_only_unfused(self) -> bool:
        """Whether gradients are scaled, or Lightning believes so, as of every mixed precision when it clips them."""
        mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        return self._gradients_are_scaled() or (mixed and bool(self.trainer.gradient_clip_val))

    def _total_steps(self) -> int:
        total = self.trainer.estimated_stepping_batches
        if total in (-1, float("inf")):
            raise ConfigurationError(f"lr_schedule={self.lr_schedule['name']}: needs max_epochs or max_steps of the trainer")
        before = self._continued_from if self.trainer.ckpt_path else None
        if before is None or self.trainer.max_epochs in (None, -1):
            return int(total)
        # the epochs so far may have had another number of batches
        each, accumulated = self._steps_per_epoch(), self.trainer.accumulate_grad_batches
        steps = before.steps + (self.trainer.max_epochs - before.epochs) * each - math.ceil(before.batches / accumulated)
        return steps if self.trainer.max_steps == -1 else min(steps, self.trainer.max_steps)

    def _steps_per_epoch(self) -> int:
        # estimated_stepping_batches sets the loader up, which num_training_batches is then the length of
        _ = self.trainer.estimated_stepping_batches
        # the last step of an epoch is taken with the batches that are left
        return max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))
