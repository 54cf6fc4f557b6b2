"""The door to other packages: a name with a dot is an import path, and is imported in this file only.

Importing a package runs its code. Names in a command are imported as they stand. A run folder may be somebody else's, so the names
in a run folder are imported only if their package is trusted: named by `trusting`, or installed with the entry point `ENTRY_POINT`.
"""

import functools
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from vae_lightning.errors import CheckpointError, ConfigurationError, Interruption, one_line

__all__ = [
    "ENTRY_POINT",
    "LIGHTNING",
    "OWN",
    "add_working_directory",
    "declared",
    "is_path",
    "load_declared",
    "locate",
    "require_trust",
    "search_working_directory",
    "trusting",
    "values_under",
]

log = logging.getLogger(__name__)

ENTRY_POINT = "vae_lightning.plugins"
"""Group of entry points. A package that declares one is trusted, and the commands import the module that the entry point names."""
OWN = ("vae_lightning", "torch.nn", "torch.optim", "pytorch_optimizer")
"""Packages of which any run folder may name a class of `KINDS`: building such an object has no other effect."""
KINDS = {
    "pytorch_lightning.core.datamodule.LightningDataModule",
    "torch.nn.modules.module.Module",
    "torch.optim.lr_scheduler.LRScheduler",
    "torch.optim.optimizer.Optimizer",
}
LIGHTNING = "pytorch_lightning"
"""The package of which a training may name everything that is its own."""
NEVER = frozenset(("torch", "vae_lightning", *sys.stdlib_module_names))
"""Packages that cannot be trusted as a whole: with their functions a run folder could do anything."""
NO_PART = "is none of the parts that a run folder may name; refused"

_trusted: ContextVar[frozenset[str] | None] = ContextVar("trusted", default=None)
_kinds: ContextVar[frozenset[str]] = ContextVar("kinds", default=frozenset(KINDS))
_directory: str | None = None
"""The directory of the command, from which nothing has been imported yet."""


def is_path(name: object) -> bool:
    """Whether `name` is an import path, which has a dot, and not a name in one of this project's tables.

    >>> is_path("mypkg.nets.MyNet"), is_path("mlp")
    (True, False)
    """
    return isinstance(name, str) and "." in name


def values_under(node: Any, keys: Collection[str] = ("_target_",), where: str = "") -> Iterator[tuple[str, Any]]:
    """What stands under one of `keys` anywhere in `node`, plain containers, each with its own key in full.

    >>> list(values_under({"net": {"_target_": "mypkg.Net", "of": [{"_target_": "mypkg.Part"}]}}))
    [('net._target_', 'mypkg.Net'), ('net.of.0._target_', 'mypkg.Part')]
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in keys:
                yield f"{where}{key}", value
            yield from values_under(value, keys, f"{where}{key}.")
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for place, value in enumerate(node):
            yield from values_under(value, keys, f"{where}{place}.")


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
    asked = one_line(f"{key}={path}" if key else path, 300)
    words = path.split(".")
    if not all(word.isidentifier() for word in words):
        raise ConfigurationError(f"{asked}: is no import path such as mypkg.module.Name")
    require_trust(path, asked)
    found: Any = _module(words[0], asked)
    if found is None:
        raise ConfigurationError(f"{asked}: there is no package {words[0]}; is it installed, or in the directory of the command?")
    for end, word in enumerate(words[1:], start=2):
        _require_own_place(found, asked)
        found = _attribute(found, word, ".".join(words[:end]), asked)
    _require_own_thing(found, words[0], asked)
    return found


def _attribute(found: Any, word: str, name: str, asked: str) -> Any:
    """The attribute `word` of `found`, as Python's own imports have it: where there is none, the module `name`."""
    try:
        return getattr(found, word)
    except AttributeError:
        module = _module(name, asked) if hasattr(found, "__path__") else None
    except BaseException as error:  # of a module or class that makes its attributes when they are asked for
        raise _failed(asked, f"looking for {word}", error) from error
    if module is None:
        raise ConfigurationError(f"{asked}: {name.rpartition('.')[0]} has no {word}")
    return module


def _module(name: str, asked: str) -> ModuleType | None:
    """The module `name`; None if there is no such module."""
    try:
        _search_directory(name)
        return importlib.import_module(name)
    except BaseException as error:  # whatever the code of a user's package raises, SystemExit among it
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise _failed(asked, f"importing {name}", error) from error


