"""Stages that share a number of seconds: each gets at most its own limit and what is left, and loses nothing for the others."""

import time
import traceback
from collections.abc import Callable, Iterable
from typing import NamedTuple

from record import Record


class Budget:
    """Seconds that are left of all, and of the present stage."""

    def __init__(self, seconds: float) -> None:
        self.ends = self.stage_ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that the present stage may still take."""
        return min(self.ends, self.stage_ends) - time.monotonic()

    @property
    def left_of_all(self) -> float:
        return self.ends - time.monotonic()


class OutOfTimeError(Exception):
    """A stage has no time left for what it still has to do; says for what."""


class Stage(NamedTuple):
    name: str
    work: Callable[[], None]
    """Does the stage, keeping to `Budget.left`; may raise anything."""
    limit: float
    """Seconds that it may take at most."""
    needs: float = 20.0
    """Seconds without which it is not begun."""


def go_through(stages: Iterable[Stage], budget: Budget, record: Record) -> None:
    """Do the stages in turn; one that fails, or for which no time is left, says so and leaves the others as they are."""
    for stage in stages:
        budget.stage_ends = time.monotonic() + stage.limit
        record.begin(stage.name)
        if budget.left < stage.needs:
            record.end("skipped", f"{budget.left_of_all:.0f} s are left, and it needs {stage.needs:.0f}")
            continue
        try:
            stage.work()
        except OutOfTimeError as error:
            record.end("out of time", str(error))
        except Exception as error:  # whatever a stage may raise: the next one is to be done all the same
            for line in traceback.format_exc().splitlines():
                record.log(line)
            record.end("failed", f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
        else:
            record.end("done")
