"""The folder that MNIST and its relatives lie in: what may be read from it, and where in it something may be written.

<root>/MNIST/raw, FashionMNIST/raw, KMNIST/raw     the raw files, in torchvision's layout
<root>/binarized_mnist                             Larochelle's static binarization
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from vae_lightning.errors import DataError, one_line
from vae_lightning.machine.reading import UnfitFile, content_within, memory

__all__ = [
    "DATASETS",
    "FILES",
    "MOST",
    "NAMES",
    "STATIC_FOLDER",
    "content_of",
    "data_folder",
    "locked_folder",
    "refuse_foreign",
    "replace_file",
]

DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
"""Name in the configuration: name in torchvision, whose folder layout is kept."""
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Images and labels of each split, the same names in every data set."""
NAMES = tuple(name for names in FILES.values() for name in names)
STATIC_FOLDER = "binarized_mnist"
MOST = 64 << 20
"""The most bytes of a file of these data sets, packed or unpacked: the largest has 47 million."""


def content_of(path: Path, most: int | None = None) -> bytes | None:
    """The bytes of a file; None where there is none.

    Args:
        most: how many bytes such a file has at most; None: as many as this machine's memory.

    Raises:
        DataError: there is something that cannot be read as a file, or is larger.
    """
    try:
        return content_within(path, most or memory() or sys.maxsize)
    except UnfitFile as error:
        raise DataError(f"{path}: {error}; move it elsewhere") from error
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{one_line(str(path))}: cannot be read ({getattr(error, 'strerror', None) or one_line(error)})") from error


def data_folder(root: str | Path, key: str = "root") -> Path:
    """`root` with its ~ replaced, which may be missing but is nothing else than a folder; `key` is what a user calls it."""
    try:
        folder = Path(root).expanduser()
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return folder
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{key}={root}: cannot be read ({getattr(error, 'strerror', None) or one_line(error)})") from error
    if not stat.S_ISDIR(mode):
        raise DataError(f"{key}={root}: is a file, not a folder")
    return folder


def refuse_foreign(folder: Path) -> None:
    """Refuse to fetch into a folder that holds things, and none of this project's.

    Raises:
        DataError: it does; the message says where to fetch to, or which folder is meant.
    """
    try:
        held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"root={folder}: cannot be read ({error.strerror})") from error
    if not held or not {*DATASETS.values(), STATIC_FOLDER}.isdisjoint(held):
        return
    mnist = folder / DATASETS["mnist"]
    if meant := _folder_above(folder):
        wanted = f"is inside of what it should name: root={meant}"
    elif any(name.removesuffix(".gz") in NAMES for name in held):
        wanted = f"holds raw files, which are looked for one step below: move MNIST's into {mnist / 'raw'}"
    else:
        examples = ", ".join(held[:2]) + (", ..." if len(held) > 2 else "")
        wanted = (
            f"holds other things ({examples}) and no data set, so nothing is fetched into it; give a folder of its own, "
            f"root=<folder>, or make the folder {mnist} if MNIST is to be fetched there"
        )
    raise DataError(f"root={folder}: {wanted}")


def _folder_above(folder: Path) -> Path | None:
    """The data folder that `folder` is a data set's own place in; None if it is not."""
    absolute = folder.absolute()
    for depth, place in enumerate((absolute, absolute.parent)):
        if place.name in DATASETS.values() and (depth == 0 or absolute.name == "raw"):
            return place.parent
    return None


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other processes that ask for it waiting; what was made goes again if the block fails."""
    lock = FileLock(folder / ".lock")
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise DataError(f"{folder}: cannot write there ({one_line(error)}); give another: root=<folder>") from error
    try:
        yield
    except BaseException:
        if created:
            with suppress(OSError):  # another process waits for it, or has put something there
                (folder / ".lock").unlink()
                for path in created:
                    path.rmdir()
        raise
    finally:
        lock.release()


def replace_file(source: Path, target: Path) -> None:
    """Put a finished file in its place at once; both must be on one file system."""
    os.replace(source, target)
