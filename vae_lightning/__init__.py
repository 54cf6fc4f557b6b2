"""Variational autoencoders on binarized MNIST, as PyTorch Lightning modules.

>>> from vae_lightning import VAE, MNISTDataModule
>>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [128]})
>>> model.sample(3).shape
torch.Size([3, 1, 28, 28])
"""

from vae_lightning import torchvision_compat  # noqa: F401  (first: Lightning imports torchvision)
from vae_lightning.data import FashionMNISTDataModule, KMNISTDataModule, MNISTDataModule
from vae_lightning.models import CVAE, IWAE, VAE, BetaVAE, CapacityVAE, Classifier

__all__ = [
    "CVAE",
    "IWAE",
    "VAE",
    "BetaVAE",
    "CapacityVAE",
    "Classifier",
    "FashionMNISTDataModule",
    "KMNISTDataModule",
    "MNISTDataModule",
]
__version__ = "0.1.0"
