"""Every promise of docs/reliability.md has a test that exists, and no page and no section of the documentation is left out."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))
TABLE = "| promise | test | figure |\n|---|---|---|\n"
BY_SECTION = ("README.md", "docs/glossary.md", "SECURITY.md", "CONTRIBUTING.md")
"""Pages of which each section has a row of its own in "Page by page"."""
NOT_HELD = {"docs/reliability.md", "CHANGELOG.md", "docs/changelog.md"}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda part: part)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / "tests" / file).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table of promises, by its section."""
    found = {}
    for section in PAGE.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if TABLE in text:
            lines = text.partition(TABLE)[2].partition("\n\n")[0].splitlines()
            found[title] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


def test_every_row_has_a_promise_and_names_a_test() -> None:
    rows = [row for table in tables().values() for row in table]
    assert len(rows) > 100
    assert [row for row in rows if len(row) != 3 or not row[0] or "::" not in row[1]] == []
    assert len({row[0] for row in rows}) == len(rows)


def test_every_page_and_section_is_there_and_leads_to_tables() -> None:
    listed = re.findall(r"^\| `([\w/]+\.md)` \| (.+?) \| (.+?) \|$", PAGE.partition("\n## Page by page\n")[2], re.MULTILINE)
    patterns = ("*.md", "docs/*.md", "docs/*/README.md", "docs/howto/*.md", "outputs/*.md")
    pages = {path.relative_to(REPOSITORY).as_posix() for pattern in patterns for path in REPOSITORY.glob(pattern)}
    assert {page for page, *_ in listed} == pages - NOT_HELD
    for page in BY_SECTION:
        text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(), flags=re.MULTILINE | re.DOTALL)
        first, *sections = re.findall(r"^##? (.+)$", text, re.MULTILINE)
        assert set(sections) <= {section for name, section, _ in listed if name == page} <= {first, *sections}, page
    titles = set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    for page, _, named in listed:
        assert set(named.split(", ")) <= titles or named.startswith("none"), page


def test_every_page_of_ones_own_parts_has_a_row() -> None:
    pages = {path.name for path in (REPOSITORY / "docs" / "extending").glob("*.md")} - {"README.md"}
    assert {row[0].partition("]")[0].lstrip("[") for row in tables()["One's own parts"]} >= pages
