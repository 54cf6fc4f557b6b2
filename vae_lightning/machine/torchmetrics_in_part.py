"""Let Lightning load from torchmetrics the two classes that Lightning is built on, and the rest only for whoever asks for it.

`import pytorch_lightning` imports torchmetrics, whose package imports scipy, matplotlib and torchvision for metrics of audio,
images and text: half of the seconds that importing Lightning takes, and 100 MB. So the package of torchmetrics, where this module's
finder finds it, runs none of its own code at first. `Metric` and `MetricCollection` come from their own modules, and any other name
runs the package in full, so that `torchmetrics.Accuracy` is there for whoever uses it. The module of plots is loaded without
matplotlib in the same way, and once more with matplotlib when a plot is drawn.

The finder stands in `sys.meta_path` from the first import of `vae_lightning` on; importing this module imports neither torch nor
torchmetrics.
"""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__: list[str] = []

HOMES = {"Metric": "torchmetrics.metric", "MetricCollection": "torchmetrics.collections"}
"""The modules of the names that Lightning imports from the package."""
PLOTS = "torchmetrics.utilities.plot"
HAS_MATPLOTLIB = "_MATPLOTLIB_AVAILABLE"
"""The name in torchmetrics's modules of whether matplotlib is installed."""


class _Finder(MetaPathFinder):
    """Finds torchmetrics's own loaders, in wrappers that put off what Lightning does not need."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        wrapper = {"torchmetrics": _PackageLoader, PLOTS: _PlotsLoader}.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if wrapper else None
        if wrapper and spec is not None and spec.loader is not None:
            spec.loader = wrapper(spec.loader)
        return spec


class _Wrapper(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def __getattr__(self, name: str) -> Any:
        # a loader is also asked for the package's files
        return getattr(self._loader, name)


class _PackageLoader(_Wrapper):
    def exec_module(self, module: ModuleType) -> None:
        about = import_module("torchmetrics.__about__")
        module.__dict__.update({name: value for name, value in vars(about).items() if name in about.__all__})
        module.__dict__["_logger"] = logging.getLogger("torchmetrics")
        module.__dict__["_run"] = lambda: self._loader.exec_module(module)
        module.__class__ = _InPart


class _InPart(ModuleType):
    """torchmetrics before its package's own code has run."""

    _run: Callable[[], None]
    _lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # whoever looks at modules asks each for such names
            raise AttributeError(f"module 'torchmetrics' has no attribute {name!r}")
        if name in HOMES:
            import_module("torchmetrics.utilities")  # which must come before the modules, as it imports them itself
            value = getattr(import_module(HOMES[name]), name)
            self.__dict__[name] = value
            return value
        with self._lock:
            if type(self) is _InPart:
                self.__class__ = ModuleType  # type: ignore[assignment]
                try:
                    self._run()
                except BaseException:
                    self.__class__ = _InPart
                    raise
        return getattr(self, name)


class _PlotsLoader(_Wrapper):
    def exec_module(self, module: ModuleType) -> None:
        imports = import_module("torchmetrics.utilities.imports")
        installed = getattr(imports, HAS_MATPLOTLIB, None)
        if installed is None:  # a version that tells by another name
            self._loader.exec_module(module)
            return
        later = _WhenAsked(lambda: self._loader.exec_module(module), installed)
        setattr(imports, HAS_MATPLOTLIB, later)
        try:
            self._loader.exec_module(module)
        finally:
            setattr(imports, HAS_MATPLOTLIB, installed)
        later.loading = False


class _WhenAsked:
    """Whether matplotlib is installed: no, while the module of plots is loaded; if asked later, the module is loaded with it."""

    def __init__(self, load: Callable[[], None], installed: object) -> None:
        self.load, self.installed, self.loading = load, installed, True

    def __bool__(self) -> bool:
        if self.loading:
            return False
        self.load()  # into the same names, which the functions that were imported from there look up
        return bool(self.installed)


if "torchmetrics" not in sys.modules:
    sys.meta_path.insert(0, _Finder())
