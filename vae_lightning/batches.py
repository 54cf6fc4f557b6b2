"""Check that a batch of images is what models can take, whichever data module made the batch, without slowing training down.

The first batch of a loop is checked as a whole. In later batches labels are checked on the CPU, where that costs nothing. Reading a
label from a GPU would wait for all its work, so on a GPU a label that no class has becomes NaN where the model uses it
(`VAE.one_hot`), and then the loss is NaN too.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vae_lightning.errors import DataError, kind_of

__all__ = ["CHANNELS", "CONTRACT", "are_binary", "check_batch", "check_labels"]

CONTRACT = (
    "a batch must be (x, y): images x float32 in [0, 1] of shape (B, C, H, W), C being 1 or 3, and labels y int64 of shape (B,), "
    "zeros if there are none"
)
CHANNELS = (1, 3)
"""Grey, or red, green and blue: what can be drawn."""
ROUNDING = 1e-6
"""How far a pixel may lie outside of [0, 1], as resizing leaves it."""


def check_batch(
    batch: Any,
    split: str,
    dtype: torch.dtype = torch.float32,
    image_shape: Sequence[int] | None = None,
    source: str = "the first {split} batch",
) -> tuple[Tensor, Tensor]:
    """The images and labels in `batch`, checked. For single batches only: the check waits for a GPU.

    Args:
        split: "train", "val" or "test", for the message.
        dtype: the model's dtype, which images may have instead of float32.
        image_shape: channels, height and width of the images that the model is built for; None: any.
        source: where the batch is from, for the message.

    Raises:
        DataError: images or labels are of another kind or shape; the message says which, and what to do.

    >>> check_batch((torch.full((2, 1, 28, 28), 255.0), torch.zeros(2)), "train")
    Traceback (most recent call last):
    ...
    vae_lightning.errors.DataError: data: the first train batch has x from 255 to 255 (divide by 255); a batch must be (x, y): ...
    """
    problem, where = _problem(batch, dtype), source.format(split=split)
    if problem:
        raise DataError(f"data: {where} {problem}; {CONTRACT}")
    x, y = batch
    if image_shape is not None and x.shape[1:] != tuple(image_shape):
        raise DataError(
            f"data: {where} has images of shape {tuple(x.shape[1:])}, and the model is built for "
            f"{tuple(image_shape)}: build it with image_shape={list(x.shape[1:])}, or give it images of its shape"
        )
    return x, y


def are_binary(x: Tensor) -> bool:
    """Whether all pixels of images are 0 or 1.

    >>> are_binary(torch.tensor([0.0, 1.0])), are_binary(torch.tensor([0.0, 0.5]))
    (True, False)
    """
    return bool(((x == 0) | (x == 1)).all())


def check_labels(y: Tensor, lowest: int, classes: int) -> None:
    """Refuse labels `(B,)` that are not from `lowest` to below `classes`.

    Raises:
        DataError: a label is outside; the message names the smallest and the largest label.
    """
    if len(y) and not lowest <= int(y.min()) <= int(y.max()) < classes:
        raise DataError(f"labels: found {int(y.min())} to {int(y.max())}, but the model knows 0 to {classes - 1}")


def _problem(batch: Any, dtype: torch.dtype) -> str | None:
    """What is wrong with a batch, in words; None if nothing is."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        has = f" of {len(batch)}" if isinstance(batch, (tuple, list, dict)) else ""
        return f"is {kind_of(batch)}{has}"
    for name, value in zip("xy", batch, strict=True):
        if not isinstance(value, Tensor):
            return f"has {kind_of(value)} as {name}"
    return _problem_of_images(batch[0], dtype) or _problem_of_labels(batch[1], len(batch[0]))


def _problem_of_images(x: Tensor, dtype: torch.dtype) -> str | None:
    if x.dtype not in (torch.float32, dtype):
        scaled = ".float() / 255" if x.dtype == torch.uint8 else ".float()"
        return f"has x of {_name(x.dtype)} (take x{scaled})"
    if x.ndim != 4 or not x.numel() or x.shape[1] not in CHANNELS:
        return f"has x of shape {tuple(x.shape)}"
    low, high = (value.item() for value in x.detach().aminmax())
    if low != low or high != high or high - low == float("inf"):
        return "has x that are not finite"
    if low < -ROUNDING or high > 1 + ROUNDING:
        return f"has x from {low:.4g} to {high:.4g}" + (" (divide by 255)" if low >= 0 and 1 < high <= 255 else "")
    return None


def _problem_of_labels(y: Tensor, count: int) -> str | None:
    if y.dtype != torch.int64:
        return f"has y of {_name(y.dtype)}"
    if y.shape != (count,):
        one_hot = " (take y.argmax(1) of one-hot labels)" if y.ndim == 2 else ""
        return f"has y of shape {tuple(y.shape)} for {count} images{one_hot}"
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
