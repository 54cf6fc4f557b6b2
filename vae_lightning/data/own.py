"""The base of data modules of a user's own images, in a folder of files or in an array."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.data.binarization import Binarization
from vae_lightning.data.module import ImageDataModule
from vae_lightning.data.pictures import Form
from vae_lightning.data.splitting import Part, numbered, split
from vae_lightning.errors import ConfigurationError, DataError

__all__ = ["OwnImages", "Splits", "require_memory", "require_scaled_memory"]

Splits = Literal["auto", "given", "seed"]


class OwnImages(ImageDataModule):
    """Base of `FolderDataModule` and `ArrayDataModule`; a subclass implements `read_parts`.

    >>> from vae_lightning.data import ArrayDataModule
    >>> ArrayDataModule("digits.npz", val_size=100, channels=1).form
    Form(channels=1, size=None, background=None)

    Args:
        path: the folder or file of the images.
        splits: "given": the splits of the folder or file; "seed": all images are shuffled by `eval_seed` and split; "auto": "given"
            if the folder or file has splits, else "seed".
        val_size, test_size: how many images a split gets that is not given; None: a tenth of the images that it is taken from.
        channels: 1: grey; 3: colour; None: as the images are.
        size: scale each image, with antialiasing, until its shorter side has so many pixels, and crop it to a square about its
            centre; None: all images must be of one size.
        binarization: "dynamic", "threshold" or "none"; see `data.binarization`. Each channel is binarized by itself.
        images: see `ImageDataModule`.
    """

    holds: ClassVar[str] = "file"
    """The kind of thing that `path` names, for errors."""

    def __init__(
        self,
        path: str | None = None,
        splits: Splits = "auto",
        val_size: int | None = None,
        test_size: int | None = None,
        channels: Literal[1, 3] | None = None,
        size: int | None = None,
        binarization: Binarization = "dynamic",
        **images: Any,
    ) -> None:
        super().__init__(binarization, **images)
        if path is None or not str(path).strip():
            raise ConfigurationError(f"path: where do the images lie? path=<{self.holds}>")
        require(splits in ("auto", "given", "seed"), "splits", splits, "auto, given or seed")
        require(channels in (None, 1, 3), "channels", channels, "1 (grey), 3 (colour), or null for as the images are")
        for name, number in (("val_size", val_size), ("test_size", test_size), ("size", size)):
            require(number is None or number >= 1, name, number, "at least 1, or null")
        self.path, self.splits = str(path), splits
        self.val_size, self.test_size = val_size, test_size
        self.form = Form(channels, size)
        self._label_names: tuple[str, ...] | None = None
        self._checksums: dict[str, str] = {}

    def read_parts(self, path: Path) -> tuple[Mapping[str, Part], dict[str, str]]:
        """All images, "all", or those of "train", "val" and "test" as far as they are given; and the digests of their files."""
        raise NotImplementedError

    def read(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        parts, self._checksums = self.read_parts(self._place_of_files())
        self._label_names, numbers = numbered(parts, f"path={self.path}")
        labelled = {name: (part.images, numbers[name]) for name, part in parts.items()}
        return split(labelled, self.val_size, self.test_size, self.eval_seed, f"path={self.path}")

    @property
    def label_names(self) -> tuple[str, ...]:
        """What each class is called, sorted; empty if there are no labels, or all images are of one class."""
        if self._label_names is None:
            self._split("train")
        assert self._label_names is not None
        return self._label_names

    def checksums(self) -> dict[str, str]:
        """MD5 of what was read, by the name of the file or of the folder."""
        self._split("train")
        return dict(self._checksums)

    def settings(self) -> dict[str, Any]:
        """Settings of the data; `path` is replaced by the images' MD5, as the same images may lie elsewhere on another machine."""
        return {
            **super().settings(),
            "path": f"images of MD5 {' '.join(self.checksums().values())}",
            "splits": self.splits,
            "val_size": self.val_size,
            "test_size": self.test_size,
            "channels": self.form.channels,
            "size": self.form.size,
            "background": self.form.background,
        }

    def _place_of_files(self) -> Path:
        try:
            path = Path(self.path).expanduser()
            path.stat()
        except FileNotFoundError:
            raise DataError(f"path={self.path}: there is no such {self.holds}") from None
        except (OSError, RuntimeError, ValueError) as error:
            words = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise DataError(f"path={self.path}: cannot be read ({words})") from error
        return path


def require_memory(needed: int, what: str, way_out: str) -> None:
    """Refuse what does not fit into this machine's memory before any of it is asked for.

    Raises:
        DataError: it is more than all there is.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # of a system that does not say
        return
    if needed > there:
        raise DataError(f"{what} takes {needed / 1e9:.1f} GB, and this machine has {there / 1e9:.1f} GB of memory; {way_out}")


def require_scaled_memory(count: int, form: Form, where: str) -> None:
    """Refuse a size of which not even `count` grey images fit into memory, before the first one is scaled to it."""
    if form.size is not None:
        what = f"size={form.size}: the array of {count} such images of {where}"
        require_memory(count * form.size**2 * (form.channels or 1), what, "ask for less")
