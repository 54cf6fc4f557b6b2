"""The parts of docs/site that need nothing but Python, which are no package."""

import importlib.util
from types import ModuleType

from conftest import REPOSITORY


def part(name: str) -> ModuleType:
    """The module in the file docs/site/`name`.py."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", REPOSITORY / "docs" / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
