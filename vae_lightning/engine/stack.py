"""Tensors of many models stacked, `(M, ...)` each, and one compiled graph that takes a step of all of them.

The tensors of each model are views into the stack, so that validation, callbacks and checkpoints see the present values. The
function of a step is that of one model alone (`engine.function`), under `torch.vmap`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from vae_lightning.engine.function import Choice, Result, State, StepFunction
from vae_lightning.engine.graph import Moment, StepGraph
from vae_lightning.engine.stackable import require_alike
from vae_lightning.engine.turns import Turn
from vae_lightning.errors import StackError
from vae_lightning.machine.compilation import compiled, leaves
from vae_lightning.noise import Source

__all__ = ["MemberGraph", "Stack", "Steps"]


class Moments(NamedTuple):
    """What goes into several steps of one model beside its state: `n` batches of `B` images."""

    chosen: Tensor
    """int64 `(n, B)`: the places of the images in the resident split."""
    places: Tensor
    """int32 `(n, B)`: what tells the images apart."""
    of_data: Tensor
    """The key of the noise of preparing images, int32 `(2,)`."""
    of_model: Tensor
    """The key of the model's noise, int32 `(2,)`."""


class Steps(NamedTuple):
    """What a member of a stack waits for: steps, or as many of them as all members can take together."""

    member: "MemberGraph"
    moments: Moments
    after: Callable[[], None] | None = None
    """Called after each step that was taken, if the next one depends on it."""


class Taken(NamedTuple):
    """The answer to `Steps`."""

    steps: int
    """How many steps were taken; fewer than were asked for where the loss of the next is not finite, or others asked for fewer."""
    losses: Tensor
    """The losses of all models in the last step, `(M,)`; one that is not finite is of a step that was not taken."""
    gradients: list[Tensor]
    """The gradients of all models in the last step, `(M, ...)` each."""


class MemberGraph(StepGraph):
    """The step of one model of a stack: its tensors are views, and its steps are taken with those of the others.

    Args:
        turn: of the function that trains the model.
    """

    place: int
    """Which of the stack's models it is."""

    def __init__(self, turn: Turn, trainer: Any, model: Any) -> None:
        super().__init__(trainer, model)
        self.turn = turn
        self._views: list[Tensor] = []

    def reason_against(self, inputs: Any) -> str | None:
        reason = super().reason_against(inputs)
        if reason is not None:
            raise StackError(f"model: cannot be trained in a stack, because {reason}")
        return None

    def _compiled(self, first: Moment) -> Any:
        if self.update is None:
            name = self.model.optimizer["name"]
            raise StackError(f"optimizer.name={name}: cannot be trained in a stack; use adam or adamw")
        if self.data is None:
            raise StackError("data: prepares its batches in a way of its own, which a stack of models cannot; train alone")
        batch, noise = first
        assert isinstance(batch, Choice)
        assert isinstance(noise, Source)
        self.first = Moments(batch.places.unsqueeze(0), batch.source.places.unsqueeze(0), batch.source.key, noise.key)
        return self.turn.wait(self)

    def reside(self, place: int, stacked: State) -> None:
        """Let the model's tensors be views into those of a stack."""
        assert self.update is not None
        self.place = place
        mine = tree_map(lambda tensor: tensor[place], stacked._replace(resident=()))
        parameters = dict(self.model.named_parameters())
        for name, view in zip(self.function.names, [*mine.trained, *mine.others], strict=True):
            if name in parameters:
                parameters[name].data = view
            else:
                _set_buffer(self.model, name, view)
        self.update.reside(mine.optimizer, mine.settings[:-1])
        self._twins, self._numbers, self._sums, self._step = mine.twins, mine.numbers, mine.sums, mine.step
        self._clip_value = mine.settings[-1]
        self.look()

    def leave(self) -> None:
        """Give the model, and its optimizer, tensors of their own again."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone()
            parameter.grad = None if parameter.grad is None else parameter.grad.clone()
        for name, buffer in list(self.model.named_buffers()):
            _set_buffer(self.model, name, buffer.clone())
        for held in self.trainer.optimizers[0].state.values() if self.trainer.optimizers else ():
            held.update({name: tensor.clone() for name, tensor in held.items() if isinstance(tensor, Tensor)})

    def is_resident(self, stacked: State) -> bool:
        """Whether the model's tensors still are those of the stack."""
        held = zip(leaves(self.state._replace(resident=())), leaves(stacked._replace(resident=())), strict=True)
        return all(mine.data_ptr() == all_of[self.place].data_ptr() for mine, all_of in held)

    def share_images(self, other: "MemberGraph") -> None:
        """Use the images in memory of another model."""
        self.loader.images, self.loader.labels = other.state.resident

    def moments(self, numbers: range) -> Moments:
        """What goes into the steps on batches `numbers` of the loader, which nobody has fetched."""
        chosen, places = self.loader.chosen_together(numbers)
        return Moments(chosen, places, *self.keys)

    def run(self, moment: Moment) -> Result:
        batch, noise = moment
        assert isinstance(batch, Choice)
        assert isinstance(noise, Source)
        moments = Moments(batch.places.unsqueeze(0), batch.source.places.unsqueeze(0), batch.source.key, noise.key)
        taken = self._wait(Steps(self, moments))
        return Result(taken.losses[self.place], [gradient[self.place] for gradient in taken.gradients], None)

    def run_many(self, numbers: range, after: Callable[[], None] | None = None) -> int:
        """Take the steps on batches `numbers`, from the first on, with a call of `after` after each; how many were taken."""
        return self._wait(Steps(self, self.moments(numbers), after)).steps

    def _wait(self, request: Steps) -> Taken:
        assert self.update is not None
        self.update.settings()  # a schedule may have gone on since `look`
        taken: Taken = self.turn.wait(request)
        return taken


