"""Convolutional encoders and decoders; a label enters as constant channels of the image, and beside z in the decoder.

The architectures are those of the conditional VAEs this project replaces: about 50,000 parameters, ReLU, no normalisation.
"""

import torch
from torch import Tensor, nn

from vae_lightning.arguments import require
from vae_lightning.nets.layers import Decoder, Encoder, Stack, initialise

__all__ = ["CNN2Decoder", "CNN2Encoder", "CNN3Decoder", "CNN3Encoder"]


class _ConvEncoder(Encoder):
    def entry(self, x: Tensor, y: Tensor | None) -> Tensor:
        if y is None:
            return x
        return torch.cat([x, y[:, :, None, None].expand(-1, -1, *x.shape[-2:])], dim=1)


class CNN2Encoder(_ConvEncoder):
    """Two convolutions of stride 2 without padding: 28 -> 12 -> 4 for `kernel=5`, 512 features."""

    def __init__(self, latent_dim: int, num_classes: int, kernel: int = 5, init: str = "he") -> None:
        super().__init__()
        require(2 <= kernel <= 8, "model.net.kernel", kernel, "from 2 to 8")
        size = 28
        for _ in range(2):
            size = (size - kernel) // 2 + 1
        self.body = Stack(
            nn.Conv2d(1 + num_classes, 16, kernel, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.add_heads(32 * size * size, latent_dim)
        initialise(self, init)


class CNN2Decoder(Decoder):
    """Dense to 7x7x8, then two transposed convolutions of stride 2 to 28x28. `kernel` is the encoder's; 5 is used here."""

    def __init__(self, latent_dim: int, num_classes: int, kernel: int = 5, init: str = "he") -> None:
        super().__init__()
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, 7 * 7 * 8),
            nn.ReLU(),
            nn.Unflatten(1, (8, 7, 7)),
            nn.ConvTranspose2d(8, 8, 5, stride=2, padding=2, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 5, stride=2, padding=2, output_padding=1),
        )
        initialise(self, init)


class CNN3Encoder(_ConvEncoder):
    """Three convolutions without padding: 28 -(k6 s3)-> 8 -(k4 s2)-> 3 -(k3 s1)-> 1, 64 features."""

    def __init__(self, latent_dim: int, num_classes: int, init: str = "he") -> None:
        super().__init__()
        self.body = Stack(
            nn.Conv2d(1 + num_classes, 16, 6, stride=3),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.add_heads(64, latent_dim)
        initialise(self, init)


class CNN3Decoder(Decoder):
    """Dense to 32 features, then transposed convolutions 1 -> 3 -> 7 -> 28."""

    def __init__(self, latent_dim: int, num_classes: int, init: str = "he") -> None:
        super().__init__()
        self.body = Stack(
            nn.Linear(latent_dim + num_classes, 32),
            nn.ReLU(),
            nn.Unflatten(1, (32, 1, 1)),
            nn.ConvTranspose2d(32, 16, 4, stride=3, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, stride=3, padding=2, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, stride=4),
        )
        initialise(self, init)
