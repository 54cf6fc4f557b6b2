"""A training step as one pure function of tensors, and the tensors that it is a function of.

`StepFunction` computes a step from three kinds of tensors. `State` are those that stay where they are for as long as training goes
on: parameters and the optimizer's state, which a step changes in place, all images, and what hooks may change between two steps. A
batch and a noise are other tensors at every step: which images (`Choice`) or the images themselves, and where the noise comes from
(`Source`) or the noise itself. How a step is run, compiled or captured, is not said here.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_lightning.data.loader import TensorLoader
from vae_lightning.engine.update import Update, clipped
from vae_lightning.machine.graphs import realized
from vae_lightning.models.base import Module
from vae_lightning.models.optimization import laid_out_like
from vae_lightning.models.sums import summed
from vae_lightning.noise import Source
from vae_lightning.types import Noise

__all__ = ["Choice", "Pair", "Result", "State", "StepFunction"]

Pair = tuple[Tensor, Tensor]


class Choice(NamedTuple):
    """A batch by the places of its images, int64 `(B,)` in the resident split, and where the noise of preparing them comes from."""

    places: Tensor
    source: Source


class State(NamedTuple):
    """The tensors of a step that stay where they are.

    Those that a step changes in place: `trained`, `twins`, `optimizer`, `sums` and `step`.
    """

    trained: list[Tensor]
    """The parameters that have a gradient."""
    twins: list[Tensor]
    """The values of `trained` in bfloat16, where products are computed in it; else empty."""
    others: list[Tensor]
    """All other parameters, and the buffers."""
    numbers: dict[str, Tensor]
    """The numbers of the objective, by the paths of `numbers_of`, `()` each."""
    optimizer: list[Tensor]
    settings: list[Tensor]
    """The optimizer's learning rates and other numbers, and the value that gradients are clipped to, `()` each."""
    sums: Tensor
    """Sums of the terms since the last log entry."""
    step: Tensor
    """How many steps the optimizer has taken, `()`."""
    resident: tuple[Tensor, ...]
    """Images and labels of the training split, where a batch is a `Choice`; else empty."""


class Result(NamedTuple):
    """What a step gives beside what it changes in place."""

    loss: Tensor
    gradients: list[Tensor]
    """One of each of `State.trained`."""
    sums: Tensor | None
    """The sums of the terms of this batch, if the function does not add them to `State.sums`."""


class StepFunction:
    """The function of a step, for `torch.fx` to trace.

    Args:
        names: of the trained parameters and of the others, in the order of `State`.
        precision: a context manager in which the forward pass is computed.
        update: what the optimizer does; None: the function computes gradients only and changes nothing.
        clipping: "norm" or "value": how the gradients are clipped to the last of `State.settings`; None: they are not.
        loader: of the images that a `Choice` chooses; None: batches are pairs.
        prepared: grey levels, labels and source of noise -> the images and labels that the model sees.
    """

    def __init__(
        self,
        model: Module,
        names: Sequence[str],
        precision: Callable[[], Any],
        update: Update | None = None,
        clipping: str | None = None,
        loader: TensorLoader | None = None,
        prepared: Callable[..., Pair] | None = None,
    ) -> None:
        self.model, self.names, self.precision = model, list(names), precision
        self.update, self.clipping, self.loader, self.prepared = update, clipping, loader, prepared

    def __call__(self, state: State, batch: Choice | Pair, noise: Source | Noise) -> Result:
        x, y = self.images(state.resident, batch)
        drawn: Noise = realized(self.model.draw_noise(x, noise)) if isinstance(noise, Source) else noise

        def loss_of(trained: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            tensors = dict(zip(self.names, [*trained, *state.others], strict=True))
            with self.precision():
                return self.model.functional_loss(tensors, x, y, drawn, state.step, state.numbers)

        gradients, (loss, terms) = torch.func.grad_and_value(loss_of, has_aux=True)(state.trained)
        gradients = self._laid_out(gradients, state.trained)
        sums = summed(terms)
        if self.update is None:
            return Result(loss, gradients, sums)
        return self._stepped(state, loss, gradients, sums)

    def _laid_out(self, gradients: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        return [laid_out_like(*pair) for pair in zip(parameters, gradients, strict=True)]

    def _stepped(self, state: State, loss: Tensor, gradients: list[Tensor], sums: Tensor, valid: Tensor | None = None) -> Result:
        """Take the step if `valid`, or else if the loss is finite; otherwise leave all as it was."""
        assert self.update is not None
        *settings, value = state.settings
        if self.clipping is not None:
            gradients = clipped(gradients, value, self.clipping)
        self.update.apply(state.trained, gradients, state.optimizer, settings, valid=loss.isfinite() if valid is None else valid)
        for twin, parameter in zip(state.twins, state.trained, strict=False):
            twin.copy_(parameter)
        state.sums.add_(sums if valid is None else torch.where(valid, sums, 0))
        state.step.add_(1 if valid is None else valid)
        return Result(loss, gradients, None)

    def images(self, resident: tuple[Tensor, ...], batch: Choice | Pair) -> Pair:
        """The images float32 `(B, C, H, W)` and labels `(B,)` that the model sees."""
        if not isinstance(batch, Choice):
            return batch
        assert self.loader is not None
        assert self.prepared is not None
        images, labels = self.loader.selected(resident[0], resident[1], batch.places)
        pair: Pair = realized(self.prepared(images, labels, batch.source))
        return pair