def _set_buffer(model: nn.Module, name: str, view: Tensor) -> None:
    owner, _, own_name = name.rpartition(".")
    model.get_submodule(owner)._buffers[own_name] = view


class _StackedFunction(StepFunction):
    """The function of one model's step; the last of the settings says whether the model still takes steps."""

    def _laid_out(self, gradients: list[Tensor], parameters: list[Tensor]) -> list[Tensor]:
        return gradients  # an update within the graph pairs numbers by their indices

    def _stepped(self, state: State, loss: Tensor, gradients: list[Tensor], sums: Tensor, valid: Tensor | None = None) -> Result:
        *settings, going = state.settings
        valid = going & loss.isfinite()
        going.copy_(valid)
        return super()._stepped(state._replace(settings=settings), loss, gradients, sums, valid)


class Stack:
    """The tensors and the graph of `members`, which wait for their first step.

    Raises:
        StackError: the models cannot be trained together; says which key differs.
    """

    def __init__(self, members: Sequence[MemberGraph]) -> None:
        require_alike(members)
        self.members = list(members)
        first = members[0]
        self.going = torch.ones(len(members), dtype=torch.bool, device=first.state.step.device)
        states = [member.state._replace(resident=()) for member in members]
        self.state: State = tree_map(lambda *tensors: torch.stack(tensors), *states)._replace(resident=first.state.resident)
        for place, member in enumerate(members):
            # one copy of the images for all
            member.share_images(first)
            member.reside(place, self.state)
        self._graph = self._compiled(first)

    def _compiled(self, first: MemberGraph) -> Callable[[list[Tensor]], tuple[Tensor, list[Tensor]]]:
        of_one = first.function
        function = _StackedFunction(
            of_one.model, of_one.names, of_one.precision, of_one.update, of_one.clipping, of_one.loader, of_one.prepared
        )
        state = self.state._replace(settings=[*self.state.settings, self.going])
        of_state: list[Any] = [None if name == "resident" else 0 for name in State._fields]
        dimensions = (State(*of_state), 0, 0)

        def one(state: State, batch: Choice, noise: Source) -> tuple[Tensor, list[Tensor]]:
            result = function(state, batch, noise)
            return result.loss, result.gradients

        many = torch.vmap(one, in_dims=dimensions)
        self._leaves = leaves(state)
        twins = list(zip(state.trained, state.twins, strict=False))
        choice, source = next(_steps([member.first for member in self.members], 1))
        graph = compiled(many, state, choice, source, twins=twins, few=len(self.members))
        if graph is not None:
            return lambda own: graph.of_leaves([*self._leaves, *own])
        return lambda own: many(state, Choice(own[0], Source(*own[1:3])), Source(*own[3:]))

    @torch.no_grad()
    def take(self, requests: Sequence[Steps]) -> None:
        """Take as many steps as all that ask for steps can take together, and answer."""
        asking = [request.member for request in requests]
        places = [member.place for member in asking]
        for member in asking:
            if not member.is_resident(self.state):
                self._take_in(member)
        self.going.zero_()
        self.going[places] = True
        before = self.state.step.clone()
        dependent = [request for request in requests if request.after is not None]
        looks = bool(dependent) or self.going.device.type == "cpu"
        chosen = {request.member.place: request.moments for request in requests}
        # a model that has left the stack repeats what another one does, and changes nothing
        moments = [chosen.get(place, requests[0].moments) for place in range(len(self.members))]
        for choice, source in _steps(moments, min(len(request.moments.chosen) for request in requests)):
            losses, gradients = self._graph(leaves((choice, source)))
            if looks and not bool(self.going[places].all()):
                break
            for request in dependent:
                assert request.after is not None
                assert request.member.update is not None
                request.after()
                request.member.update.settings()
        taken = (self.state.step - before).tolist()
        for member in asking:
            member.turn.answer(Taken(int(taken[member.place]), losses, gradients))

    def _take_in(self, member: MemberGraph) -> None:
        """Copy tensors that somebody has put in the place of a member's to where they belong."""
        held = zip(leaves(member.state._replace(resident=())), leaves(self.state._replace(resident=())), strict=True)
        for mine, all_of in held:
            if mine.data_ptr() != all_of[member.place].data_ptr():
                all_of[member.place].copy_(mine)
        member.reside(member.place, self.state)


def _steps(moments: Sequence[Moments], count: int) -> Iterator[tuple[Choice, Source]]:
    """The batches `(M, B)`, and where their noise comes from, of `count` steps of all models."""
    index, places = (torch.stack([part[:count] for part in parts], 1) for parts in zip(*(m[:2] for m in moments), strict=True))
    of_data, of_model = (torch.stack(keys) for keys in zip(*(m[2:] for m in moments), strict=True))
    for number in range(count):
        yield Choice(index[number], Source(of_data, places[number])), Source(of_model, places[number])
