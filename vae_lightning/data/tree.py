"""A folder of images as a tree: which sub-folders are splits, which are classes, and which files are images.

pngs/cat/1.png                  labels by sub-folder; `path=pngs`
pngs/1.png                      no labels
pngs/train/cat/1.png, pngs/test/cat/2.png       splits by sub-folder, with labels
pngs/train/1.png, pngs/test/2.png               and without

Whatever lies further down in a class's folder is of that class. Files whose names begin with a dot, and what file browsers leave
behind, are passed over; any other file counts as an image.
"""

import logging
from pathlib import Path

from vae_lightning.errors import DataError

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
"""Name of a sub-folder, in small letters: the split it holds."""
LEFT_BEHIND = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")
"""Names that file browsers and archives give to what is no image, in small letters."""
UNLABELLED = ""
"""The class of files that lie in the folder itself."""


def parts_of(folder: Path, splits: str, where: str) -> dict[str, Path]:
    """The folders of "train", "val" and "test", as far as they are there; or `folder` itself for "all".

    Args:
        splits: "given", "seed" or "auto"; see `FolderDataModule`.
        where: as what the user gave the folder, for errors.

    Raises:
        DataError: it cannot be told what is meant.
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
    """The image files in `folder` by class, or as `UNLABELLED` where they lie in the folder itself.

    Raises:
        DataError: there are none, a class has none, or some lie in the folder itself and some below.
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
        names = ", ".join(sorted({path.name for path in passed_over})[:3])
        log.warning("%s: passed over %d hidden files and the like (%s)", where, len(passed_over), names)
    for name, below in classes.items():
        if not below:
            empty = f"{folder / name}: is empty; remove it, or put the images of the class into it" if name else ""
            raise DataError(empty or f"{where}: there is no image in {folder}")
    return classes


def _entries(folder: Path, passed_over: list[Path]) -> list[Path]:
    """What is in `folder`, sorted by name; what is no image by its name goes to `passed_over`."""
    try:
        held = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    hidden = [path for path in held if path.name.startswith(".") or path.name.lower() in LEFT_BEHIND]
    passed_over += hidden
    return [path for path in held if path not in hidden]


def _below(folder: Path, passed_over: list[Path], above: list[Path]) -> list[Path]:
    """All files below `folder`, also through links to folders, of which none leads back to one above."""
    real = folder.resolve()
    if real in above:
        raise DataError(f"{folder}: is a link to a folder that it lies in")
    found: list[Path] = []
    for entry in _entries(folder, passed_over):
        found += _below(entry, passed_over, [*above, real]) if entry.is_dir() else [entry]
    return found
