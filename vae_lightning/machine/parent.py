"""A process that another one has started ends when that one dies, however busy it is."""

import contextlib
import os
import threading
import time

__all__ = ["ended_with_parent"]

SECONDS = 2.0
"""How often a process looks for its parent."""


def ended_with_parent() -> None:
    """Have this process watched, and ended when the process dies that has started it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS)
        with contextlib.suppress(OSError, ValueError):
            os.write(2, f"error: process {parent}, which started this one, has died; this one ends with it\n".encode())
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
