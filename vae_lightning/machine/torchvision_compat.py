"""Let torchvision be imported where its compiled part does not fit the installed torch.

A torchvision built for CUDA beside a torch built for the CPU cannot load its compiled operators, and its import, also by Lightning,
then fails with "operator torchvision::nms does not exist". This project uses only torchvision's data sets, so the two operators
that the import asks for are declared, without an implementation, and the import is repeated. Where the builds match, the first
attempt succeeds. The finder stands in `sys.meta_path` from the first import of `vae_lightning` on; importing this module imports
neither torch nor torchvision.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__: list[str] = []


class _Finder(MetaPathFinder):
    """Finds torchvision's own loader, in a wrapper that tries to load twice."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            for name in [name for name in sys.modules if name.startswith("torchvision.")]:
                del sys.modules[name]
            _declare_operators()
            self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        # a loader is also asked for the package's files
        return getattr(self._loader, name)


def _declare_operators() -> None:
    import torch

    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


if "torchvision" not in sys.modules:
    sys.meta_path.insert(0, _Finder())
