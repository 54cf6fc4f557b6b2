"""Hydra's launcher `stacked`: the jobs of a sweep that differ in numbers only train together, a process a stack of models.

Which jobs go together is found before any of them starts (`commands.stacking`). Jobs that no other job is like, and those that turn
out as they start not to be like the others, are run as `basic` does, each in a process of its own, and a line says why.

This module is imported before a command's arguments are read, so it imports neither torch nor Lightning.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import ClassVar, Literal

from vae_lightning.arguments import require
from vae_lightning.commands.job import JobOfStack, environment_of_stack, take_apart
from vae_lightning.commands.processes import Processes
from vae_lightning.commands.tasks import Task
from vae_lightning.machine.screen import console

__all__ = ["Stacks"]

Ended = Callable[[Task, int], None]


class Stacks(Processes):
    """Hydra's launcher that trains jobs together which differ in numbers only.

    Args:
        jobs: how many stacks run at once; "auto": one a GPU, or one.
        stack: how many jobs train together at most; "auto": 16, or 64 on a GPU.
    """

    name: ClassVar[str] = "stacked"

    def __init__(self, jobs: int | Literal["auto"] = "auto", stack: int | Literal["auto"] = "auto") -> None:
        super().__init__(jobs)
        whole = isinstance(stack, int) and not isinstance(stack, bool) and stack >= 2
        require(stack == "auto" or whole, "hydra.launcher.stack", stack, "auto, or at least 2")
        self.stack = stack

    def together(self, gpus: int) -> int:
        """As many as the stacks that run at once can hold."""
        from vae_lightning.commands.stacking import largest

        return self.at_once(gpus) * largest(self.stack)

    def run(self, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Ended) -> int | None:
        """Run tasks, `at_once` stacks at a time; return the signal that ended it before its time, or None."""
        from vae_lightning.commands.stacking import grouped

        plan = grouped(tasks, self.stack, at_once)
        stacks = [_Stack([tasks[place] for place in places]) for places in plan.stacks]
        by_log = {stack.task.log: stack for stack in stacks}
        alone = [tasks[place] for place in plan.alone]
        for reason in dict.fromkeys(plan.alone.values()):
            _say_alone([tasks[place] for place, other in plan.alone.items() if other == reason], reason)

        def of_stack(task: Task, code: int) -> None:
            alone.extend(by_log[task.log].end(code, ended))

        signum = super().run([stack.task for stack in stacks], at_once, gpus, of_stack)
        # those of which another process had the claim
        alone += [task for stack in stacks for task in stack.tasks if task not in stack.started]
        return signum if signum is not None or not alone else super().run(alone, at_once, gpus, ended)


class _Stack:
    """Tasks that are one process."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = list(tasks)
        self.started: list[Task] = []
        """The tasks that the process is."""
        self._environment: dict[str, str] = {}
        first = self.tasks[0]
        self.task = Task(first.script, first.words, self._environment, first.log, self._claim, self._begins, first.config)

    @contextmanager
    def _claim(self) -> Iterator[list[int]]:
        """Claim the tasks that nobody else runs; the files that hold the claims, if there are several."""
        with ExitStack() as held:
            files = [held.enter_context(task.claim()) for task in self.tasks]
            mine = [task for task, its in zip(self.tasks, files, strict=True) if its]
            if len(mine) > 1:
                self.started = mine
                self._environment |= environment_of_stack([JobOfStack(t.words, t.environment, str(t.log)) for t in mine])
            yield [file for its in files for file in its] if len(mine) > 1 else []

    def _begins(self) -> None:
        _say(f"{len(self.started)} jobs together: {_named(self.started)}")

    def end(self, code: int, ended: Ended) -> list[Task]:
        """Say how each task ended; those that have to be run alone after all."""
        apart: dict[str, list[Task]] = {}
        for task in self.started:
            reason = take_apart(task.environment)
            if reason is None:
                ended(task, code)
            else:
                apart.setdefault(reason, []).append(task)
        for reason, tasks in apart.items():
            _say_alone(tasks, reason)
        return [task for tasks in apart.values() for task in tasks]


def _say_alone(tasks: Sequence[Task], reason: str) -> None:
    count = f"{len(tasks)} jobs train each alone" if len(tasks) > 1 else "one job trains alone"
    _say(f"{count}, not stacked: {reason} ({_named(tasks)})")


def _named(tasks: Sequence[Task]) -> str:
    names = [task.log.stem for task in tasks]
    return ", ".join(names if len(names) < 5 else [*names[:2], "...", names[-1]])


def _say(line: str) -> None:
    console().print(line, soft_wrap=True)
