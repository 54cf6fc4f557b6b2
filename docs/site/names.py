"""The public names of the package by room, read from the text of its files: for the reference on the site."""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "vae_lightning"
ALONE = "vocabulary"
"""The page of the modules that lie in no room."""


def public(path: Path) -> list[str]:
    """The names in a file's `__all__`, in the order of the file, but for those that it imports."""
    tree = ast.parse(path.read_text())
    listed: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            listed = ast.literal_eval(node.value)
    names = dict.fromkeys(name for node in tree.body for name in defined(node))
    return [name for name in names if name in listed]


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement gives to a class, a function or a value."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Assign(targets=targets):
            return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


def rooms() -> dict[str, list[Path]]:
    """The files with public names by room; those in no room under `ALONE`."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if public(path):
            first, *rest = path.relative_to(PACKAGE).parts
            found.setdefault(first if rest else ALONE, []).append(path)
    return dict(sorted(found.items()))


def module_of(path: Path) -> str:
    """The dotted name of the module in `path`."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def page_of(room: str, paths: list[Path]) -> str:
    """The page of a room in the words of mkdocstrings: its modules, their public names and docstrings."""
    parts = [f"# {room}"]
    first = PACKAGE / room / "__init__.py"
    if first.is_file() and first not in paths:
        parts.append(ast.get_docstring(ast.parse(first.read_text())) or "")
    for path in paths:
        members = "\n".join(f"        - {name}" for name in public(path))
        parts.append(f"::: {module_of(path)}\n    options:\n      members:\n{members}")
    return "\n\n".join(parts) + "\n"
