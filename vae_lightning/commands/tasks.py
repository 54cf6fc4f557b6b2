"""The commands that a sweep runs, and what can run them."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from omegaconf import DictConfig

__all__ = ["JobLauncher", "Task", "cores"]


@dataclass(frozen=True)
class Task:
    """A command to be run: a job of a sweep."""

    script: str
    """The script, train.py."""
    words: tuple[str, ...]
    """The words of the command line."""
    environment: Mapping[str, str]
    """Environment variables that the command has beside those of the sweep."""
    log: Path
    """The file for what the command prints, where it does not have the terminal for itself."""
    claim: Callable[[], AbstractContextManager[Sequence[int]]]
    """Gives a context whose value is the open files by which no other process runs the command; none if one does.

    A process that is given the files keeps the claim for as long as it lives.
    """
    begins: Callable[[], None]
    """Called before the command starts with the terminal for itself."""
    config: Callable[[], DictConfig]
    """Gives the config of the job."""


@runtime_checkable
class JobLauncher(Protocol):
    """What runs tasks."""

    def at_once(self, gpus: int) -> int:
        """How many tasks run at once, where each may have one of `gpus`."""

    def together(self, gpus: int) -> int:
        """How many tasks are trained at a time: those that run at once, or more, where several are one process."""

    def run(self, tasks: Sequence[Task], at_once: int, gpus: Sequence[str], ended: Callable[[Task, int], None]) -> int | None:
        """Run tasks, `at_once` at a time; return the signal that ended it before its time, or None.

        Args:
            gpus: the names of the GPUs, of which each place has one; empty: all tasks see what there is.
            ended: called with each task that came to its end, and its exit status; negative: the signal that killed it.
        """


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
