"""`all` for tests: of nothing it would hold whatever is wrong, so it has to be of something."""

import builtins
import sys
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def all_of_some(values: Iterable[object]) -> bool:
    """Python's `all`.

    Raises:
        AssertionError: of no values.
    """
    remaining = iter(values)
    for value in remaining:
        return bool(value) and builtins.all(remaining)
    raise AssertionError("all() of nothing: a test that cannot fail")


def refuse_all_of_nothing() -> None:
    """Let the files of tests that are imported by now use `all_of_some`."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(FOLDER) and module.__name__ != __name__:
            vars(module).setdefault("all", all_of_some)
