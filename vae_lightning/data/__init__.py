"""Data: where images come from, how they become binary, how they become batches."""

from vae_lightning import torchvision_compat  # noqa: F401  (before anything that imports Lightning)
from vae_lightning.data.mnist import FashionMNISTDataModule, KMNISTDataModule, MNISTDataModule
from vae_lightning.data.shapes2d import Shapes2DDataModule

__all__ = ["FashionMNISTDataModule", "KMNISTDataModule", "MNISTDataModule", "Shapes2DDataModule"]
