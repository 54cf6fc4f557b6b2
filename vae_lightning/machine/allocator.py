"""Keep freed memory with the process, instead of returning it to the system and mapping it anew in every step.

A step on a small net allocates and frees the same few megabytes again and again. glibc returns such blocks to the system,
and a new block costs a page fault for each 4 KiB: a quarter of the time of an importance-weighted estimate.
"""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Names of settings in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let glibc keep up to 1 GiB of freed memory; whether it does so, which is False on systems with another allocator."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((TRIM_THRESHOLD, 1 << 30), (MMAP_THRESHOLD, 1 << 30), (TOP_PAD, 1 << 26))
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings)
