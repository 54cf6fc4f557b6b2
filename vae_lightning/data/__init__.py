"""Data: where images come from, how they become binary, how they become batches."""

from vae_lightning.data.mnist import FashionMNISTDataModule, KMNISTDataModule, MNISTDataModule

__all__ = ["FashionMNISTDataModule", "KMNISTDataModule", "MNISTDataModule"]
