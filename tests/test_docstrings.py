"""A docstring stands alone, as it will be cut into a page of an API: it names its noun before it says anything of it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vae_lightning

ROOT = Path(vae_lightning.__file__).parent
LEANS_ON_ANOTHER = re.compile(r"(Of|The same|Its|Their|They|Those|It|Also|Now)\b")
NOT_YET: set[str] = set()
"""Rooms that have not been gone through."""
PATHS = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in NOT_YET]


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of a module, of its classes and functions, and of its attributes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (docstring := ast.get_docstring(node)):
            yield docstring
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                match before, after:
                    case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                        yield text


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_docstring_leans_on_another(path: Path) -> None:
    assert [text for text in docstrings(path.read_text()) if LEANS_ON_ANOTHER.match(text)] == []


@pytest.mark.parametrize(
    "source",
    [
        '"""The same of two."""',
        'class A:\n    """A class."""\n\n    x: int\n    """Its name."""',
        'def f():\n    """Of all images."""',
    ],
)
def test_such_docstrings_are_seen(source: str) -> None:
    assert any(LEANS_ON_ANOTHER.match(text) for text in docstrings(source))
