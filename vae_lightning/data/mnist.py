"""MNIST as a LightningDataModule: uint8 tensors in memory, binarized on the fly and on the device.

Training images are drawn afresh at every use. Validation and test images are drawn once, by a seed of their own, so that
figures are comparable across epochs, runs and machines; they are the same whatever the batch size and the device.
"""

from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from torch import Tensor

from vae_lightning.arguments import choose, require
from vae_lightning.data import sources, static
from vae_lightning.data.augmentation import move_at_random
from vae_lightning.data.binarization import BINARIZATIONS, Binarization, binarize, draw_pixels, to_unit_interval
from vae_lightning.data.loader import TensorLoader
from vae_lightning.errors import ConfigurationError
from vae_lightning.noise import generator
from vae_lightning.types import IMAGE_SHAPE, Batch

__all__ = ["FashionMNISTDataModule", "KMNISTDataModule", "MNISTDataModule"]

NUM_CLASSES = 10


class MNISTDataModule(L.LightningDataModule):
    """Batches `(x, y)`: images float32 `(B, 1, 28, 28)` in [0, 1], labels int64 `(B,)`.

    The official test set is held out; the last `val_size` training images are for validation. With `trainer.overfit_batches`, every
    epoch has the batches of the first one: its images, as they were moved and binarized there.

    Args:
        root: folder that holds `MNIST/raw`, as torchvision's; fetched to if it is not there, unless `root` holds only other things.
        binarization: "dynamic", "static", "threshold" or "none"; see `data.binarization`.
        batch_size: images a training step and device.
        eval_batch_size: images a batch in validation and test.
        val_size: how many training images are for validation; static binarization has its own 10,000.
        static_root: folder of Larochelle's files; None: `root`/binarized_mnist.
        permute_pixels: shuffle the pixels of all images alike, for permutation-invariant MNIST; see `unpermute`.
        num_labels: how many training images keep their label, equally many a class, chosen by `eval_seed`; None: all. The
            images of an epoch then come as `types.UNLABELLED`, for a model that says `semi_supervised = True`.
        labelled_batch_size: with `num_labels`, so many images with their labels come at the end of each training batch.
        only_labelled: train on the images that keep their label alone, for a baseline.
        augment_shift, augment_rotation, augment_scale: move each training image at random, by at most so many pixels,
            degrees, and so large a fraction of its size; see `data.augmentation`.
        seed: fixes the order and the binarization of training images, beside the epoch and the batch.
        eval_seed: fixes validation and test images, and the permutation.
    """

    dataset: ClassVar[str] = "mnist"
    label_noun: ClassVar[str] = "digit"

    def __init__(
        self,
        root: str = "data",
        binarization: Binarization = "dynamic",
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int = 5000,
        static_root: str | None = None,
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
        choose("data.binarization", binarization, dict.fromkeys(BINARIZATIONS))
        require(1 <= batch_size <= 60_000, "data.batch_size", batch_size, "from 1 to 60000")
        require(1 <= eval_batch_size <= 60_000, "data.eval_batch_size", eval_batch_size, "from 1 to 60000")
        require(1 <= val_size <= 59_999, "data.val_size", val_size, "from 1 to 59999")
        if binarization == "static" and self.dataset != "mnist":
            raise ConfigurationError(
                f"data.binarization=static: exists for MNIST only, not for {self.dataset}; use dynamic or threshold"
            )
        equal = num_labels is None or (num_labels > 0 and num_labels % NUM_CLASSES == 0)
        require(equal, "data.num_labels", num_labels, "a multiple of 10, equally many a class, or null for all")
        if num_labels is not None and not only_labelled:
            wanted = f"from 1 to data.num_labels={num_labels}"
            require(1 <= labelled_batch_size <= num_labels, "data.labelled_batch_size", labelled_batch_size, wanted)
        require(not only_labelled or num_labels is not None, "data.only_labelled", True, "false without data.num_labels")
        require(0 <= augment_shift <= 28, "data.augment_shift", augment_shift, "from 0 to 28 (pixels)")
        require(0 <= augment_rotation <= 180, "data.augment_rotation", augment_rotation, "from 0 to 180 (degrees)")
        require(0 <= augment_scale < 1, "data.augment_scale", augment_scale, "from 0 to below 1")
        self.augmentation = (augment_shift, augment_rotation, augment_scale)
        if any(self.augmentation) and (binarization == "static" or permute_pixels):
            reason = "static binarization has no grey levels" if binarization == "static" else "permuted pixels have no neighbours"
            raise ConfigurationError(f"data.augment_*: {reason} to move images by; leave them at 0")
        self.root, self.static_root = root, static_root
        self.binarization = binarization
        self.batch_size, self.eval_batch_size, self.val_size = batch_size, eval_batch_size, val_size
        self.permute_pixels, self.seed, self.eval_seed = permute_pixels, seed, eval_seed
        self.num_labels, self.labelled_batch_size, self.only_labelled = num_labels, labelled_batch_size, only_labelled
        self.fetch = True
        """Whether files that are missing may be fetched; set to False, nothing is written where they should be."""
        self._splits: dict[str, tuple[Tensor, Tensor]] = {}
        self._checksums: dict[str, str] = {}
        self._training: TensorLoader | None = None
        self._place: dict[str, Any] = {}

    # ---- Lightning's hooks

    def prepare_data(self) -> None:
        """Fetch what is missing, once a machine, and keep what was read for that: it is not read a second time."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Load and split, and fix the binarization of validation and test images."""
        if stage == "fit":
            self._place = {}  # of an earlier training: Lightning restores this one's after this hook
        if self._splits:
            return
        splits = self._static_splits() if self.binarization == "static" else self._grey_splits()
        if self.permute_pixels:
            splits = {name: (_reordered(x, self._permutation()), y) for name, (x, y) in splits.items()}
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
        """Without the images: processes that Lightning starts read and verify the files themselves."""
        return {**self.__dict__, "_splits": {}}

    # Lightning keeps the loader's place in its epoch too, but does not hand it back where a schedule of the learning rate
    # asks for the number of steps

    def state_dict(self) -> dict[str, Any]:
        if self._training is None:
            return {}
        return {**self._training.state_dict(), "settings": {**self.settings(), "devices": self._training.world_size}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._place = state_dict

    def val_dataloader(self) -> TensorLoader:
        return TensorLoader(*self._on_device("val"), self.eval_batch_size, None, *self._rank())

    def test_dataloader(self) -> TensorLoader:
        return TensorLoader(*self._on_device("test"), self.eval_batch_size, None, *self._rank())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Move and binarize on the device; what a batch's pixels become is a function of its key alone."""
        images, labels, key = batch
        if key is not None:
            if any(self.augmentation):
                images = move_at_random(images, *self.augmentation, generator(*key, "augmentation", device=images.device))
            source = generator(*key, "binarization", device=images.device)
            if self.binarization == "dynamic":
                return draw_pixels(images, source).to(torch.float32), labels  # without a detour over 0 and 255
            images = binarize(images, self.binarization)
        return to_unit_interval(images), labels

    # ---- for evaluation and drawing

    def evaluation_loader(self, split: str, num_images: int | None = None) -> TensorLoader:
        """Batches of "train", "val" or "test" in order, binarized once by `eval_seed`.

        `num_images` takes that many at equal distances: images may be sorted by class, as the static test images are.
        """
        images, labels = self._split(split)
        if num_images is not None and num_images < len(images):
            chosen = torch.arange(num_images) * len(images) // num_images
            images, labels = images[chosen], labels[chosen]
        if split == "train":
            images = self._fixed(images, split)
        return TensorLoader(images, labels, self.eval_batch_size)

    def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        """The images `(N, 1, 28, 28)` in [0, 1] and labels `(N,)` of `evaluation_loader`, all at once."""
        loader = self.evaluation_loader(split, num_images)
        return to_unit_interval(loader.images), loader.labels

    def labelled(self) -> Tensor:
        """Places in the training split of the images that keep their label, `(L,)`; with fewer, they are among those of more."""
        labels = self._split("train")[1]
        if self.num_labels is None:
            return torch.arange(len(labels))
        source = generator(self.eval_seed, "labelled")
        places = [(labels == c).nonzero().squeeze(1) for c in range(NUM_CLASSES)]
        most = NUM_CLASSES * min(map(len, places))
        wanted = f"at most {most}, equally many a class" if most else "null: of some class there is no training image"
        require(self.num_labels <= most, "data.num_labels", self.num_labels, wanted)
        each = self.num_labels // NUM_CLASSES
        return torch.cat([place[torch.randperm(len(place), generator=source)[:each]] for place in places])

    @property
    def sorted_by_class(self) -> bool:
        """Whether the first test images are all of one class, as those of Larochelle's files are."""
        return self.binarization == "static"

    def mean_image(self) -> Tensor:
        """The mean of the images that training sees, `(1, 28, 28)` in [0, 1].

        Pixels that are drawn afresh count with their probability; images that are moved at random are moved once, by `eval_seed`.
        """
        images = self._split("train")[0]
        if self.only_labelled:
            images = images[self.labelled()]
        total = torch.zeros(IMAGE_SHAPE, dtype=torch.int64)
        for number, part in enumerate(torch.split(images, 10_000)):
            if any(self.augmentation):
                part = move_at_random(part, *self.augmentation, generator(self.eval_seed, "mean image", number))
            total += (part if self.binarization == "dynamic" else binarize(part, self.binarization)).sum(0, dtype=torch.int64)
        return (total.double() / len(images) / 255).float()

    def unpermute(self, images: Tensor) -> Tensor:
        """Images `(*, 1, 28, 28)` with their pixels back in place, for drawing; as they are unless `permute_pixels`."""
        return _reordered(images, self._permutation().argsort()) if self.permute_pixels else images

    def permute(self, images: Tensor) -> Tensor:
        """The inverse of `unpermute`."""
        return _reordered(images, self._permutation()) if self.permute_pixels else images

    def checksums(self) -> dict[str, str]:
        """MD5 of each file whose images are in use, by file name: Larochelle's where the binarization is static."""
        self._split("train")
        return dict(self._checksums)

    def settings(self) -> dict[str, Any]:
        """What says which images training, validation and test see, and in what order; in each checkpoint."""
        few = self.num_labels is not None and not self.only_labelled
        return {
            "dataset": self.dataset,
            "binarization": self.binarization,
            "val_size": None if self.binarization == "static" else self.val_size,
            "permute_pixels": self.permute_pixels,
            "eval_seed": self.eval_seed,
            "batch_size": self.batch_size,
            "num_labels": self.num_labels,
            "labelled_batch_size": self.labelled_batch_size if few else None,
            "only_labelled": self.only_labelled,
            "seed": self.seed,
        }

    # ---- inside

    def _split(self, name: str) -> tuple[Tensor, Tensor]:
        if not self._splits:
            self.prepare_data()
            self.setup()
        return self._splits[name]

    def _on_device(self, name: str) -> tuple[Tensor, Tensor]:
        """A split where training runs: all of MNIST is 55 MB, so that a GPU need not wait for batches."""
        images, labels = self._split(name)
        device = self.trainer.strategy.root_device if self.trainer else images.device
        return images.to(device), labels.to(device)

    def _require_semi_supervised(self) -> None:
        """Labels that are missing would go unnoticed into some models, and the images that come twice into others."""
        model = getattr(self.trainer, "lightning_module", None)
        if model is not None and not getattr(model, "semi_supervised", False):
            raise ConfigurationError(
                f"data.num_labels={self.num_labels}: {type(model).__name__} cannot learn from images without labels; use model=m1 "
                "or model=m2, or train on the labelled images alone: data.only_labelled=true"
            )

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _grey_splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        splits, self._checksums = sources.read(self.dataset, self.root, fetch=self.fetch)
        images, labels = splits["train"]
        cut = len(images) - self.val_size
        return {"train": (images[:cut], labels[:cut]), "val": (images[cut:], labels[cut:]), "test": splits["test"]}

    def _static_splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        parts, self._checksums = static.load(self.root, self.static_root, fetch=self.fetch)
        return {"train": parts["train"], "val": parts["valid"], "test": parts["test"]}

    def _fixed(self, images: Tensor, split: str) -> Tensor:
        """Binarized by `eval_seed`, in blocks of a fixed size so that the result depends on nothing else."""
        return torch.cat(
            [
                binarize(part, self.binarization, generator(self.eval_seed, split, number))
                for number, part in enumerate(torch.split(images, 1000))
            ]
        )

    def _permutation(self) -> Tensor:
        return torch.randperm(784, generator=generator(self.eval_seed, "pixels"))


def _reordered(images: Tensor, order: Tensor) -> Tensor:
    return images.flatten(-3)[..., order.to(images.device)].reshape(images.shape)


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747), in the same form."""

    dataset: ClassVar[str] = "fashion_mnist"
    label_noun: ClassVar[str] = "class"


class KMNISTDataModule(MNISTDataModule):
    """Kuzushiji-MNIST (Clanuwat et al., 2018, https://arxiv.org/abs/1812.01718), in the same form."""

    dataset: ClassVar[str] = "kmnist"
    label_noun: ClassVar[str] = "character"
