"""Functions that run in threads of their own, one at a time, and stop where they have to wait for each other.

`take_turns` runs each function in a thread, and gives the turn from one to the next. A function keeps the turn until it `waits` or
ends. Once every function waits, they are served all at once, by the thread that called `take_turns`. So code that knows of only one
training (Lightning's loop, callbacks, loggers) stays as it is, and many trainings meet at their steps.

A function has, while it has the turn, global random numbers and filters of warnings of its own, and whatever else of the process
is said to be each function's own (`Own`).
"""

import random
import threading
import warnings
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["Own", "Turn", "present_turn", "take_turns"]

_PRESENT: ContextVar["Turn | None"] = ContextVar("turn", default=None)


def present_turn() -> "Turn | None":
    """The turn of the function that runs in this thread; None outside of `take_turns`."""
    return _PRESENT.get()


class Own(NamedTuple):
    """Something that the process has once, and that each function of `take_turns` has for itself while it has the turn."""

    get: Callable[[], Any]
    """What the process has now."""
    set: Callable[[Any], None]
    """Puts there what `get` has given."""


class Turn:
    """One function of `take_turns`.

    Args:
        number: its place among the functions.
        everyone: what all functions share.
        own: what the function has for itself beside random numbers and filters of warnings; begins as the process has it.
    """

    request: Any = None
    """What the function waits for; None if it does not wait."""
    result: Any = None
    """What the function has returned."""
    error: BaseException | None = None
    """What the function has raised."""
    done: bool = False

    def __init__(self, number: int, function: Callable[[], Any], everyone: Any, own: Sequence[Own] = ()) -> None:
        self.number, self.everyone = number, everyone
        self._own = (Own(_global_state, _set_global_state), *own)
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._answer: Any = None
        self._mine = [each.get() for each in self._own]
        self._thread = threading.Thread(target=self._run, args=(function,), name=f"turn {number}", daemon=True)
        self._begun = False

    def wait(self, request: Any) -> Any:
        """Hand the turn on until everyone waits and `request` is answered; the answer, which is raised if it is an exception."""
        self.request = request
        self._back.release()
        self._go.acquire()
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def answer(self, answer: Any) -> None:
        """Answer the request; the function goes on when it has the turn."""
        self._answer, self.request = answer, None

    def give(self) -> None:
        """Let the function run until it waits or ends."""
        before = [each.get() for each in self._own]
        self._put(self._mine)
        if self._begun:
            self._go.release()
        else:
            self._begun = True
            self._thread.start()
        self._back.acquire()
        self._mine = [each.get() for each in self._own]
        self._put(before)

    def _put(self, states: Sequence[Any]) -> None:
        for each, state in zip(self._own, states, strict=True):
            each.set(state)

    def _run(self, function: Callable[[], Any]) -> None:
        _PRESENT.set(self)
        try:
            self.result = function()
        except BaseException as error:  # also what ends a program, which must not be lost in a thread
            self.error = error
        self.done = True
        self._back.release()


def take_turns(
    functions: Sequence[Callable[[], Any]], serve: Callable[[list[Turn]], None], everyone: Any = None, own: Sequence[Own] = ()
) -> list[Turn]:
    """Run `functions` until all have ended.

    Args:
        serve: answers at least one of the turns that wait; called whenever all functions that have not ended wait.
        everyone: what all functions share, found by `present_turn().everyone`.
        own: what each function has for itself, and the caller too.
    """
    turns = [Turn(number, function, everyone, own) for number, function in enumerate(functions)]
    while not all(turn.done for turn in turns):
        for turn in turns:
            if not turn.done and turn.request is None:
                turn.give()
        waiting = [turn for turn in turns if not turn.done]
        if waiting:
            serve(waiting)
    return turns


def _global_state() -> tuple[Any, ...]:
    """Global random numbers, and filters of warnings."""
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), devices, warnings.filters


def _set_global_state(state: tuple[Any, ...]) -> None:
    of_python, of_numpy, of_torch, devices, filters = state
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.set_rng_state(of_torch)
    if devices is not None:
        torch.cuda.set_rng_state_all(devices)
    warnings.filters = filters
