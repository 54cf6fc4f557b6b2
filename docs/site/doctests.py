"""Sets the examples in docstrings as code; the reader of docstrings does so below a heading "Examples:" alone.

MkDocs takes the class for an extension of griffe, https://mkdocstrings.github.io/griffe/guide/users/extending/.
"""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"(?m)^([ ]*)>>> .*(?:\n[ ]*\S.*)*")


def with_fences(text: str) -> str:
    """A docstring whose examples, from `>>>` to the next empty line, are blocks of code."""
    return EXAMPLE.sub(lambda example: f"{example[1]}```pycon\n{example[0]}\n{example[1]}```", text)


class Doctests(Extension):
    """Changes the docstring of every object that is read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Set the examples of one object as code."""
        if obj.docstring is not None:
            obj.docstring.value = with_fences(obj.docstring.value)
