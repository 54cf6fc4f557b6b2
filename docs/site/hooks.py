"""What the site shows otherwise than a plain Git host: formulas, links into the repository, the changelog, the reference of names.

MkDocs calls functions named `on_...` (https://www.mkdocs.org/user-guide/configuration/#hooks). Nothing here imports the package.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from links import COPIED, REPOSITORY, copied_pages, copied_pictures, relinked, source_of, with_included
from mkdocs.structure.files import File, Files
from names import page_of, rooms

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
NAMED_OPERATOR = re.compile(r"(<mi>(?:log|exp|max|min)</mi>)(?=<m(?!o\b))")

LONG = 40
"""Characters from which on a formula within a sentence may be wider than a telephone."""


def on_config(config: Any) -> Any:
    """Add to the navigation what has no file in docs/: the rooms of the package, and pages of the repository."""
    sections = {title: pages for section in config["nav"] for title, pages in section.items()}
    sections["Reference"].remove("api/README.md")
    names = ["api/README.md", *({room: f"api/{room}.md"} for room in rooms())]
    sections["Reference"].append({"Names of the package": names})
    copies = [{page.removesuffix(".md"): f"{COPIED}/{page}"} for page in copied_pages()]
    config["nav"].append({"From the repository": copies})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files of those pages."""
    for room, paths in rooms().items():
        files.append(File.generated(config, f"api/{room}.md", content=page_of(room, paths)))
    for page, text in copied_pages().items():
        files.append(File.generated(config, f"{COPIED}/{page}", content=text))
        for path in copied_pictures(page, text):
            files.append(File.generated(config, f"{COPIED}/{path}", abs_src_path=str(REPOSITORY / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Mend the links of a page, and include what it says is included."""
    place = page.file.src_uri
    if page.file.generated_by and not place.startswith(COPIED):
        return markdown
    return with_included(relinked(markdown, source_of(place), place), place)


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML, which browsers show by themselves."""
    return FORMULA.sub(lambda formula: mathml(html.unescape(formula[3]), formula[2] == "["), content)


def mathml(formula: str, is_block: bool) -> str:
    """A formula in LaTeX as MathML, blocks and long ones in a box that scrolls."""
    text = convert(formula.strip(), display="block" if is_block else "inline")
    text = text.replace("<mi>K</mi><mi>L</mi>", '<mi mathvariant="normal">KL</mi>')
    for identifier, operator in (("&#x0007E;", "&#x0223C;"), ("&#x02016;", "&#x02225;")):
        text = text.replace(f"<mi>{identifier}</mi>", f"<mo>{operator}</mo>")
    # the converter leaves no space between log and what it is taken of
    text = NAMED_OPERATOR.sub(r'\1<mspace width="0.167em"/>', text)
    if is_block:
        return f'<div class="formula">{text}</div>'
    return f'<span class="formula">{text}</span>' if len(formula) > LONG else text
