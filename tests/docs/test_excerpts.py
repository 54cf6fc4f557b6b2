"""The code that pages show is the code of the package, as it is now."""

import ast
import inspect
import textwrap
from pathlib import Path

import pytest
from conftest import REPOSITORY
from site_files import part

from vae_lightning.models import VAE
from vae_lightning.objectives.bounds import elbo

excerpts = part("excerpts")
BOUNDS = REPOSITORY / "vae_lightning" / "objectives" / "bounds.py"


def test_pages_show_the_code_as_it_is() -> None:
    shown = sum("<!-- code: " in path.read_text() for path in (REPOSITORY / "docs").rglob("*.md"))
    assert shown > 10
    assert [str(path) for path, _ in excerpts.stale()] == []


def without_docstring(source: str) -> str:
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.unparse(tree)


def test_code_is_the_function_without_its_docstring() -> None:
    assert "evidence lower bound" in str(elbo.__doc__)
    assert ast.unparse(ast.parse(excerpts.code_of(BOUNDS, "elbo"))) == without_docstring(inspect.getsource(elbo))
    method = excerpts.code_of(REPOSITORY / "vae_lightning" / "models" / "vae.py", "VAE.forward")
    assert ast.unparse(ast.parse(method)) == without_docstring(inspect.getsource(VAE.forward))


def test_code_of_a_class_has_no_docstrings_of_attributes_and_keeps_decorators(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        'LIMIT: int = 3\n"""How many."""\n\n\n@final\nclass A:\n    """One."""\n\n    x: int\n    """Its name."""\n    y = 2\n'
    )
    assert excerpts.code_of(path, "A") == "@final\nclass A:\n    x: int\n    y = 2"
    assert excerpts.code_of(path, "LIMIT") == "LIMIT: int = 3"


def test_page_that_is_old_is_told_and_mended() -> None:
    page = "text\n\n<!-- code: vae_lightning/objectives/bounds.py elbo -->\n```python\nold\n```\n<!-- /code -->\n\nmore\n"
    fresh = excerpts.with_excerpts(page)
    assert "return log_likelihood - kl" in fresh
    assert "old" not in fresh
    assert fresh.startswith("text\n")
    assert fresh.endswith("more\n")
    assert excerpts.with_excerpts(fresh) == fresh


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!-- code: vae_lightning/objectives/bounds.py elbow -->\n<!-- /code -->\n", "bounds.py has no elbow"),
        ("<!-- code: vae_lightning/nowhere.py elbo -->\n<!-- /code -->\n", "nowhere.py: there is no such file"),
        ("<!-- code: vae_lightning/objectives/bounds.py elbo -->\n", "no <!-- /code -->"),
    ],
)
def test_excerpt_of_nothing_is_refused(page: str, said: str) -> None:
    with pytest.raises(LookupError, match=said):
        excerpts.with_excerpts(page)
