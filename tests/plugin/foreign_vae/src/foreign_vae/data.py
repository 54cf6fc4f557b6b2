"""Coloured images of five classes, drawn by code. The data module has no base class but Lightning's."""

from collections.abc import Iterator

import pytorch_lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

NAMES = ("rows", "columns", "rings", "checks", "plain")
SIZE = 32


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """`count` images `(N, 3, 32, 32)` in [0, 1] and their classes `(N,)`."""
    source = torch.Generator().manual_seed(seed)
    y = torch.randint(len(NAMES), (count,), generator=source)
    period = torch.randint(4, 9, (count, 1, 1), generator=source)
    phase = torch.randint(8, (count, 1, 1), generator=source)
    row = torch.arange(SIZE).view(1, -1, 1) + phase
    column = torch.arange(SIZE).view(1, 1, -1) + phase
    radius = ((row - SIZE / 2) ** 2 + (column - SIZE / 2) ** 2).sqrt().long()
    flat = torch.zeros(count, SIZE, SIZE, dtype=torch.int64)
    patterns = torch.stack([(p // period + flat) % 2 for p in (row, column, radius, row // period + column)] + [flat])
    pattern = patterns.gather(0, y.view(1, -1, 1, 1).expand(1, -1, SIZE, SIZE))[0]
    front, back = torch.rand(2, count, 3, 1, 1, generator=source)
    return torch.where(pattern.unsqueeze(1) == 1, front, back), y


class ByEpoch(Sampler[int]):
    """An order of training images that is a function of the epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        source = torch.Generator().manual_seed(1000 * self.seed + self.epoch)
        return iter(torch.randperm(self.count, generator=source).tolist())

    def __len__(self) -> int:
        return self.count


class Patterns(L.LightningDataModule):
    """32x32 images in colour with five classes."""

    image_shape = (3, SIZE, SIZE)
    num_classes = len(NAMES)
    label_names = NAMES

    def __init__(self, train_size: int = 160, test_size: int = 40, batch_size: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.sizes = {"train": train_size, "val": test_size, "test": test_size}
        self.batch_size, self.seed = batch_size, seed

    def _images(self, split: str) -> TensorDataset:
        return TensorDataset(*drawn(self.sizes[split], ("train", "val", "test").index(split)))

    def train_dataloader(self) -> DataLoader:
        images = self._images("train")
        return DataLoader(images, self.batch_size, sampler=ByEpoch(len(images), self.seed))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self._images("val"), self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self._images("test"), self.batch_size)

    def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        x, y = self._images(split).tensors
        if num_images is None or num_images >= len(x):
            return x, y
        chosen = torch.arange(num_images) * len(x) // num_images
        return x[chosen], y[chosen]
