"""Nets that cut an image into patches, each described by a few numbers."""

import torch
from torch import Tensor, nn

from vae_lightning.nets import NetPair

PATCH = 8


class PatchEncoder(nn.Module):
    """Mean and log-variance of the latents, `(B, D)` each, of images `(B, C, H, W)`."""

    def __init__(self, latent_dim: int, num_classes: int, image_shape: tuple[int, int, int], width: int = 8) -> None:
        super().__init__()
        channels, height, rows = image_shape
        places = (height // PATCH) * (rows // PATCH)
        self.patches = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        self.heads = nn.Linear(places * width + num_classes, 2 * latent_dim)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.patches(x)).flatten(1)
        loc, log_variance = self.heads(features if y is None else torch.cat([features, y], 1)).chunk(2, 1)
        return loc, log_variance


class PatchDecoder(nn.Module):
    """Parameters `(B, outputs * C, H, W)` of a likelihood of latents `(B, D)`."""

    def __init__(
        self, latent_dim: int, num_classes: int, image_shape: tuple[int, int, int], outputs: int = 1, width: int = 8
    ) -> None:
        super().__init__()
        channels, height, rows = image_shape
        self.size = (width, height // PATCH, rows // PATCH)
        self.features = nn.Linear(latent_dim + num_classes, width * (height // PATCH) * (rows // PATCH))
        self.patches = nn.ConvTranspose2d(width, outputs * channels, PATCH, stride=PATCH)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        features = torch.tanh(self.features(z if y is None else torch.cat([z, y], 1)))
        image: Tensor = self.patches(features.unflatten(1, self.size))
        return image


patches = NetPair(encoder=PatchEncoder, decoder=PatchDecoder)
