"""Code of the package that pages show, copied into them, as a plain Git host shows pages too: docs/site/excerpts.py --write.

A page says which between two comments, a file and names of functions, classes, `Class.method` or tables in it:

    <!-- code: vae_lightning/objectives/bounds.py elbo -->
    <!-- /code -->

Between them stands what those are now, without docstrings, which say what the page says. A test holds pages to be fresh.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from names import defined

REPOSITORY = Path(__file__).resolve().parents[2]
EXCERPT = re.compile(r"(?m)^(<!-- code: (\S+) ([\w. ]+) -->\n)(.*?)^(<!-- /code -->)$", re.DOTALL)


def code_of(path: Path, name: str) -> str:
    """The lines of `name`, or of `Class.method`, in the file `path`, without its docstrings and indentation.

    Raises:
        LookupError: the file has no such name.
    """
    text = path.read_text()
    body: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        found = [node for node in body if part in defined(node)]
        if not found:
            raise LookupError(f"{path.relative_to(REPOSITORY)} has no {name}")
        node = found[0]
        body = getattr(node, "body", [])
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    silent = {line for inner in ast.walk(node) for line in _docstring(inner)}
    lines = text.splitlines()
    kept = [lines[number - 1] for number in range(first, (node.end_lineno or first) + 1) if number not in silent]
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(:\n)\n+", r"\1", textwrap.dedent("\n".join(kept))))


def _docstring(node: ast.AST) -> Iterator[int]:
    """The lines of a docstring, and those of the texts below a class's attributes."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        texts = node.body[:1] if isinstance(node, ast.FunctionDef) else node.body
        for inner in texts:
            if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant) and isinstance(inner.value.value, str):
                yield from range(inner.lineno, (inner.end_lineno or inner.lineno) + 1)


def with_excerpts(text: str) -> str:
    """A page with the code that it shows as that is now.

    Raises:
        LookupError: a file or a name is not there, or an excerpt has no end.
    """
    if len(re.findall("^<!-- code: ", text, re.MULTILINE)) != len(EXCERPT.findall(text)):
        raise LookupError("an excerpt has no <!-- /code -->")

    def excerpt(match: re.Match[str]) -> str:
        path = REPOSITORY / match[2]
        if not path.is_file():
            raise LookupError(f"{match[2]}: there is no such file")
        code = "\n\n\n".join(code_of(path, name) for name in match[3].split())
        return f"{match[1]}```python\n# {match[2]}\n{code}\n```\n{match[5]}"

    return EXCERPT.sub(excerpt, text)


def stale() -> Iterator[tuple[Path, str]]:
    """Pages whose code is not fresh, and the text that each should hold."""
    for path in sorted((REPOSITORY / "docs").rglob("*.md")):
        text = path.read_text()
        if (fresh := with_excerpts(text)) != text:
            yield path, fresh


def main(arguments: list[str]) -> int:
    """Write the pages that are not fresh, or print which they are; gives the exit status."""
    write, old = arguments == ["--write"], list(stale())
    for path, fresh in old:
        if write:
            path.write_text(fresh)
        print(f"{path.relative_to(REPOSITORY)}: {'written' if write else 'is not fresh: python docs/site/excerpts.py --write'}")
    return 0 if write or not old else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
