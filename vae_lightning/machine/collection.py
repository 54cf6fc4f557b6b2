"""Python's garbage collector while modules are imported and graphs are traced, which make a million objects and hardly any garbage.

By default, Python looks through all objects again and again as their number grows: a quarter of the time of an import of torch and
Lightning, and as much of tracing a graph.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collect_seldom", "end_of_imports", "seldom_collected"]

SELDOM = (200_000, 20, 100)
"""Thresholds of `gc.set_threshold` for a phase without garbage; what little there is goes nevertheless."""
USUAL = gc.get_threshold()


def collect_seldom() -> None:
    """Look for garbage seldom from now on, until `end_of_imports`."""
    gc.set_threshold(*SELDOM)


def end_of_imports() -> None:
    """Look for garbage as usual, and no more among what there is by now: modules, classes and functions, which stay.

    Only the first call after `collect_seldom` does so: later there are models and data, which go.
    """
    if gc.get_threshold() == SELDOM:
        gc.freeze()
        gc.set_threshold(*USUAL)


@contextmanager
def seldom_collected() -> Iterator[None]:
    """A block in which Python looks for garbage seldom."""
    before = gc.get_threshold()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
