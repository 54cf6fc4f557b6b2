"""The door to other packages: a name with a dot is an import path, and is imported in this file only.

Importing a package runs its code. Names in a command are imported as they stand. A run folder may be somebody else's, so the names
in a run folder are imported only if their package is trusted: named by `trusting`, or installed with the entry point `ENTRY_POINT`.
"""

import importlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from vae_lightning.errors import CheckpointError, ConfigurationError, one_line

__all__ = [
    "ENTRY_POINT",
    "OWN",
    "add_working_directory",
    "declared",
    "is_path",
    "load_declared",
    "locate",
    "require_trust",
    "trusting",
]

log = logging.getLogger(__name__)

ENTRY_POINT = "vae_lightning.plugins"
"""Group of entry points. A package that declares one is trusted, and the commands import the module that the entry point names."""
OWN = ("vae_lightning", "torch.nn", "torch.optim")
"""Packages of which any run folder may name a class of `KINDS`: building such an object has no other effect."""
KINDS = {
    "pytorch_lightning.core.datamodule.LightningDataModule",
    "torch.nn.modules.module.Module",
    "torch.optim.lr_scheduler.LRScheduler",
    "torch.optim.optimizer.Optimizer",
}

_trusted: ContextVar[frozenset[str] | None] = ContextVar("trusted", default=None)


def is_path(name: object) -> bool:
    """Whether `name` is an import path, which has a dot, and not a name in one of this project's tables.

    >>> is_path("mypkg.nets.MyNet"), is_path("mlp")
    (True, False)
    """
    return isinstance(name, str) and "." in name


def locate(path: str, key: str = "") -> Any:
    """The class, function or other object that the import path `path` names.

    Args:
        key: the setting that names the path, for the errors: `net.name`.

    Raises:
        ConfigurationError: there is no such thing, or importing it fails.
        CheckpointError: within `trusting`, its package is not trusted.

    >>> locate("torch.nn.Linear").__name__
    'Linear'
    >>> locate("torch.nn.Liner", "net.name")
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: net.name=torch.nn.Liner: torch.nn has no Liner
    """
    asked = f"{key}={path}" if key else path
    words = path.split(".")
    if not all(word.isidentifier() for word in words):
        raise ConfigurationError(f"{asked}: is no import path such as mypkg.module.Name")
    require_trust(path, asked)
    target: Any = None
    for end, word in enumerate(words, start=1):
        name = ".".join(words[:end])
        module = _module(name, asked) if target is None or hasattr(target, "__path__") else None
        if module is None and target is None:
            raise ConfigurationError(f"{asked}: there is no package {name}; is it installed, or in the directory of the command?")
        if module is None and not hasattr(target, word):
            raise ConfigurationError(f"{asked}: {'.'.join(words[: end - 1])} has no {word}")
        target = module if module is not None else getattr(target, word)
    _require_own_thing(target, asked)
    return target


def _module(name: str, asked: str) -> ModuleType | None:
    """The module `name`; None if there is no such module."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever the code of a user's package raises
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        said = one_line(error)
        raise ConfigurationError(f"{asked}: importing {name} fails: {type(error).__name__}: {said}") from error


@contextmanager
def trusting(packages: Iterable[str]) -> Iterator[None]:
    """A block in which `locate` imports only from this project, torch, `packages`, and packages that declare the entry point."""
    token = _trusted.set(frozenset((*packages, *declared())))
    try:
        yield
    finally:
        _trusted.reset(token)


def require_trust(path: str, asked: str) -> None:
    """Refuse, within `trusting`, an import path into a package that is not trusted.

    Args:
        asked: the key and the path, for the error.
    """
    trusted = _trusted.get()
    package = path.partition(".")[0]
    if trusted is None or package in trusted or _is_below(path, OWN):
        return
    if package in ("torch", "vae_lightning", *sys.stdlib_module_names):
        raise CheckpointError(f"{asked}: is none of the parts that a run folder may name; refused")
    raise CheckpointError(
        f"{asked}: is of package {package}; importing it would run its code, so it is refused unless you trust it: "
        f"trust=[{package}], or install the package with the entry point {ENTRY_POINT}"
    )


def _require_own_thing(found: Any, asked: str) -> None:
    """Refuse, within `trusting`, what a trusted package only imports, such as os.system, and what of `OWN` is not of `KINDS`."""
    trusted = _trusted.get()
    if trusted is None:
        return
    home = str(getattr(found, "__module__", type(found).__module__))
    if home.partition(".")[0] in trusted:
        return
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in getattr(found, "__mro__", ())}
    if not (_is_below(home, OWN) and kinds & KINDS):
        raise CheckpointError(f"{asked}: is none of the parts that a run folder may name; refused")


def _is_below(path: str, packages: Iterable[str]) -> bool:
    return any(f"{path}.".startswith(f"{package}.") for package in packages)


def declared() -> dict[str, str]:
    """The modules that installed packages declare by the entry point, by name of the package."""
    modules = {}
    for point in entry_points(group=ENTRY_POINT):
        modules[point.module.partition(".")[0]] = point.value
    return modules


def load_declared() -> None:
    """Import the modules that installed packages declare, which may add names to this project's tables; log what fails."""
    for package, value in declared().items():
        try:
            locate(value.replace(":", "."), f"{ENTRY_POINT} of {package}")
        except ConfigurationError as error:
            log.warning("%s", error)


def add_working_directory() -> None:
    """Let `locate` find a user's module in the working directory, after all installed packages."""
    here = os.getcwd()  # noqa: PTH109  (the path as Python writes such paths)
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
