"""Data: where images come from, how they become binary, how they become batches."""

from vae_lightning.data.array import ArrayDataModule
from vae_lightning.data.folder import FolderDataModule
from vae_lightning.data.mnist import FashionMNISTDataModule, KMNISTDataModule, MNISTDataModule
from vae_lightning.data.module import ImageDataModule
from vae_lightning.data.shapes2d import Shapes2DDataModule
from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

__all__ = [
    "ArrayDataModule",
    "FashionMNISTDataModule",
    "FolderDataModule",
    "ImageDataModule",
    "KMNISTDataModule",
    "MNISTDataModule",
    "Shapes2DDataModule",
]
