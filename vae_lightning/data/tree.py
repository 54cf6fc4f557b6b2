"""Find the splits, the classes and the image files in a folder of images.

pngs/cat/1.png                  labels by sub-folder; `path=pngs`
pngs/1.png                      no labels
pngs/train/cat/1.png, pngs/test/cat/2.png       splits by sub-folder, with labels
pngs/train/1.png, pngs/test/2.png               splits by sub-folder, no labels

All files below a class's folder, at any depth, are of that class. Files whose names begin with a dot, and files that file browsers
leave behind, are passed over; any other file counts as an image.
"""

import logging
from pathlib import Path

from vae_lightning.errors import DataError, printable

__all__ = ["UNLABELLED", "image_files", "parts_of"]

log = logging.getLogger(__name__)

ROLES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The split that a sub-folder holds, by the sub-folder's name in small letters."""
LEFT_BEHIND = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")
"""Names, in small letters, of files and folders of file browsers and archives, which hold no images of the user."""
UNLABELLED = ""
"""The class of files that lie in the folder itself."""


def parts_of(folder: Path, splits: str, where: str) -> dict[str, Path]:
    """The folders of the splits that exist among "train", "val" and "test"; or `folder` itself as "all".

    Args:
        splits: "given", "seed" or "auto"; see `FolderDataModule`.
        where: the user's name for the folder, for errors: `path=pngs`.

    Raises:
        DataError: the folder can be read in two ways, or has no training images.
    """
    if splits == "seed":
        return {"all": folder}
    entries = _entries(folder, [])
    roles: dict[str, Path] = {}
    for entry in entries:
        role = ROLES.get(entry.name.lower()) if entry.is_dir() else None
        if role in roles:
            raise DataError(f"{where}: holds both {roles[role].name} and {entry.name}; which is meant for {role}? Move the other")
        if role is not None:
            roles[role] = entry
    beside = [entry.name for entry in entries if entry not in roles.values()]
    if splits == "auto" and (not roles or (beside and len(roles) == 1)):
        return {"all": folder}
    names = ", ".join(entry.name for entry in roles.values()) or "no splits"
    if "train" not in roles:
        raise DataError(f"{where}: holds {names}, and no sub-folder train; splits=seed takes sub-folders for classes")
    if splits == "auto" and beside:
        raise DataError(
            f"{where}: holds {names} and {beside[0]}: splits=given takes the first for splits and leaves the rest out, splits=seed "
            "takes all sub-folders for classes"
        )
    log.info("%s: its splits are its sub-folders %s", where, names)
    return roles


def image_files(folder: Path, where: str) -> dict[str, list[Path]]:
    """The image files in `folder` by class; files that lie in the folder itself are of the class `UNLABELLED`.

    Raises:
        DataError: the folder or a class holds no images, or images lie both in the folder itself and below.
    """
    passed_over: list[Path] = []
    entries = _entries(folder, passed_over)
    files, folders = [e for e in entries if not e.is_dir()], [e for e in entries if e.is_dir()]
    if files and folders:
        raise DataError(
            f"{where}: {folder} holds files ({files[0].name}) beside sub-folders ({folders[0].name}); put all of them "
            "into sub-folders, which are their classes, or none"
        )
    classes = {sub.name: _below(sub, passed_over, []) for sub in folders} if folders else {UNLABELLED: files}
    if passed_over:
        names = printable(", ".join(sorted({path.name for path in passed_over})[:3]))
        log.warning("%s: passed over %d hidden files and the like (%s)", where, len(passed_over), names)
    for name, below in classes.items():
        if not below:
            empty = f"{folder / name}: is empty; remove it, or put the images of the class into it" if name else ""
            raise DataError(empty or f"{where}: there is no image in {folder}")
    return classes


def _entries(folder: Path, passed_over: list[Path]) -> list[Path]:
    """The entries of `folder`, sorted by name, except those that are no images by their names, which go to `passed_over`."""
    try:
        held = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    hidden = [path for path in held if path.name.startswith(".") or path.name.lower() in LEFT_BEHIND]
    passed_over += hidden
    return [path for path in held if path not in hidden]


def _below(folder: Path, passed_over: list[Path], above: list[Path]) -> list[Path]:
    """All files below `folder`, also through links to folders; a link to a folder above is refused."""
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder}: is a link to a folder that it lies in")
    files_below: list[Path] = []
    for entry in _entries(folder, passed_over):
        files_below += _below(entry, passed_over, [*above, real]) if entry.is_dir() else [entry]
    return files_below
