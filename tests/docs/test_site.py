"""The documentation as a site: every page has its place, every link and anchor leads somewhere, and it builds without a warning."""

import ast
import importlib
import os
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from site_files import part

links, names = part("links"), part("names")
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md"), REPOSITORY / "outputs" / "README.md"])
CONFIG = yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text())
MKDOCS = REPOSITORY / ".venv-site" / "bin" / "mkdocs"


def leaves(nav: object) -> list[str]:
    match nav:
        case dict():
            return [page for inner in nav.values() for page in leaves(inner)]
        case list():
            return [page for inner in nav for page in leaves(inner)]
    return [str(nav)]


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(leaves(CONFIG["nav"])) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


# ---- links and anchors


def headings(path: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title) for title in re.findall(r"^#{1,6} (.+?) *$", text, re.MULTILINE)]


def on_a_git_host(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def on_the_site(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_and_anchors_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\(((?!\w+:)[^)#\s]*)(?:#([\w-]+))?\)", text):
        there = page.parent / target if target else page
        assert there.exists(), target
        if anchor:
            titles = headings(there)
            assert anchor in map(on_a_git_host, titles), f"{target}#{anchor} on a Git host"
            assert anchor in map(on_the_site, titles), f"{target}#{anchor} on the site"


def test_slugs_are_those_of_a_git_host_and_of_the_site() -> None:
    assert on_a_git_host("One's own parts") == on_the_site("One's own parts") == "ones-own-parts"
    assert on_a_git_host("What ± covers") == "what--covers"
    assert on_the_site("What ± covers") == "what-covers"


# ---- what the site shows otherwise


def test_link_to_a_file_of_the_repository_becomes_its_path_and_one_to_a_page_leads_to_the_copy() -> None:
    text = "[`step.py`](../vae_lightning/engine/step.py), [this](../vae_lightning/engine/step.py), [how](../CONTRIBUTING.md#how-to-add)"
    assert links.relinked(text, "docs/sweeps.md", "sweeps.md") == (
        "`vae_lightning/engine/step.py`, this (`vae_lightning/engine/step.py`), [how](repository/CONTRIBUTING.md#how-to-add)"
    )
    copied = links.relinked("[a](docs/sweeps.md) ![b](docs/figures/b.png)", "README.md", "repository/README.md")
    assert copied == "[a](../sweeps.md) ![b](../figures/b.png)"
    for left in ("[a](https://a.org/b.md)", "[a](glossary.md#x)", "```\n[a](../vae_lightning/noise.py)\n```"):
        assert links.relinked(left, "docs/sweeps.md", "sweeps.md") == left


def test_pages_outside_docs_that_are_linked_are_copied() -> None:
    copied = links.copied_pages()
    assert {"README.md", "CONTRIBUTING.md"} <= copied.keys()
    assert "CHANGELOG.md" not in copied
    assert not any(page.startswith("docs/") for page in copied)


def test_changelog_is_included() -> None:
    shown = links.with_included((DOCS / "changelog.md").read_text(), "changelog.md")
    assert "\n## 0.1.0" in shown
    assert shown.count("# Changelog\n") == 1


def test_every_public_name_of_every_room_has_a_place() -> None:
    """Each name of an `__all__` is documented where it is defined, and a room's page asks for all of that file's names."""
    there = {(names.module_of(path), name) for paths in names.rooms().values() for path in paths for name in names.public(path)}
    assert len(there) > 300
    for room, paths in names.rooms().items():
        page = names.page_of(room, paths)
        for path in paths:
            assert f"::: {names.module_of(path)}\n" in page
            assert all(f"\n        - {name}\n" in page for name in names.public(path))
    defined = {name for _, name in there}
    for path in sorted(names.PACKAGE.rglob("*.py")):
        listed = getattr(importlib.import_module(names.module_of(path)), "__all__", []) if "__all__" in path.read_text() else []
        missing = [name for name in listed if name not in defined and (names.module_of(path), name) not in there]
        assert [name for name in missing if not imported_from_elsewhere(path, name)] == [], path


def imported_from_elsewhere(path: Path, name: str) -> bool:
    """Whether a name comes from another package."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return any(
        name in {alias.name for alias in node.names} and not str(node.module).startswith("vae_lightning") for node in imports
    )


# ---- the site itself


@pytest.mark.slow
@pytest.mark.skipif(not MKDOCS.exists(), reason="there is no .venv-site with mkdocs: make site")
def test_site_builds_without_a_warning_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = ["build", "--strict", "--quiet", "--config-file", str(DOCS / "site" / "mkdocs.yml"), "--site-dir", str(tmp_path)]
    built = subprocess.run(
        [MKDOCS, *words], env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=280, check=False
    )
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert len(pages) > 60
    fetched = r"<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//"
    assert [place for place, text in pages.items() if re.search(fetched, text)] == []
    # the theme would fetch what draws diagrams
    assert [place for place, text in pages.items() if re.search(r"class=[\"']?mermaid", text)] == []
    styles = "".join(path.read_text() for path in tmp_path.rglob("*.css"))
    assert re.search(r"@import|url\([\"']?(?:https?:)?//", styles) is None
    assert [place for place, text in pages.items() if 'class="arithmatex"' in text or "<merror" in text] == []
    assert pages["explanation/elbo.html"].count("<math ") > 10
    assert "vae_lightning.objectives.bounds.iwae_bound" in pages["api/objectives.html"]
    assert "data-md-color-scheme=slate" in pages["index.html"].replace('"', "")
