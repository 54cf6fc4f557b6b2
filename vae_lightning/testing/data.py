"""The contract of data modules: images and labels of the right kind, the same at every evaluation."""

from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor

from vae_lightning.errors import kind_of
from vae_lightning.noise import global_noise
from vae_lightning.testing.claims import Contract, claim, reports
from vae_lightning.types import UNLABELLED, ImageData

__all__ = ["DataContract", "check_data"]


class DataContract(Contract):
    """A `types.ImageData`: a LightningDataModule whose images can be trained on, evaluated and drawn.

    >>> class Stripes:
    ...     image_shape, num_classes, label_names = (1, 4, 4), 0, ()
    ...
    ...     def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
    ...         x = torch.eye(4).view(4, 1, 1, 4).expand(4, 1, 4, 4)
    ...         chosen = torch.arange(num_images or 4) * 4 // (num_images or 4)
    ...         return x[chosen], torch.zeros(len(chosen), dtype=torch.int64)
    >>> class TestMyData(DataContract):
    ...     def make(self) -> Stripes:
    ...         return Stripes()
    >>> TestMyData().check()
    """

    splits: tuple[str, ...] = ("train", "val", "test")
    """Which splits there are."""
    disjoint: bool = False
    """Whether no image of one split is to be found in another."""
    redrawn: tuple[str, ...] = ("train",)
    """Splits whose pixels dynamic binarization may draw anew for another number of images; labels tell which images come."""
    few: int = 3
    """How many images are asked for at equal distances."""

    def data(self) -> Any:
        """The data module, set up."""
        data = self.part()
        with reports(f"{type(data).__name__}: prepare_data and setup"):
            for hook, arguments in (("prepare_data", ()), ("setup", ("fit",)), ("setup", ("test",))):
                getattr(data, hook, lambda *_: None)(*arguments)
        return data

    def images(self, data: Any, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        what = f"{type(data).__name__}: evaluation_images({split!r}, {num_images})"
        with reports(what):
            pair = data.evaluation_images(split, num_images)
        self.require_batch(data, pair, what)
        x, y = pair
        return x, y

    def require_batch(self, data: Any, pair: Any, what: str, lowest: int = 0) -> None:
        """Claim that `pair` are images and labels as `types.ImageData` describes them."""
        claim(
            isinstance(pair, tuple | list) and len(pair) == 2,
            f"{what}: is {kind_of(pair)}, not a pair of images and labels",
        )
        x, y = pair
        for name, value, dtype in (("images", x, torch.float32), ("labels", y, torch.int64)):
            claim(isinstance(value, Tensor), f"{what}: {name} are {kind_of(value)}, not a tensor")
            claim(value.dtype == dtype, f"{what}: {name} are {value.dtype}, not {dtype}")
        wanted = (len(y), *data.image_shape)
        claim(tuple(x.shape) == wanted, f"{what}: images have shape {tuple(x.shape)}, not {wanted} by image_shape and the labels")
        claim(len(x) > 0, f"{what}: there are no images")
        claim(bool(x.isfinite().all()), f"{what}: {int((~x.isfinite()).sum())} pixels are not finite")
        low, high = (float(value) for value in x.aminmax())
        claim(low >= -1e-6 and high <= 1 + 1e-6, f"{what}: pixels are from {low:.4g} to {high:.4g}, not within [0, 1]")
        claim(y.dim() == 1, f"{what}: labels have shape {tuple(y.shape)}, not {(len(x),)}")
        highest, found = max(0, data.num_classes - 1), [int(value) for value in y.aminmax()]
        claim(
            lowest <= found[0] and found[1] <= highest,
            f"{what}: labels are from {found[0]} to {found[1]}, and by num_classes={data.num_classes} from {lowest} to {highest}",
        )

    def test_says_what_its_images_are(self) -> None:
        data = self.data()
        name = type(data).__name__
        claim(
            isinstance(data, ImageData),
            f"{name}: is no types.ImageData, which has image_shape, num_classes, label_names and evaluation_images",
        )
        shape = tuple(data.image_shape)
        fits = len(shape) == 3 and shape[0] in (1, 3) and min(shape) >= 1
        claim(fits, f"{name}: image_shape is {shape}, not channels (1 or 3), height and width")
        names = data.label_names
        claim(
            len(names) == data.num_classes and all(isinstance(label, str) for label in names),
            f"{name}: label_names are {len(names)}, and num_classes is {data.num_classes}",
        )

    def test_images_are_the_same_each_time(self) -> None:
        one, other = self.data(), self.data()
        for split in self.splits:
            with global_noise(1, torch.device("cpu")):
                x, y = self.images(one, split)
            with global_noise(2, torch.device("cpu")):
                again, of_another = self.images(one, split), self.images(other, split)
            for images, labels in (again, of_another):
                same = torch.equal(x, images) and torch.equal(y, labels)
                claim(same, f"{type(one).__name__}: evaluation_images({split!r}) are others a second time")

    def test_some_images_are_taken_at_equal_distances(self) -> None:
        data = self.data()
        for split in self.splits:
            x, y = self.images(data, split)
            count = min(self.few, len(x))
            some, labels = self.images(data, split, count)
            places = torch.arange(count) * len(x) // count
            what = f"{type(data).__name__}: evaluation_images({split!r}, {count})"
            claim(len(some) == count, f"{what}: are {len(some)} images")
            same = torch.equal(labels, y[places]) and (split in self.redrawn or torch.equal(some, x[places]))
            claim(same, f"{what}: are not those at places {places.tolist()} of {len(x)}, as images may be sorted by class")

    def test_splits_are_disjoint_if_that_is_said(self) -> None:
        data, seen = self.data(), dict[bytes, str]()
        for split in self.splits if self.disjoint else ():
            for number, image in enumerate(self.images(data, split)[0]):
                other = seen.setdefault(image.numpy().tobytes(), split)
                claim(other == split, f"{type(data).__name__}: image {number} of {split} is in {other} too")

    def test_batches_are_what_models_take(self) -> None:
        data = self.data()
        for split in ("train", "val", "test"):
            name = f"{split}_dataloader"
            loader = getattr(data, name, None)
            inherited = getattr(type(data), name, None) is getattr(L.LightningDataModule, name)  # which has no batches
            if loader is None or inherited or split not in self.splits:
                continue
            what = f"{type(data).__name__}: the first {split} batch"
            with reports(what):
                batch = next(iter(loader()))
                moved = getattr(data, "on_after_batch_transfer", lambda batch, _: batch)(batch, 0)
            self.require_batch(data, moved, what, lowest=UNLABELLED if split == "train" else 0)


def check_data(data: Any, **settings: Any) -> None:
    """Hold `data` to `DataContract`; `settings` are that class's attributes.

    Raises:
        AssertionError: one sentence that names what fails.
    """
    DataContract.of(data, **settings).check()
