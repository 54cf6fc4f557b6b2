"""Lightning's clipping of gradients, as tensor operations inside a graph."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["clipped"]


def clipped(gradients: Sequence[Tensor], value: Tensor, algorithm: str = "norm") -> list[Tensor]:
    """The gradients as Lightning's `clip_gradients` leaves them, as new tensors; traceable.

    Args:
        gradients: of all parameters, of any shapes.
        value: 0-dim: the largest norm of all gradients together, or the largest absolute value of an element.
        algorithm: "norm" or "value".

    >>> clipped([torch.tensor([3.0]), torch.tensor([4.0])], torch.tensor(1.0))
    [tensor([0.6000]), tensor([0.8000])]
    """
    if algorithm == "value":
        return [gradient.clamp(-value.to(gradient.dtype), value.to(gradient.dtype)) for gradient in gradients]
    norm = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]).norm()
    # torch's clip_grad_norm_ divides by the same sum, and multiplies by 1 where nothing is to be clipped
    factor = (value.to(norm.dtype) / (norm + 1e-6)).clamp(max=1.0)
    return [gradient * factor.to(gradient.dtype) for gradient in gradients]
