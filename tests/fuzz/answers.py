"""What an answer may be to something made up: a result, or one line of an error of this project, and nothing is written."""

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import contextlib  # isort: skip
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bad_input import state
from hypothesis import strategies as st
from test_bad_input import require_one_line

from vae_lightning.commands.commandline import one_line_errors
from vae_lightning.errors import VAELightningError

__all__ = ["Target", "answered", "refused_in_one_line", "unchanged"]


class Target(NamedTuple):
    """What is examined, and what it is given."""

    given: Mapping[str, st.SearchStrategy[Any]]
    """Strategies by the name of the argument."""
    examine: Callable[..., None]
    """Raises anything where the answer is none that it may be."""


LONGEST = 3000


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """A block that comes to its end, or is ended by an error of this project's in one line."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except VAELightningError as error:
        assert str(error).isprintable(), str(error)  # noqa: PT017
        assert len(str(error)) < LONGEST  # noqa: PT017


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """A block that changes nothing in a folder."""
    before = state(folder)
    yield
    assert state(folder) == before


def refused_in_one_line(command: Callable[[], None]) -> None:
    """Give a command, which is well or ends with status 2 and one line of an error."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        try:
            with one_line_errors():
                command()
        except SystemExit as end:
            assert end.code == 2, said.getvalue()  # noqa: PT017
            errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
            require_one_line("\n".join(errors))
