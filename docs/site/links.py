"""Links between pages of the repository, and what becomes of them on the site, which has no files of the repository beside it."""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = "repository"
"""The folder of the site for pages that lie outside docs/ and are linked from a page."""
PLACES = {"CHANGELOG.md": "changelog.md"}
"""Pages outside docs/ that a page of docs/ includes."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[\w-]+)?\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
INCLUDED = re.compile(r"^<!-- included on the site: (\S+) -->$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def _is_elsewhere(target: str) -> bool:
    return re.match(r"\w+:", target) is not None


def _from_root(target: str, source: str) -> str:
    """The path from the repository's root that a link of the page `source` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _is_page(target: str) -> bool:
    return target.endswith(".md") and (REPOSITORY / target).is_file()


def copied_pages() -> dict[str, str]:
    """Pages outside docs/ to which pages of the site link, by their path from the repository's root, with their text."""
    found: dict[str, str] = {}
    waiting = [path.relative_to(REPOSITORY).as_posix() for path in sorted((REPOSITORY / "docs").rglob("*.md"))]
    while waiting:
        source = waiting.pop()
        text = (REPOSITORY / source).read_text()
        if not source.startswith("docs/"):
            found[source] = text
        targets = {_from_root(link[2], source) for link in LINK.finditer(text) if not _is_elsewhere(link[2])}
        outside = {target for target in targets if not target.startswith("docs/") and _is_page(target)}
        waiting += sorted(outside - found.keys() - PLACES.keys())
    return dict(sorted(found.items()))


def copied_pictures(source: str, text: str) -> list[str]:
    """The pictures outside docs/ that the page `source` shows, by their paths from the repository's root."""
    paths = [_from_root(picture[2], source) for picture in PICTURE.finditer(text) if not _is_elsewhere(picture[2])]
    return [path for path in paths if not path.startswith("docs/")]


def place_of(target: str) -> str:
    """Where a file of the repository is on the site."""
    return PLACES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else f"{COPIED}/{target}")


def source_of(place: str) -> str:
    """The path from the repository's root of the page that is at `place` on the site."""
    return place.removeprefix(f"{COPIED}/") if place.startswith(f"{COPIED}/") else f"docs/{place}"


def relinked(text: str, source: str, place: str) -> str:
    """The text of the page `source` with links that work at `place` on the site.

    A link to a page or picture leads to where that is on the site; one to another file becomes the file's path, as code.
    """
    here = posixpath.dirname(place)

    def link(match: re.Match[str]) -> str:
        if _is_elsewhere(match[2]):
            return match[0]
        target, label = _from_root(match[2], source), match[1]
        if _is_page(target):
            return f"[{label}]({posixpath.relpath(place_of(target), here)}{match[3] or ''})"
        return f"`{target}`" if label.strip("`") in target else f"{label} (`{target}`)"

    def picture(match: re.Match[str]) -> str:
        if _is_elsewhere(match[2]):
            return match[0]
        return f"![{match[1]}]({posixpath.relpath(place_of(_from_root(match[2], source)), here)})"

    return outside_of_code(text, lambda part: PICTURE.sub(picture, LINK.sub(link, part)))


def outside_of_code(text: str, change: Callable[[str], str]) -> str:
    """`text` with `change` made to what stands outside of fenced blocks."""
    parts, last = [], 0
    for block in FENCED.finditer(text):
        parts += [change(text[last : block.start()]), block[0]]
        last = block.end()
    return "".join([*parts, change(text[last:])])


def with_included(text: str, place: str) -> str:
    """The text of a page with the files that it includes on the site, each without its first line, the heading."""

    def included(match: re.Match[str]) -> str:
        return relinked((REPOSITORY / match[1]).read_text().partition("\n")[2], match[1], place)

    return INCLUDED.sub(included, text)
