"""One turn of a contender: what it measured, or why it did not."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from roster import Contender
from running import Ended, run

CONTENDERS = Path(__file__).resolve().parent / "contenders"
TELLING = ("Lightning's own loop", "goes on without compiling", "not compiled")
"""What the fast path says where it is not taken."""


class Result(NamedTuple):
    """What one contender measured in one round, or why it did not."""

    measured: Mapping[str, float] | None
    why: str | None = None
    cores: float = 0.0
    """CPU seconds over wall seconds of the whole program."""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    """What the program said of how it went about its work: that it did not compile, say."""

    @property
    def speed(self) -> float | None:
        return None if self.measured is None else self.measured["images_per_second"]

    @property
    def said(self) -> str:
        """The result in a few words."""
        return f"failed: {self.why}" if self.speed is None else f"{self.speed:,.0f} images/s"


def turn(contender: Contender, python: str, limit: float, hear: Callable[[str], object] = lambda line: None) -> Result:
    """The result of one run of `contender`, for at most `limit` seconds; `hear` is called with each line that it writes."""
    command = [python, str(CONTENDERS / contender.script), *contender.arguments]
    try:
        return result_of(run(command, limit, folder=CONTENDERS, environment=contender.environment, hear=hear))
    except OSError as error:
        return Result(None, f"{python}: {error.strerror}")


def result_of(ended: Ended) -> Result:
    """The result of a contender that has ended, which is the last line of JSON that it wrote."""
    cores, seconds = ended.cpu_seconds / ended.seconds, ended.seconds
    if ended.why is not None:
        return Result(None, ended.why, cores, seconds)
    measured = _last_json(ended.lines)
    if measured is None:
        return Result(None, "ended without a result", cores, seconds)
    notes = dict.fromkeys(line.strip() for line in ended.lines if any(words in line for words in TELLING))
    return Result(measured, None, cores, seconds, tuple(notes))


def _last_json(lines: list[str]) -> dict[str, float] | None:
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                found: dict[str, float] = json.loads(line)
            except ValueError:
                continue
            return found
    return None
