"""Every promise of docs/reliability.md has a test that exists."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / "tests" / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_has_a_promise_and_names_a_test() -> None:
    rows = [
        line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| setting", "| room"))
    ]
    assert len(rows) > 30
    promises = [row for row in rows if row.count("|") == 4 and "::" in row]
    assert len(promises) > 30
    assert len({row.split("|")[1] for row in promises}) == len(promises)
