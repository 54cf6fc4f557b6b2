"""The operations that the page computes: the keys of the table in `templates/operations.js`."""

import re
from functools import cache
from importlib.resources import files

__all__ = ["known_operations", "script"]

KEY = re.compile(r'^  "([\w.]+)":', re.MULTILINE)


def script(name: str) -> str:
    """The text of a file of the page."""
    return (files("vae_lightning.explorer") / "templates" / name).read_text(encoding="utf-8")


@cache
def known_operations() -> frozenset[str]:
    """Names of operations as graphs have them, without torch's `aten.`; `py.` before those of Python itself.

    >>> {"addmm.default", "convolution.default", "py.mul"} <= known_operations()
    True
    """
    return frozenset(KEY.findall(script("operations.js")))
