"""A LightningDataModule of images that are kept in memory as uint8 and binarized batch by batch on the device.

Training images are drawn afresh at every use. Validation and test images are drawn once, by a seed of their own, so that
metrics are comparable across epochs, runs and machines: neither the batch size nor the device changes these images.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from torch import Tensor

from vae_lightning.arguments import choose, require
from vae_lightning.batches import CHANNELS
from vae_lightning.data.augmentation import check_augmentation, move_at_random
from vae_lightning.data.binarization import BINARIZATIONS, Binarization, binarize, draw_pixels, to_unit_interval
from vae_lightning.data.labelled import places_of_labelled
from vae_lightning.data.loader import TensorLoader, require_place
from vae_lightning.errors import ConfigurationError, DataError, kind_of
from vae_lightning.noise import Source, generator
from vae_lightning.types import Batch

__all__ = ["ImageDataModule"]

MOST_IMAGES = 2**31 - 1
"""The largest size of a batch that is accepted; no memory holds so many images."""


class ImageDataModule(L.LightningDataModule):
    """Base of the data modules: batches `(x, y)` of images float32 `(B, C, H, W)` in [0, 1] and labels int64 `(B,)`.

    A subclass implements `read` and `label_names`, and may set `image_shape`, so that the shape is known before images are read.
    All images are kept in memory as uint8. With the Trainer's `overfit_batches`, every epoch has the batches of the first epoch,
    moved and binarized in the same way.

    >>> class Noise(ImageDataModule):
    ...     label_names = ("dark", "bright")
    ...
    ...     def read(self):
    ...         images = torch.arange(256, dtype=torch.uint8).view(64, 1, 2, 2)
    ...         labels = (torch.arange(64) >= 32).long()
    ...         return {split: (images, labels) for split in ("train", "val", "test")}
    >>> data = Noise(binarization="threshold", batch_size=16)
    >>> data.image_shape, data.num_classes, len(data.train_dataloader())
    ((1, 2, 2), 2, 4)
    >>> x, y = data.evaluation_images("test", 2)
    >>> x.flatten().tolist(), y.tolist()
    ([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], [0, 1])

    Args:
        binarization: "dynamic", "static" (if the data set has files for it), "threshold" or "none"; see `data.binarization`.
        batch_size: images a training step and device.
        eval_batch_size: images a batch in validation and test.
        permute_pixels: shuffle the pixels of all images alike, for permutation-invariant models; see `unpermute`.
        num_labels: how many training images keep their label, equally many a class, chosen by `eval_seed`; None: all. The
            labels of all images in a batch are then `types.UNLABELLED`, for a model with `semi_supervised = True`.
        labelled_batch_size: with `num_labels`, how many images with their labels come at the end of each training batch.
        only_labelled: train only on the images that keep their label, for a baseline.
        augment_shift, augment_rotation, augment_scale: move each training image at random: by at most how many pixels, how many
            degrees, and which fraction of its size; see `data.augmentation`.
        seed: fixes the order and the binarization of training images, beside the epoch.
        eval_seed: fixes validation and test images, and the permutation.
    """

    dataset: ClassVar[str] = "images"
    """The name of the data set in checkpoints and errors."""
    has_static: ClassVar[bool] = False
    """Whether the data set has files of a static binarization."""

    def __init__(
        self,
        binarization: Binarization = "dynamic",
        batch_size: int = 128,
        eval_batch_size: int = 500,
        permute_pixels: bool = False,
        num_labels: int | None = None,
        labelled_batch_size: int = 16,
        only_labelled: bool = False,
        augment_shift: float = 0.0,
        augment_rotation: float = 0.0,
        augment_scale: float = 0.0,
        seed: int = 0,
        eval_seed: int = 0,
    ) -> None:
        super().__init__()
        choose("binarization", binarization, dict.fromkeys(BINARIZATIONS))
        if binarization == "static" and not self.has_static:
            raise ConfigurationError(f"binarization=static: does not exist for {self.dataset}; use dynamic or threshold")
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            require(1 <= size <= MOST_IMAGES, name, size, f"from 1 to {MOST_IMAGES}")
        require(num_labels is None or num_labels > 0, "num_labels", num_labels, "at least 1, or null for all")
        if num_labels is not None and not only_labelled:
            wanted = f"from 1 to num_labels={num_labels}"
            require(1 <= labelled_batch_size <= num_labels, "labelled_batch_size", labelled_batch_size, wanted)
        require(not only_labelled or num_labels is not None, "only_labelled", True, "false where num_labels is null")
        self.augmentation = (augment_shift, augment_rotation, augment_scale)
        check_augmentation(*self.augmentation, static=binarization == "static", permuted=permute_pixels)
        self.binarization = binarization
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.permute_pixels, self.seed, self.eval_seed = permute_pixels, seed, eval_seed
        self.num_labels, self.labelled_batch_size, self.only_labelled = num_labels, labelled_batch_size, only_labelled
        self._splits: dict[str, tuple[Tensor, Tensor]] = {}
        self._training: TensorLoader | None = None
        self._place: dict[str, Any] = {}

    # ---- what a subclass says

    def read(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Images uint8 `(N, C, H, W)` and labels int64 `(N,)`, zeros if there are none, of "train", "val" and "test"."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images, which are read to find out."""
        channels, height, width = self._split("train")[0].shape[1:]
        return channels, height, width

    @property
    def label_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are no labels."""
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """How many classes the labels have; 0: there are no labels."""
        return len(self.label_names)

    def checksums(self) -> dict[str, str]:
        """Digests of the files that the images were read from, by file name."""
        return {}

    def settings(self) -> dict[str, Any]:
        """The settings that determine which images training, validation and test see, and in what order, for checkpoints."""
        few = self.num_labels is not None and not self.only_labelled
        return {
            "dataset": self.dataset,
            "binarization": self.binarization,
            "permute_pixels": self.permute_pixels,
            "eval_seed": self.eval_seed,
            "batch_size": self.batch_size,
            "num_labels": self.num_labels,
            "labelled_batch_size": self.labelled_batch_size if few else None,
            "only_labelled": self.only_labelled,
            "seed": self.seed,
        }

    # ---- Lightning's hooks

    def prepare_data(self) -> None:
        """Fetch missing files, once on each machine; images that were read to verify the files are kept for `setup`."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Read the splits, and fix the binarization of validation and test images."""
        if stage == "fit":
            self._place = {}  # drops the place of an earlier training; Lightning restores that of this training after this hook
        if "_splits" not in vars(self):
            raise ConfigurationError(f"{type(self).__name__}.__init__ does not call super().__init__()")
        if self._splits:
            return
        splits = _checked(self.read(), self.num_classes, f"{type(self).__name__}.read")
        self.check_numbers(splits["train"][0].shape[1:], self.num_classes)
        if self.permute_pixels:
            splits = {name: (self.permute(x), y) for name, (x, y) in splits.items()}
        self._splits = {name: (x if name == "train" else self._fixed(x, name), y) for name, (x, y) in splits.items()}

    def train_dataloader(self) -> TensorLoader:
        images, labels = self._on_device("train")
        labelled = None if self.num_labels is None else self.labelled().to(labels.device)
        if labelled is not None and self.only_labelled:
            images, labels, labelled = images[labelled], labels[labelled], None
        elif labelled is not None:
            self._require_semi_supervised()
        beside = (labelled, self.labelled_batch_size)
        loader = TensorLoader(images, labels, self.batch_size, self.seed, *self._rank(), *beside)
        loader.same_every_epoch = bool(getattr(self.trainer, "overfit_batches", 0))
        if self._place:
            loader.load_state_dict(self._place)
        self._training = loader
        return loader

    def __getstate__(self) -> dict[str, Any]:
        """The state without the images: processes that Lightning starts read and verify the files themselves."""
        return {**self.__dict__, "_splits": {}}

    # Lightning keeps the loader's place in its epoch too, but does not hand it back where a schedule of the learning rate
    # asks for the number of steps

    def state_dict(self) -> dict[str, Any]:
        if self._training is None:
            return {}
        return {**self._training.state_dict(), "settings": {**self.settings(), "devices": self._training.world_size}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            require_place(state_dict)
        self._place = state_dict

    def val_dataloader(self) -> TensorLoader:
        return self._in_order("val")

    def test_dataloader(self) -> TensorLoader:
        return self._in_order("test")

    def _in_order(self, split: str) -> TensorLoader:
        leaves_out = getattr(getattr(self.trainer, "lightning_module", None), "leaves_out_stand_ins", False)
        return TensorLoader(*self._on_device(split), self.eval_batch_size, None, *self._rank(), stands_in=leaves_out)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Augment and binarize a batch on the device."""
        return self.prepared(*batch)

    def prepared(self, images: Tensor, labels: Tensor, source: Source | None) -> tuple[Tensor, Tensor]:
        """Images float32 in [0, 1] and labels of grey levels uint8, a pure function that can be traced.

        Args:
            source: of all noise; None for images that are binarized already.
        """
        if source is not None:
            if any(self.augmentation):
                images = move_at_random(images, *self.augmentation, source.uniform("augmentation", (4,)))
            if self.binarization == "dynamic":
                return draw_pixels(images, source), labels
            images = binarize(images, self.binarization)
        return to_unit_interval(images), labels

    # ---- for evaluation and drawing

    def evaluation_loader(self, split: str, num_images: int | None = None) -> TensorLoader:
        """Batches of "train", "val" or "test" in order, binarized once by `eval_seed`.

        With `num_images`, only so many images at equal distances, because images may be sorted by class, as static test images are.
        """
        images, labels = self._split(split)
        if num_images is not None and num_images < len(images):
            chosen = torch.arange(num_images) * len(images) // num_images
            images, labels = images[chosen], labels[chosen]
        if split == "train":
            images = self._fixed(images, split)
        return TensorLoader(images, labels, self.eval_batch_size)

    def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        """The images `(N, C, H, W)` in [0, 1] and labels `(N,)` of `evaluation_loader`, all at once."""
        loader = self.evaluation_loader(split, num_images)
        return to_unit_interval(loader.images), loader.labels

    def labelled(self) -> Tensor:
        """Places in the training split of the images that keep their label, `(L,)`; a smaller `num_labels` gives a subset."""
        labels = self._split("train")[1]
        if self.num_labels is None:
            return torch.arange(len(labels))
        return places_of_labelled(labels, self.num_labels, self.num_classes, generator(self.eval_seed, "labelled"))

    @property
    def sorted_by_class(self) -> bool:
        """Whether the test images come one class after the other, so that the first images are all of one class."""
        labels = self._split("test")[1]
        return self.num_classes > 1 and bool((labels.diff() >= 0).all())

    def mean_image(self) -> Tensor:
        """The mean of the images that training sees, `(C, H, W)` in [0, 1].

        Pixels that are drawn afresh count with their probability; images that are moved at random are moved once, by `eval_seed`.
        """
        images = self._split("train")[0]
        if self.only_labelled:
            images = images[self.labelled()]
        total = torch.zeros(images.shape[1:], dtype=torch.int64)
        for number, part in enumerate(torch.split(images, 10_000)):
            if any(self.augmentation):
                uniform = torch.rand(len(part), 4, generator=generator(self.eval_seed, "mean image", number))
                part = move_at_random(part, *self.augmentation, uniform)
            total += (part if self.binarization == "dynamic" else binarize(part, self.binarization)).sum(0, dtype=torch.int64)
        return (total.double() / len(images) / 255).float()

    def unpermute(self, images: Tensor) -> Tensor:
        """Images `(*, C, H, W)` with their pixels back in place, for drawing; unchanged unless `permute_pixels`."""
        return _reordered(images, _orders(images.shape[-3:].numel(), self.eval_seed)[1]) if self.permute_pixels else images

    def permute(self, images: Tensor) -> Tensor:
        """The inverse of `unpermute`."""
        return _reordered(images, _orders(images.shape[-3:].numel(), self.eval_seed)[0]) if self.permute_pixels else images

    # ---- inside

    def check_numbers(self, image_shape: tuple[int, ...], num_classes: int) -> None:
        """Refuse arguments that do not fit images of `image_shape` (C, H, W) with labels of `num_classes`."""
        longest = max(image_shape[1:])
        require(0 <= self.augmentation[0] <= longest, "augment_shift", self.augmentation[0], f"from 0 to {longest} (pixels)")
        if self.num_labels is not None:
            require(num_classes > 0, "num_labels", self.num_labels, "null: the images have no labels")
            wanted = f"a multiple of {num_classes}, equally many a class, or null for all"
            require(self.num_labels % num_classes == 0, "num_labels", self.num_labels, wanted)

    def _split(self, name: str) -> tuple[Tensor, Tensor]:
        if not self._splits:
            self.prepare_data()
            self.setup()
        return self._splits[name]

    def _on_device(self, name: str) -> tuple[Tensor, Tensor]:
        """A split on the device of the training, so that a GPU need not wait for batches: all of MNIST is 55 MB."""
        images, labels = self._split(name)
        device = self.trainer.strategy.root_device if self.trainer else images.device
        return images.to(device), labels.to(device)

    def _require_semi_supervised(self) -> None:
        """Labels that are missing would go unnoticed into some models, and the images that come twice into others."""
        model = getattr(self.trainer, "lightning_module", None)
        if model is not None and not getattr(model, "semi_supervised", False):
            raise ConfigurationError(
                f"num_labels={self.num_labels}: {type(model).__name__} cannot learn from images without labels; use model=m1 "
                "or model=m2, or train on the labelled images alone: only_labelled=true"
            )

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _fixed(self, images: Tensor, split: str) -> Tensor:
        """Binarized by `eval_seed`, in blocks of a fixed size so that the result depends on nothing else."""
        return torch.cat(
            [
                binarize(part, self.binarization, generator(self.eval_seed, split, number))
                for number, part in enumerate(torch.split(images, 1000))
            ]
        )


def _checked(read: Mapping[str, tuple[Tensor, Tensor]], num_classes: int, what: str) -> dict[str, tuple[Tensor, Tensor]]:
    """The splits that a data module has read, if they are what `ImageDataModule.read` says.

    Raises:
        DataError: names the split and what is wrong with it.
    """
    if not isinstance(read, Mapping):
        raise DataError(f"{what}: gives {kind_of(read)}, and not a mapping of train, val and test to images and labels")
    for name in ("train", "val", "test"):
        if name not in read:
            raise DataError(f"{what}: gives no {name}")
        pair = read[name]
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
            raise DataError(f"{what}: {name} must be images and labels, two tensors")
        images, labels = pair
        if images.dtype != torch.uint8 or images.dim() != 4 or not len(images):
            given = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise DataError(f"{what}: {name} images must be uint8 (N, C, H, W), at least one; they are {given}")
        if images.shape[1] not in CHANNELS:
            raise DataError(f"{what}: {name} images have {images.shape[1]} channels; 1 (grey) or 3 (colour) can be drawn")
        if labels.dtype != torch.int64 or labels.shape != (len(images),):
            given = f"{str(labels.dtype).removeprefix('torch.')} {tuple(labels.shape)}"
            raise DataError(f"{what}: {name} labels must be int64 ({len(images)},), one an image; they are {given}")
        least, most = (int(value) for value in labels.aminmax())
        if num_classes and not 0 <= least <= most < num_classes:
            raise DataError(
                f"{what}: {name} labels are {least} to {most}, but label_names names {num_classes}: 0 to {num_classes - 1}"
            )
        shapes = (tuple(images.shape[1:]), tuple(read["train"][0].shape[1:]))
        if shapes[0] != shapes[1]:
            raise DataError(f"{what}: {name} images are {shapes[0]}, and those of train {shapes[1]}")
    return {name: (read[name][0], read[name][1]) for name in read}


@functools.lru_cache(maxsize=8)  # drawn once, so that a graph that is traced afterwards has it as a constant
def _orders(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The order of `count` pixels that `seed` gives, and the one that undoes it."""
    order = torch.randperm(count, generator=generator(seed, "pixels"))
    return order, order.argsort()


def _reordered(images: Tensor, order: Tensor) -> Tensor:
    return images.flatten(-3)[..., order.to(images.device)].reshape(images.shape)
