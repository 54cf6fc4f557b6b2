"""The numbers of a page: weights and images in one block of bytes, each tensor once, large ones as float16."""

import base64
import hashlib
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vae_lightning.errors import ConfigurationError

__all__ = ["SMALL", "Constants", "Width"]

Width = Literal["float16", "float32"]
"""How large tensors of floating-point numbers are kept."""
SMALL = 1024
"""Tensors of up to so many numbers are kept as float32: biases, shifts, a mixture's constants."""
KINDS = {torch.float16: "f2", torch.float32: "f4", torch.int32: "i4", torch.uint8: "u1", torch.bool: "b1"}


class Constants:
    """Tensors by number, in the form that the page reads.

    >>> constants = Constants()
    >>> constants.add(torch.zeros(3)), constants.add(torch.ones(3)), constants.add(torch.zeros(3))
    (0, 1, 0)
    >>> constants.to_plain()["tensors"]
    [['f4', [3], 0], ['f4', [3], 12]]
    """

    def __init__(self, width: Width = "float16") -> None:
        self.width = width
        self._kept: list[Tensor] = []
        self._numbers: dict[str, int] = {}

    def add(self, value: Tensor) -> int:
        """The number of `value`, which is kept once however often it comes.

        Raises:
            ConfigurationError: it holds numbers that no page can hold, such as complex ones.
        """
        kept = self._rounded(value.detach().cpu()).contiguous()
        name = hashlib.sha256(repr((kept.dtype, kept.shape)).encode() + kept.numpy().tobytes()).hexdigest()
        if name not in self._numbers:
            self._numbers[name] = len(self._kept)
            self._kept.append(kept)
        return self._numbers[name]

    def __getitem__(self, number: int) -> Tensor:
        """A tensor as the page has it, rounded."""
        return self._kept[number]

    def to_plain(self) -> dict[str, Any]:
        """`bytes` in base64, and of each tensor its kind, shape and place in them."""
        block, tensors = bytearray(), []
        for kept in self._kept:
            block.extend(b"\0" * (-len(block) % 4))
            tensors.append([KINDS[kept.dtype], list(kept.shape), len(block)])
            values = kept.numpy()
            block.extend((np.packbits(values, bitorder="little") if values.dtype == bool else values).tobytes())
        return {"bytes": base64.b64encode(block).decode(), "tensors": tensors}

    def _rounded(self, value: Tensor) -> Tensor:
        if value.dtype in (torch.bool, torch.uint8):
            return value
        if value.is_complex():
            raise ConfigurationError("complex numbers: the page cannot hold them")
        if not value.is_floating_point():
            if value.numel() and int(value.abs().max()) >= 2**31:
                raise ConfigurationError("whole numbers of 2^31 and more: the page cannot hold them")
            return value.int()
        # what the model computes in double precision loses too much by ten bits: narrow components of a mixture, for example
        if self.width == "float16" and value.numel() > SMALL and value.dtype != torch.float64:
            half = value.half()
            if bool((half.isfinite() == value.isfinite()).all()):
                return half
        return value.float()
