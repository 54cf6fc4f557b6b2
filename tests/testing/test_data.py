"""Data modules with one fault each, and the sentence that finds it; real MNIST and rendered shapes have none."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning.data import MNISTDataModule
from vae_lightning.noise import generator
from vae_lightning.testing.data import DataContract, check_data


class Coloured(L.LightningDataModule):
    """Random images of two colours more than one, of three classes."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.image_shape, self.num_classes, self.label_names = (3, 4, 5), 3, ("a", "b", "c")
        if fault == "names":
            self.label_names = ("a", "b", "c", "d")  # type: ignore[assignment]
        if fault == "channels":
            self.image_shape = (2, 4, 5)
        if fault == "no labels":
            self.num_classes, self.label_names = 0, ()  # type: ignore[assignment]

    def all_images(self, split: str) -> tuple[Tensor, Tensor]:
        count = {"train": 20, "val": 7, "test": 8}[split]
        source = generator("same" if self.fault == "shared images" else split)
        x = torch.rand(count, *self.image_shape, generator=source)
        y = torch.arange(count) % 3
        faults: dict[str, Any] = {
            "255": lambda: (255 * x, y),
            "uint8": lambda: ((255 * x).byte(), y),
            "double": lambda: (x.double(), y),
            "nan": lambda: (torch.where(x < 0.01, torch.nan, x), y),
            "channels last": lambda: (x.movedim(1, -1), y),
            "one-hot": lambda: (x, torch.nn.functional.one_hot(y)),
            "labels from 1": lambda: (x, y + 1),
            "float labels": lambda: (x, y.float()),
            "drawn": lambda: ((torch.rand_like(x) < x).float(), y),
            "unlabelled": lambda: (x, y - 1),
            "a list": lambda: (x.tolist(), y),
            "images alone": lambda: x,
        }
        result: tuple[Tensor, Tensor] = faults.get(self.fault, lambda: (x, y))()
        return result

    def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        if self.fault in ("images alone", "a list"):
            return self.all_images(split)
        x, y = self.all_images(split)
        count = len(x) if num_images is None else min(num_images, len(x))
        if self.fault == "one too many":
            count = min(count + 1, len(x))
        places = torch.arange(count) if self.fault == "the first" else torch.arange(count) * len(x) // count
        return x[places], y[places]

    def train_dataloader(self) -> DataLoader[Any]:
        x, y = self.all_images("train")
        return DataLoader(TensorDataset(x + 1 if self.fault == "other batches" else x, y), batch_size=4)


EVALUATION = r"Coloured: evaluation_images\('train', None\): "
FAULTS = {
    "255": EVALUATION + r"pixels are from \S+ to 25\d\.\d+, not within \[0, 1\]",
    "uint8": EVALUATION + r"images are torch\.uint8, not torch\.float32",
    "double": EVALUATION + r"images are torch\.float64, not torch\.float32",
    "nan": EVALUATION + r"\d+ pixels are not finite",
    "channels last": EVALUATION + r"images have shape \(20, 4, 5, 3\), not \(20, 3, 4, 5\)",
    "one-hot": EVALUATION + r"labels have shape \(20, 3\), not \(20,\)",
    "labels from 1": EVALUATION + r"labels are from 1 to 3, and by num_classes=3 from 0 to 2",
    "no labels": EVALUATION + r"labels are from 0 to 2, and by num_classes=0 from 0 to 0",
    "unlabelled": EVALUATION + r"labels are from -1 to 1, and by num_classes=3 from 0 to 2",
    "float labels": EVALUATION + r"labels are torch\.float32, not torch\.int64",
    "a list": EVALUATION + r"images are a list, not a tensor",
    "images alone": EVALUATION + r"is a Tensor, not a pair of images and labels",
    "drawn": r"evaluation_images\('train'\) are others a second time",
    "the first": r"evaluation_images\('train', 3\): are not those at places \[0, 6, 13\] of 20",
    "one too many": r"evaluation_images\('train', 3\): are 4 images",
    "names": "label_names are 4, and num_classes is 3",
    "channels": r"image_shape is \(2, 4, 5\), not channels \(1 or 3\), height and width",
    "other batches": r"the first train batch: pixels are from 1\.\d+ to 2, not within \[0, 1\]",
}


def test_data_without_a_fault_pass() -> None:
    check_data(Coloured(), disjoint=True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[fault]):
        check_data(Coloured(fault))


def test_pixels_that_are_drawn_for_each_number_of_images_are_named_unless_that_is_said() -> None:
    class Redrawn(Coloured):
        def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
            x, y = super().evaluation_images(split, num_images)
            return (torch.rand(x.shape, generator=generator(split)) < x).float() if split == "train" else x, y

    check_data(Redrawn())
    with pytest.raises(AssertionError, match=r"evaluation_images\('train', 3\): are not those at places"):
        check_data(Redrawn(), redrawn=())


def test_an_image_that_is_in_two_splits_is_named_if_that_is_asked() -> None:
    check_data(Coloured("shared images"))
    with pytest.raises(AssertionError, match="image 0 of val is in train too"):
        check_data(Coloured("shared images"), disjoint=True)


def test_what_is_no_image_data_is_named() -> None:
    with pytest.raises(AssertionError, match=r"LightningDataModule: is no types\.ImageData, which has image_shape, num_classes"):
        check_data(L.LightningDataModule())


def test_real_images_pass(mnist_root: Path) -> None:
    class Described(MNISTDataModule):
        image_shape, num_classes, label_names = (1, 28, 28), 10, tuple("0123456789")

    data = Described(root=str(mnist_root), val_size=500)
    data.setup()  # a copy has no images, and reads them
    contract = DataContract.of(data, splits=("val",), disjoint=True, few=100)
    contract.data = lambda: data  # type: ignore[method-assign]
    contract.check()
    contract.splits = ("train", "val", "test")
    contract.test_batches_are_what_models_take()