def _failed(asked: str, what: str, error: BaseException) -> ConfigurationError:
    """What to raise for `error` of a user's code; Ctrl-C stays what it is, and so do other signals."""
    if isinstance(error, KeyboardInterrupt | Interruption):
        raise error
    return ConfigurationError(f"{asked}: {what} fails: {type(error).__name__}: {one_line(error)}")


@contextmanager
def trusting(packages: Iterable[str], kinds: Iterable[str] = ()) -> Iterator[None]:
    """Within, `locate` gives only what is of this project, of torch, of `packages`, or of one that declares the entry point.

    Args:
        kinds: import paths of classes whose subclasses in this project and in torch may be named, beside `KINDS`.

    Raises:
        ConfigurationError: one of `packages` cannot be trusted as a whole.
    """
    packages = tuple(packages)
    for package in packages:
        if package in NEVER:
            raise ConfigurationError(f"trust={package}: is no package of parts; name the one that the run's own classes are of")
    tokens = _trusted.set(frozenset((*packages, *declared())) - NEVER), _kinds.set(frozenset((*KINDS, *kinds)))
    try:
        yield
    finally:
        _trusted.reset(tokens[0])
        _kinds.reset(tokens[1])


def require_trust(path: str, asked: str) -> None:
    """Refuse, within `trusting`, an import path into a package that is not trusted.

    Args:
        asked: the key and the path, for the error.
    """
    trusted = _trusted.get()
    package = path.partition(".")[0]
    if trusted is None or package in trusted or _is_below(path, OWN):
        return
    if not package.isidentifier():
        raise CheckpointError(f"{asked}: is no import path such as mypkg.module.Name; refused")
    if package in NEVER:
        raise CheckpointError(f"{asked}: {NO_PART}")
    given = sorted(trusted - {*declared(), LIGHTNING})
    raise CheckpointError(
        f"{asked}: is of package {package}; importing it would run its code, so it is refused unless you trust it: "
        f"trust=[{','.join([*given, package])}], or install the package with the entry point {ENTRY_POINT}"
    )


def _require_own_place(found: Any, asked: str) -> None:
    """Refuse, within `trusting`, a path that goes on through what a module has only imported, such as os, or through an object."""
    trusted = _trusted.get()
    if trusted is None or isinstance(found, type):
        return
    home = found.__name__ if isinstance(found, ModuleType) else ""
    above = any(f"{package}.".startswith(f"{home}.") for package in OWN)
    if not (home.partition(".")[0] in trusted or above or _is_below(home, OWN)):
        raise CheckpointError(f"{asked}: {NO_PART}")


def _require_own_thing(found: Any, package: str, asked: str) -> None:
    """Refuse, within `trusting`, what a trusted package only imports itself, such as os.system, and of `OWN` all but `KINDS`."""
    trusted = _trusted.get()
    if trusted is None:
        return
    if isinstance(found, tuple):  # a pair of nets is of no package: what it is made of is
        for part in found:
            _require_own_thing(part, package, asked)
        return
    while isinstance(found, functools.partial):
        found = found.func
    home = str(getattr(found, "__module__", None) or type(found).__module__)
    owner = home.partition(".")[0]
    if owner in trusted:
        return
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in found.__mro__} if isinstance(found, type) else set()
    if _is_below(home, OWN) and kinds & _kinds.get():
        return
    if package in trusted and _is_below(f"{type(found).__module__}", OWN):  # such as a NetPair of the package's own nets
        return
    if package in trusted and owner not in NEVER and isinstance(found, type):
        raise CheckpointError(f"{asked}: is of package {owner}, which must be trusted as well: trust=[{package},{owner}]")
    raise CheckpointError(f"{asked}: {NO_PART}")


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
    """Let Python find a module of the user's own in the directory of the command, after all that is installed."""
    here = os.getcwd()  # noqa: PTH109  (the path as Python writes such paths)
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def search_working_directory() -> None:
    """Let `locate` alone find a module in the directory of the command.

    A command that opens somebody's run may be given in their folder. What Python, Hydra and others look for on their own, such as
    plugins and optional packages, they must not find there.
    """
    global _directory
    _directory = os.getcwd()  # noqa: PTH109  (the path as Python writes such paths)


def _search_directory(name: str) -> None:
    """Add the directory of the command to Python's path if the module `name`, which may be imported, is there and nowhere else."""
    if _directory is None or "." in name or name in sys.modules or _directory in sys.path:
        return
    if importlib.util.find_spec(name) is None and PathFinder.find_spec(name, [_directory]) is not None:
        sys.path.append(_directory)
