"""The parts of docs/site that need nothing but Python, which are no package."""

import importlib.util
from types import ModuleType

import pytest
from conftest import REPOSITORY

SITE = REPOSITORY / "docs" / "site"


def part(name: str) -> ModuleType:
    """The module in the file docs/site/`name`.py."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", SITE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SITE))  # its parts import each other, as a script's do
        spec.loader.exec_module(module)
    return module
