"""What the processor of this machine can compute quickly, and whether others use it."""

import os
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["BFLOAT16_IS_SLOW", "computes_in_bfloat16", "load_of_others"]

CAPABILITIES = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16")
"""Names, as torch gives them, of instructions that multiply numbers in bfloat16: of x86 processors, and the last two of ARM's."""
BFLOAT16_IS_SLOW = "this processor has no products in bfloat16, and emulates them several times slower than float32"
"""What to say where bfloat16 is asked for on a processor without it."""


def computes_in_bfloat16() -> bool | None:
    """Whether the processor multiplies in bfloat16 by instructions of its own; None where torch does not say."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 has none
    return any(capabilities.get(name, False) for name in CAPABILITIES) if capabilities else None


def load_of_others() -> float | None:
    """How many processes have wanted a core in the last minute, in the mean; None if there are more cores than that.

    Threads of a training wait for one another by spinning, which costs most of their speed where other programs have their cores.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return load if load >= (os.cpu_count() or 1) else None
