"""A training step as one compiled graph and its tensors: the whole step where it can be traced, else its gradients.

The whole step chooses the images of a batch by their places, binarizes them, draws its noise, and updates parameters and the
optimizer's state in place. What is somebody else's stays outside: a data module's own preparation of batches, noise that is not a
function of its source, an optimizer that has no update in `engine.update`.
"""

import math
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from vae_lightning.data.loader import TensorLoader
from vae_lightning.data.module import ImageDataModule
from vae_lightning.engine.eligibility import own_data
from vae_lightning.engine.function import Choice, Pair, Result, State, StepFunction
from vae_lightning.engine.purity import ReadsRunStateError, draws_purely, hooked, run_state_forbidden, untouched
from vae_lightning.engine.update import Update, update_of
from vae_lightning.machine.compilation import Compiled, compiled, leaves
from vae_lightning.models.base import Module, numbers_of
from vae_lightning.models.sums import precise
from vae_lightning.noise import Source, key_of
from vae_lightning.types import Noise

__all__ = ["Moment", "StepGraph"]

SAME = 1e-5
"""Relative difference between two losses of the same weights and batch that a different order of summing may cause."""

Moment = tuple[Choice | Pair, Source | Noise]
"""The tensors of one step alone: its batch and its noise."""


class StepGraph:
    """One compiled step of `model` as `trainer` trains it."""

    update: Update | None = None
    """What the optimizer does, in the graph; None: the graph computes gradients only."""
    data: ImageDataModule | None = None
    """The data module whose images the graph chooses and prepares; None: batches are given as they are prepared."""

    def __init__(self, trainer: L.Trainer, model: Module) -> None:
        self.trainer, self.model = trainer, model
        self.terms: tuple[str, ...] = ()
        self.batch_size = 0
        self._graph: Compiled | None = None
        self._keys_of: tuple[Any, ...] = ()
        self._images = 0

    # ---- whether there can be a graph

    def reason_against(self, inputs: tuple[Tensor, Tensor, Noise, Tensor]) -> str | None:
        """Why no graph can compute the model's step, in words; found by computing it twice and undoing all that this changes."""
        if hook := hooked(self.model):
            return f"{hook} has a hook"
        trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        precision = self.trainer.precision_plugin.forward_context
        try:
            with untouched(self.model) as changed, run_state_forbidden(self.model), torch.enable_grad(), precision():
                loss, terms = self.model.functional_loss(trained, *inputs)
                gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
                first = float(loss.detach())
                with torch.no_grad():
                    again = float(self.model.functional_loss(trained, *inputs)[0])
        except ReadsRunStateError as error:
            return str(error)
        if changed:
            return f"computing the loss changes {', '.join(changed[:3])}"
        # the model draws from a generator or iterator of its own, whose next values a graph would never ask for
        if not math.isclose(first, again, rel_tol=SAME) and math.isfinite(again):
            return f"the loss of the same batch is {first:g} at first, and {again:g} when it is computed again"
        # a parameter that the loss does not depend on must have no gradient: an optimizer treats zero differently
        self._names = [name for name, gradient in zip(trained, gradients, strict=True) if gradient is not None]
        self.terms = tuple(terms)
        return None if self._names else "the loss depends on no parameter"

    # ---- making the graph

    def compile(self, optimizer: Optimizer, batch: Pair, batch_idx: int) -> bool:
        """Trace and compile for batches of this shape; False, with a warning, where that fails."""
        model, trainer = self.model, self.trainer
        self.update = self._present_update(optimizer)
        self._update_form = None if self.update is None else self.update.form()
        self._clipping = self._present_clipping()
        self._draws = draws_purely(model, batch[0], model.training_source(batch[0], batch_idx))
        self.data = own_data(trainer, model) if self.update is not None and self._draws else None
        self._data_form = self._form_of_data()
        self._make_buffers()
        self.look()
        self.function = StepFunction(
            model,
            [*self._names, *self._other_names],
            trainer.precision_plugin.forward_context,
            self.update,
            self._clipping,
            None if self.data is None else self.loader,
            None if self.data is None else self.data.prepared,
        )
        self.batch_size, self._form = len(batch[0]), _form(batch)
        with untouched(model):  # as if nothing had been drawn
            first = self.moment(batch, batch_idx)
        self._graph = self._compiled(first)
        return self._graph is not None

    def _compiled(self, first: Moment) -> Compiled | None:
        twins = list(zip(self.state.trained, self.state.twins, strict=False))
        return compiled(self.function, self.state, *first, twins=twins)

    def _make_buffers(self) -> None:
        """Make the tensors of the state that are nobody's but the graph's."""
        trained = self._trained()
        device = trained[0].device
        in_twins = self.update is not None and self.trainer.precision == "bf16-mixed"
        self._twins = [torch.empty_like(p, dtype=torch.bfloat16) for p in trained] if in_twins else []
        self._numbers = {name: torch.zeros((), device=device) for name in numbers_of(self.model)}
        self._sums = torch.zeros(len(self.terms), dtype=precise(device), device=device)
        self._step = torch.zeros((), device=device)
        self._clip_value = torch.zeros((), dtype=precise(device), device=device)  # as the settings are

    def _trained(self) -> list[Tensor]:
        parameters = dict(self.model.named_parameters())
        return [parameters[name] for name in self._names]

    def _present_update(self, optimizer: Optimizer) -> Update | None:
        update = update_of(optimizer, self._trained())
        return None if isinstance(update, str) else update

    def _present_clipping(self) -> str | None:
        algorithm = self.trainer.gradient_clip_algorithm
        by_value = algorithm is not None and str(algorithm.value) == "value"
        return ("value" if by_value else "norm") if self.trainer.gradient_clip_val else None

    def _form_of_data(self) -> Any:
        """What a graph keeps of the data as it is."""
        if self.data is None:
            return None
        data = self.data
        return self.loader.form(), data.binarization, data.augmentation

    # ---- its tensors

    def look(self) -> bool:
        """Collect all tensors as they are now, for the next steps; False: the graph must be made anew."""
        model, trainer = self.model, self.trainer
        if self.update is not None and not self._still_updates(trainer.optimizers[0]):
            return False
        if self.data is not None and (own_data(trainer, model) is not self.data or self._form_of_data() != self._data_form):
            return False
        parameters = dict(model.named_parameters())
        trained = self._trained()
        others = {**{name: p for name, p in parameters.items() if name not in self._names}, **dict(model.named_buffers())}
        self._idle = [p for name, p in parameters.items() if name not in self._names]
        self._other_names = list(others)
        for name, value in numbers_of(model).items():
            self._numbers[name].fill_(value)
        for twin, parameter in zip(self._twins, trained, strict=False):
            twin.copy_(parameter.detach())
        self._step.fill_(float(model.global_step))
        self._clip_value.fill_(trainer.gradient_clip_val or 0.0)
        if self.update is not None:
            model._window.copy_to(self._sums)
        self._images = 0
        self.state = State(
            [parameter.detach() for parameter in trained],
            self._twins,
            [tensor.detach() for tensor in others.values()],
            self._numbers,
            [] if self.update is None else self.update.state,
            [] if self.update is None else [*self.update.settings(), self._clip_value],
            self._sums,
            self._step,
            self._resident(),
        )
        self._leaves = leaves(self.state)
        return True

    def _still_updates(self, optimizer: Optimizer) -> bool:
        """Whether the graph's update is still the optimizer's; tensors of its state may be others."""
        assert self.update is not None
        if self._present_clipping() != self._clipping:
            return False
        if not self.update.fits(optimizer):
            present = self._present_update(optimizer)
            if present is None or type(present) is not type(self.update) or present.form() != self._update_form:
                return False
            self.update = present
        return True

    @property
    def loader(self) -> TensorLoader:
        """The loader of the images that the graph chooses, of which there may be another in another epoch."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, TensorLoader)
        return loader

    def _resident(self) -> tuple[Tensor, ...]:
        if self.data is None:
            return ()
        loader, model = self.loader, self.model
        present = (loader.images.device, loader.seed, loader.served_epoch, model.seed, model.current_epoch)
        if present != self._keys_of:  # a key that is copied to a GPU waits for it
            self._keys_of = present
            self.keys = loader.key(), key_of("train", model.seed, model.current_epoch, device=loader.images.device)
        return loader.images, loader.labels

    # ---- its steps

    def moment(self, batch: Pair, batch_idx: int) -> Moment:
        """What goes into the step on `batch`, which Lightning has fetched, beside the state."""
        if self.data is not None:
            return self.choice(self.loader.dealt - 1)
        if not self._draws:
            x, y, noise, _ = self.model.step_inputs(batch, batch_idx)
            return (x, y), noise
        return self.model._checked(batch), self.model.training_source(batch[0], batch_idx)

    def choice(self, number: int) -> Moment:
        """What goes into the step on batch `number` of the loader, which nobody has fetched."""
        index, places = self.loader.chosen(number)
        of_data, of_model = self.keys
        return Choice(index, Source(of_data, places)), Source(of_model, places)

    def pair(self, moment: Moment) -> Pair:
        """The images and labels of a step as the model sees them."""
        return self.function.images(self.state.resident, moment[0])

    def fits(self, batch: Pair) -> bool:
        """Whether the graph is compiled for batches of this shape."""
        return _form(batch) == self._form

    def run(self, moment: Moment) -> Result:
        """Take a step."""
        assert self._graph is not None
        batch, noise = moment
        if self.update is None:
            self._step.fill_(float(self.model.global_step))
        else:
            self.update.settings()
        if isinstance(batch, Choice) and isinstance(noise, Source):  # as `leaves` would list them
            own = [batch.places, *batch.source, *noise]
        else:
            own = leaves(moment)
        return self.take([*self._leaves, *own])

    def take(self, tensors: list[Tensor]) -> Result:
        """Take the step whose state, batch and noise are `tensors`, in the order of `leaves`."""
        assert self._graph is not None
        with torch.no_grad():
            result: Result = self._graph.of_leaves(tensors)
        return result

    def holds(self) -> bool:
        """Whether the next step is one that the graph can take: an optimizer may do something else at some steps."""
        return self.update is None or self.update.holds()

    def count_step(self) -> None:
        """Note that a whole step was taken."""
        assert self.update is not None
        self.update.advance()
        self._images += self.batch_size

    def show(self, result: Result) -> None:
        """Put the gradients of a step where a model's gradients are looked for."""
        for parameter, gradient in zip(self._trained(), result.gradients, strict=True):
            parameter.grad = gradient
        for parameter in self._idle:
            parameter.grad = None

    def settle(self) -> None:
        """Hand the sums of the steps since the last time to the model, for its log."""
        self.model._window.take(self.terms, self._sums, self._images)
        self._images = 0

    def changing(self) -> list[Tensor]:
        """The tensors that a step changes in place."""
        state = self.state
        return [*state.trained, *state.twins, *state.optimizer, state.sums, state.step]


def _form(batch: Pair) -> list[Any]:
    """Device, shapes and dtypes of a batch: a graph fits only batches of one form."""
    return [(tensor.device, tensor.shape, tensor.dtype) for tensor in batch]
