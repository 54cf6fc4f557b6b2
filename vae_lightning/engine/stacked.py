"""Many models trained at once on one device: their parameters stacked, and one compiled step of all of them.

Models of one architecture that differ in numbers (seed, learning rate, beta, warm-up, ...) have steps that are one function of
different tensors. So their tensors are stacked, and one graph of batched products takes a step of every model, which keeps a device
busy that one small model leaves idle. Each model keeps a Trainer, data, loggers and checkpoints of its own: Lightning trains each
in a thread, one at a time (`engine.turns`), and wherever it would take steps, it waits until the others want steps, too.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import pytorch_lightning as L

from vae_lightning.callbacks import StopOnInterrupt
from vae_lightning.engine.door import install
from vae_lightning.engine.eligibility import reason_against
from vae_lightning.engine.stack import MemberGraph, Stack, Steps
from vae_lightning.engine.stackable import require_models_alike
from vae_lightning.engine.turns import Own, Turn, take_turns
from vae_lightning.errors import StackError
from vae_lightning.machine.signals import handled, noted, patient
from vae_lightning.models.base import Module

__all__ = ["Outcome", "Training", "run_stacked", "train_stacked"]


class Training(NamedTuple):
    """A model to be trained, as `trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)` would."""

    trainer: L.Trainer
    model: L.LightningModule
    data: L.LightningDataModule
    ckpt_path: str | None = None


class Outcome(NamedTuple):
    """How one of several functions ended."""

    result: Any
    """What it returned."""
    error: Exception | None
    """What it raised, which did not keep the others from going on."""


def train_stacked(trainings: Sequence[Training | tuple[Any, ...]]) -> list[Exception | None]:
    """Train models together on one device, each as `trainer.fit(model, datamodule=data)` would alone.

    Each model comes out as it would alone, to within rounding, with the logs and checkpoints of its own Trainer. A training that
    stops early, or fails, leaves the others as they are. The progress bar is that of the first training.

    Args:
        trainings: `(trainer, model, data)` or `(trainer, model, data, ckpt_path)` each.

    Returns:
        The error in which each training ended; None for those that went well.

    Raises:
        StackError: the models cannot be trained together; says which setting differs. Nothing was trained.

    >>> from vae_lightning import VAE
    >>> train_stacked([])
    []
    """
    every = [Training(*training) for training in trainings]
    for owner, name in (("trainer", "a Trainer"), ("model", "a model"), ("data", "a data module")):
        if len({id(getattr(training, owner)) for training in every}) < len(every):
            raise StackError(f"{owner}: each training of a stack needs {name} of its own")

    for training in every:
        reason = reason_against(training.trainer, training.model)
        if reason is not None:
            raise StackError(f"trainer: cannot train in a stack of models, because {reason}")
    require_models_alike([training.model for training in every if isinstance(training.model, Module)])

    def fitting(training: Training) -> Callable[[], None]:
        def fit() -> None:
            install(training.trainer, training.model, compile=True)
            training.trainer.fit(training.model, datamodule=training.data, ckpt_path=training.ckpt_path)

        return fit

    return [outcome.error for outcome in run_stacked([fitting(training) for training in every])]


def run_stacked(functions: Sequence[Callable[[], Any]], own: Sequence[Own] = ()) -> list[Outcome]:
    """Run functions that each train a model after `engine.install`; the models take their steps together.

    Args:
        own: what each function has for itself of what the process has once.

    Raises:
        StackError: the models cannot be trained together; says which setting differs. Nothing was trained.
    """
    service = _Service()
    with handled(), noted(service.stop):
        turns = take_turns(functions, service.serve, own=own)
    service.dissolve()
    if service.refusal is not None:
        raise service.refusal
    for turn in turns:  # an exit, say, which is not a training's to end in
        if turn.error is not None and not isinstance(turn.error, Exception):
            raise turn.error
    return [Outcome(turn.result, turn.error if isinstance(turn.error, Exception) else None) for turn in turns]


class _Service:
    """Answers models that wait: makes the stack of those that begin, and takes the steps of those that want steps."""

    refusal: StackError | None = None
    """Why the models could not be trained together."""

    def __init__(self) -> None:
        self.stack: Stack | None = None
        self._stops: int | None = None

    def serve(self, turns: list[Turn]) -> None:
        requests = [turn.request for turn in turns]
        joining = [request for request in requests if isinstance(request, MemberGraph)]
        if self._stops is not None:
            for request in requests:
                _stop(request if isinstance(request, MemberGraph) else request.member, self._stops)
            self._stops = None
        going_on = [request for request in requests if isinstance(request, Steps)]
        if joining:
            self._begin(joining, [request.member for request in going_on])
            return
        assert self.stack is not None
        if 2 * len(going_on) <= len(self.stack.members):  # those that have left take as much time as if they still trained
            self._begin([], [request.member for request in going_on])
        self.stack.take(going_on)

    def _begin(self, joining: list[MemberGraph], others: list[MemberGraph]) -> None:
        self.dissolve()
        try:
            with patient() if others else nullcontext():  # no checkpoint has the steps of the others so far
                self.stack = Stack([*others, *joining])
        except StackError as error:
            self.refusal = error
            for member in joining:
                member.turn.answer(StackError(str(error)))
            return
        for member in joining:
            member.turn.answer(True)

    def dissolve(self) -> None:
        """Give all models tensors of their own."""
        for member in self.stack.members if self.stack is not None else []:
            member.leave()
        self.stack = None

    def stop(self, signum: int) -> None:
        """Let every training end in good order at its next steps, because of signal `signum`."""
        self._stops = signum


def _stop(member: MemberGraph, signum: int) -> None:
    stops = [callback for callback in member.trainer.callbacks if isinstance(callback, StopOnInterrupt)]  # type: ignore[attr-defined]
    for callback in stops:
        callback.tell(signum)
    if not stops:
        member.trainer.should_stop = True
