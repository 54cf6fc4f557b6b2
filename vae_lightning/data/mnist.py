"""MNIST, Fashion-MNIST and KMNIST: 60,000 training and 10,000 test images of 28 x 28 grey levels, in ten classes."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.data import larochelle, sources
from vae_lightning.data.binarization import Binarization
from vae_lightning.data.module import ImageDataModule
from vae_lightning.types import MNIST_SHAPE

__all__ = ["FashionMNISTDataModule", "KMNISTDataModule", "MNISTDataModule"]


class MNISTDataModule(ImageDataModule):
    """MNIST (LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/): handwritten digits.

    The official test set is held out; the last `val_size` training images are for validation.

    >>> data = MNISTDataModule(root="data", binarization="dynamic", batch_size=128)  # read, or fetched, when it is used
    >>> data.image_shape, data.num_classes, data.label_names[7]
    ((1, 28, 28), 10, '7')

    Args:
        root: folder that holds `MNIST/raw`, as torchvision's; fetched to if it is not there, unless `root` holds only other things.
        binarization: "dynamic", "static", "threshold" or "none"; see `data.binarization`.
        batch_size: images a training step and device.
        eval_batch_size: images a batch in validation and test.
        val_size: how many training images are for validation; static binarization has its own 10,000.
        static_root: folder of Larochelle's files; None: `root`/binarized_mnist.
        images: see `ImageDataModule`.
    """

    dataset: ClassVar[str] = "mnist"
    has_static: ClassVar[bool] = True
    image_shape = MNIST_SHAPE
    label_names: tuple[str, ...] = tuple("0123456789")
    label_noun: ClassVar[str] = "digit"
    nll_floor: ClassVar[float | None] = 76.0
    """Nats per image. The mean Bernoulli entropy of grey MNIST is 45.5, and the best models are above 77: less points to a bug."""

    def __init__(
        self,
        root: str = "data",
        binarization: Binarization = "dynamic",
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int = 5000,
        static_root: str | None = None,
        **images: Any,
    ) -> None:
        most = sources.COUNTS["train"]
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            require(1 <= size <= most, name, size, f"from 1 to {most}")
        require(1 <= val_size < most, "val_size", val_size, f"from 1 to {most - 1}")
        super().__init__(binarization, batch_size, eval_batch_size, **images)
        self.check_numbers(self.image_shape, self.num_classes)
        self.root, self.static_root, self.val_size = root, static_root, val_size
        self.fetch = True
        """Whether files that are missing may be fetched; set to False, nothing is written where they should be."""
        self._checksums: dict[str, str] = {}

    def read(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        if self.binarization == "static":
            parts, self._checksums = larochelle.load(self.root, self.static_root, fetch=self.fetch)
            return {"train": parts["train"], "val": parts["valid"], "test": parts["test"]}
        parts, self._checksums = sources.read(self.dataset, self.root, fetch=self.fetch)
        images, labels = parts["train"]
        cut = len(images) - self.val_size
        return {"train": (images[:cut], labels[:cut]), "val": (images[cut:], labels[cut:]), "test": parts["test"]}

    @property
    def sorted_by_class(self) -> bool:
        """Whether the first test images are all of one class, as those of Larochelle's files are."""
        return self.binarization == "static"

    def checksums(self) -> dict[str, str]:
        """MD5 of each file whose images are in use, by file name: Larochelle's where the binarization is static."""
        self._split("train")
        return dict(self._checksums)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "val_size": None if self.binarization == "static" else self.val_size}


class FashionMNISTDataModule(MNISTDataModule):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747), in MNIST's form: articles of clothing.

    >>> FashionMNISTDataModule().label_names[:3]
    ('T-shirt/top', 'Trouser', 'Pullover')
    """

    dataset: ClassVar[str] = "fashion_mnist"
    has_static: ClassVar[bool] = False
    label_names = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    label_noun: ClassVar[str] = "class"
    nll_floor: ClassVar[float | None] = None


class KMNISTDataModule(MNISTDataModule):
    """KMNIST (Clanuwat et al., 2018, https://arxiv.org/abs/1812.01718), in MNIST's form: cursive Japanese characters.

    >>> KMNISTDataModule().label_names[:3]
    ('o', 'ki', 'su')
    """

    dataset: ClassVar[str] = "kmnist"
    has_static: ClassVar[bool] = False
    label_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    label_noun: ClassVar[str] = "character"
    nll_floor: ClassVar[float | None] = None
