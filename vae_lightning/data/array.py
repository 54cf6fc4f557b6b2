"""An array of a user's own images, `.npy` or `.npz`, as a data module."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from vae_lightning.data.arrays import labels_of, members_of, to_pixels
from vae_lightning.data.own import OwnImages, Splits, require_memory, require_scaled_memory
from vae_lightning.data.pictures import fitted
from vae_lightning.data.root import content_of
from vae_lightning.data.splitting import Part
from vae_lightning.errors import DataError

__all__ = ["ArrayDataModule"]


class ArrayDataModule(OwnImages):
    """Images in an array `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)` with 1 or 3 channels, of uint8, bool, or floats in [0, 1].

    A `.npz` may hold labels beside the images, `(N,)`, whole numbers or names: `images` and `labels`, `x` and `y`, or a pair for
    each split, `x_train`, `y_train`, `x_test`, `y_test` (and `x_val`, `y_val`) or `train_images`, `train_labels`, ... Floats
    become the nearest of 256 levels. Pickled objects are never read.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "noise.npy"
    >>> np.save(file, np.random.default_rng(0).integers(0, 256, (50, 8, 6, 3), np.uint8))
    >>> data = ArrayDataModule(path=str(file), binarization="none", val_size=5)
    >>> data.image_shape, data.num_classes
    ((3, 8, 6), 0)
    >>> [len(data.evaluation_images(split)[0]) for split in ("train", "val", "test")]
    [40, 5, 5]

    Args:
        path: the file.
        splits: "given": the file has an array for each split; "seed": all images are shuffled by `eval_seed` and split; "auto":
            the first if the file has several splits, else the second.
        images: see `OwnImages`.
    """

    dataset: ClassVar[str] = "array"
    holds: ClassVar[str] = "file"

    def __init__(self, path: str | None = None, splits: Splits = "auto", **images: Any) -> None:
        super().__init__(path, splits, **images)

    def read_parts(self, path: Path) -> tuple[Mapping[str, Part], dict[str, str]]:
        where = f"path={self.path}"
        if path.is_dir():
            raise DataError(f"{where}: is a folder, not a file; a folder of image files is data=folder")
        require_memory(path.stat().st_size, where, "give a smaller file")
        content = content_of(path)
        if content is None:
            raise DataError(f"{where}: is not there any more")
        parts = {}
        for split, (images, labels) in members_of(content, where).items():
            pixels = to_pixels(images.array, self.form.channels, f"{where}{images.said}")
            require_scaled_memory(len(pixels), self.form, where)
            pixels = self._formed(pixels)
            known = None if labels is None else labels_of(labels.array, len(pixels), f"{where}{labels.said}")
            parts[split] = Part(torch.from_numpy(pixels), known)
        return self._as_asked(parts, where), {path.name: hashlib.md5(content).hexdigest()}

    def _formed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = self.form.size
        return pixels if size is None else np.stack([fitted(image, size) for image in pixels])

    def _as_asked(self, parts: dict[str, Part], where: str) -> dict[str, Part]:
        """The splits as they are, or all images as one part."""
        shapes = {name: tuple(part.images.shape[1:]) for name, part in parts.items()}
        if len(set(shapes.values())) > 1:
            differ = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise DataError(f"{where}: its splits have images of different shapes ({differ}); channels= and size= make them alike")
        if "all" in parts and self.splits == "given":
            raise DataError(f"{where}: holds no splits (x_train, x_test, ...); splits=seed splits its images")
        if "all" in parts or self.splits != "seed":
            return parts
        labels = [part.labels for part in parts.values() if part.labels is not None]
        if labels and len(labels) < len(parts):
            raise DataError(f"{where}: some of its splits have labels, and some have none")
        return {"all": Part(torch.cat([part.images for part in parts.values()]), np.concatenate(labels) if labels else None)}
