"""Small models, and what short fits of them wrote for TensorBoard."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from vae_lightning import VAE, MNISTDataModule
from vae_lightning.models.base import Module

Fit = Callable[..., tuple[L.Trainer, MNISTDataModule]]


class Written:
    """What a run's event files hold, by tag."""

    def __init__(self, folder: Path) -> None:
        self.events = EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}).Reload()

    def __getattr__(self, kind: str) -> list[str]:
        return list(self.events.Tags()[kind])

    def scalar(self, tag: str) -> list[float]:
        return [event.value for event in self.events.Scalars(tag)]

    def text(self, tag: str) -> list[str]:
        return [event.tensor_proto.string_val[0].decode() for event in self.events.Tensors(f"{tag}/text_summary")]

    def steps(self, tag: str) -> list[int]:
        return [event.step for event in self.events.Images(tag)]

    def tiles(self, tag: str, columns: int) -> Tensor:
        """The last image of `tag`, taken apart: `(N, 28, 28)` in [0, 1]."""
        picture = pil_to_tensor(Image.open(io.BytesIO(self.events.Images(tag)[-1].encoded_image_string)))[0] / 255
        rows = picture.shape[0] // 30
        places = [(2 + 30 * row, 2 + 30 * column) for row in range(rows) for column in range(columns)]
        return torch.stack([picture[top : top + 28, left : left + 28] for top, left in places])


def small(latent_dim: int = 3, kind: type[Module] = VAE, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return kind(latent_dim=latent_dim, net={"name": "mlp", "hidden": [16]}, **arguments)
