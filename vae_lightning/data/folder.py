"""A folder of a user's own image files: its tree, from files to classes and splits, and the reading of it."""

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.data.own import OwnImages, Splits, require_memory, require_scaled_memory
from vae_lightning.data.pictures import Background, Form, decode
from vae_lightning.data.root import content_of
from vae_lightning.data.splitting import Part
from vae_lightning.data.tree import UNLABELLED, image_files, parts_of
from vae_lightning.errors import DataError

__all__ = ["FolderDataModule"]

AT_ONCE = 512
"""Files that the threads read before the pixels are put together."""
MOST = 1 << 30
"""The most bytes of the file of one image."""
SHOWN_FROM = 2000
"""The number of files from which on reading shows a progress bar."""


class FolderDataModule(OwnImages):
    """Images in the files of a folder: PNG, JPEG, BMP, GIF, PPM, TIFF or WebP, of one size, grey or colour.

    Files that lie in the folder itself have no labels; those in sub-folders have the sub-folder's name as their label. Sub-folders
    that are called train, val (or valid, validation) and test are splits, and hold files or the sub-folders of classes; see
    `data.tree`. Files are sorted by their names, so that their order is the same on every file system.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for number in range(20):
    ...     kind = folder / ("dark" if number < 10 else "bright")
    ...     kind.mkdir(exist_ok=True)
    ...     Image.new("L", (8, 8), 12 * number).save(kind / f"{number}.png")
    >>> data = FolderDataModule(path=str(folder), binarization="none")
    >>> data.image_shape, data.label_names
    ((1, 8, 8), ('bright', 'dark'))
    >>> [len(data.evaluation_images(split)[0]) for split in ("train", "val", "test")]
    [16, 2, 2]

    Args:
        path: the folder.
        splits: "given": sub-folders are splits; "seed": all images are shuffled by `eval_seed` and split; "auto": the first if a
            sub-folder is called train and another val or test, else the second.
        background: "black" or "white", what transparent pixels are laid on; None: they are refused.
        images: see `OwnImages`.
    """

    dataset: ClassVar[str] = "folder"
    holds: ClassVar[str] = "folder"

    def __init__(
        self, path: str | None = None, splits: Splits = "auto", background: Background | None = None, **images: Any
    ) -> None:
        super().__init__(path, splits, **images)
        require(background in (None, "black", "white"), "background", background, "black, white or null")
        self.form = self.form._replace(background=background)

    def read_parts(self, path: Path) -> tuple[Mapping[str, Part], dict[str, str]]:
        where = f"path={self.path}"
        if not path.is_dir():
            raise DataError(f"{where}: is a file, not a folder; an array of images is data=array")
        classes = {name: image_files(folder, where) for name, folder in parts_of(path, self.splits, where).items()}
        listed = [(name, label, file) for name, below in classes.items() for label, files in below.items() for file in files]
        listed.sort(key=lambda entry: name_below(path, entry[2]))
        pixels, digest = _read(path, [file for *_, file in listed], self.form, where)
        parts = {}
        for name, below in classes.items():
            places = [place for place, entry in enumerate(listed) if entry[0] == name]
            labels = None if UNLABELLED in below else np.array([listed[place][1] for place in places])
            parts[name] = Part(pixels if len(places) == len(pixels) else pixels[torch.tensor(places)], labels)
        return parts, {f"{path.resolve().name}/": digest}


def name_below(folder: Path, file: Path) -> str:
    """The name of a file as it is sorted by, alike on every system: below `folder`, with one way to write an accent."""
    return unicodedata.normalize("NFC", file.relative_to(folder).as_posix())


def _read(folder: Path, files: list[Path], form: Form, where: str) -> tuple[Tensor, str]:
    """The pixels `(N, C, H, W)` of all files, and one MD5 over their names and the MD5 of their contents."""
    digest = hashlib.md5()
    pixels = np.empty(0, np.uint8)
    require_scaled_memory(len(files), form, where)
    for place, (file, (md5, image)) in enumerate(zip(files, _decoded(files, form), strict=True)):
        digest.update(f"{name_below(folder, file)}\0{md5}\n".encode("utf-8", "surrogateescape"))
        if not place:
            require_memory(len(files) * image.nbytes, f"{where}: all of its {len(files)} images", "size=<pixels> scales them down")
            pixels = np.empty((len(files), *image.shape), np.uint8)
        _require_alike(file, image.shape, files[0], pixels.shape[1:])
        pixels[place] = image
    return torch.from_numpy(pixels), digest.hexdigest()


def _decoded(files: list[Path], form: Form) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """MD5 and pixels of each file, in their order, read by several threads: pillow lets others work while it decodes."""
    quiet = len(files) < SHOWN_FROM
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of large images: memory is looked after here
        for start in track(range(0, len(files), AT_ONCE), "reading images", transient=True, disable=quiet):
            yield from threads.map(lambda file: _one(file, form), files[start : start + AT_ONCE])


def _one(file: Path, form: Form) -> tuple[str, NDArray[np.uint8]]:
    content = content_of(file, MOST)
    if content is None:
        lost = "is a link to what is not there; mend or remove it" if file.is_symlink() else "is not there any more"
        raise DataError(f"{file}: {lost}")
    try:
        return hashlib.md5(content).hexdigest(), decode(content, form)
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error


def _require_alike(file: Path, shape: tuple[int, ...], first: Path, of_first: tuple[int, ...]) -> None:
    """Refuse an image of another size or kind than the first one."""
    if shape[0] != of_first[0]:
        kinds = {1: "grey", 3: "colour"}
        raise DataError(
            f"{file}: is {kinds[shape[0]]}, and {first} is {kinds[of_first[0]]}; channels=1 makes all grey, channels=3 all colour"
        )
    if shape != of_first:
        raise DataError(
            f"{file}: has {shape[1]} x {shape[2]} pixels, and {first} has {of_first[1]} x {of_first[2]}; size=<pixels> scales and "
            "crops all to squares of one size"
        )
