"""Read the YAML files of a run folder, which may be somebody else's, as plain values that refer to nothing but each other.

Hydra and OmegaConf let a value ask the environment (`${oc.env:HOME}`), the clock, or whatever else a program registers. In a run
folder such a value stays a text. Training writes configs that are resolved, so none of its own has any.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from vae_lightning.machine.reading import TEXT, content_within

__all__ = ["Unresolved", "asks_for_more", "literal", "read_yaml", "resolved"]

MOST = 20_000
"""The most values of a file, counted wherever they are repeated by an anchor or a reference; a run's config has some hundred."""
DEEPEST = 40
LONGEST = 1 << 16
"""The most characters of a text that is put together from others."""
REFERENCE = re.compile(r"\$\{(?P<up>\.*)(?P<path>[^${}:\s]+)\}")
"""What refers to another key, without anything else in the braces."""
ESCAPED_BYTE = re.compile(r"\\uDC[89A-F][0-9A-F]")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unresolved(ValueError):
    """A value cannot be had from the file alone.

    Args:
        key: the key of the value, with dots.

    >>> Unresolved("data.root", "${oc.env:HOME} asks for more than another key").key
    'data.root'
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(reason)
        self.key = key


def read_yaml(path: Path, folder: Path) -> Any:
    """The content of a YAML file in `folder`, dicts, lists and plain values; what is to be resolved stays as it is written.

    Raises:
        OSError, ValueError, yaml.YAMLError, RecursionError: it cannot be read, is no YAML, or far larger than a run's is.
    """
    text = content_within(path, TEXT, folder).decode()
    _require_few(text)
    if not text.strip():
        return {}
    try:
        return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except AssertionError as error:  # of OmegaConf, which says no more
        raise ValueError("is neither a mapping nor a list") from error


def _require_few(text: str) -> None:
    """Refuse what would be too much when every alias is replaced by what it stands for, or is nested too deeply."""
    sizes: dict[str, int] = {}
    under_way: list[tuple[int, str | None]] = [(0, None)]

    def add(size: int, anchor: str | None) -> None:
        above, name = under_way[-1]
        under_way[-1] = (above + size, name)
        if under_way[-1][0] > MOST:
            raise ValueError(f"holds more than {MOST:,} values")
        if anchor is not None:
            sizes[anchor] = size

    # libyaml refuses the escapes in which a name of bytes that are no UTF-8 is written
    for event in yaml.parse(text, Loader=yaml.SafeLoader if ESCAPED_BYTE.search(text) else LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor} stands in what it is short for, or for nothing")
            add(sizes[event.anchor], None)
        elif isinstance(event, yaml.ScalarEvent):
            add(1, event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            under_way.append((1, event.anchor))
            if len(under_way) > DEEPEST:
                raise ValueError(f"is nested more than {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            add(*under_way.pop())


def literal(node: Any) -> Any:
    """`node`, plain values, such that OmegaConf takes what asks for more than another key for a text.

    >>> literal({"root": "${oc.env:HOME}", "seed": "${seed}"})
    {'root': '\\\\${oc.env:HOME}', 'seed': '${seed}'}
    """
    if isinstance(node, dict):
        return {key: literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [literal(value) for value in node]
    if isinstance(node, str) and asks_for_more(node):
        return re.sub(r"(\\*)\$\{", lambda match: f"{match[1] * 2}\\${{", node)
    return node


def asks_for_more(text: str) -> bool:
    """Whether OmegaConf would ask for more than other keys to resolve `text`, such as for the environment.

    >>> asks_for_more("${data.root}/${oc.env:HOME}"), asks_for_more("${data.root}/x")
    (True, False)
    """
    before = ""
    while before != text:
        before, text = text, REFERENCE.sub("", text)
    return "${" in text


def resolved(root: Mapping[str, Any], *keys: str) -> Any:
    """The value of `root` at `keys`, with every reference to another key replaced by what stands there.

    Raises:
        Unresolved: a value asks for something else, refers to nothing, to itself or to too much, or is not set (`???`).

    >>> resolved({"seed": 3, "data": {"seed": "${seed}", "root": "/data/${.seed}"}}, "data")
    {'seed': 3, 'root': '/data/3'}
    """
    return _Resolution(root).at(list(keys), 0)


class _Resolution:
    """One resolution, which counts what it has resolved."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root, self.left = root, MOST

    def at(self, keys: list[str], depth: int) -> Any:
        """What stands at `keys`, resolved."""
        node: Any = self.root
        for place, key in enumerate(keys):
            if isinstance(node, str):  # a reference to what holds the key
                node = self.value(node, keys[:place], depth)
            number = int(key) if re.fullmatch("[0-9]{1,9}", key) else None
            if isinstance(node, Mapping) and (key in node or number in node):
                node = node[key] if key in node else node[number]
            elif isinstance(node, list) and number is not None and number < len(node):
                node = node[number]
            else:
                raise Unresolved(".".join(keys), f"there is no {'.'.join(keys[: place + 1])}")
        return self.value(node, keys, depth)

    def value(self, node: Any, keys: list[str], depth: int) -> Any:
        """`node`, which stands at `keys`, resolved."""
        key = ".".join(keys)
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            raise Unresolved(key, "refers to itself, or to too much")
        if isinstance(node, Mapping):
            return {name: self.value(value, [*keys, str(name)], depth + 1) for name, value in node.items()}
        if isinstance(node, list):
            return [self.value(value, [*keys, str(place)], depth + 1) for place, value in enumerate(node)]
        if not isinstance(node, str):
            return node
        if node == "???":
            raise Unresolved(key, "??? is no value")
        whole = REFERENCE.fullmatch(node)
        return self.referred(whole, keys, depth) if whole else self.text(node, keys, depth)

    def text(self, node: str, keys: list[str], depth: int) -> str:
        """A text with the values of what it refers to in the place of the references, the innermost first."""
        text = node
        while match := REFERENCE.search(text):
            text = text[: match.start()] + str(self.referred(match, keys, depth)) + text[match.end() :]
            self.left -= len(text) // 256
            if len(text) > LONGEST or self.left < 0:
                raise Unresolved(".".join(keys), "refers to itself, or to too much")
        if "${" in text:
            raise Unresolved(".".join(keys), f"{text[:100]} asks for more than another key, which a run folder may not")
        return text

    def referred(self, match: "re.Match[str]", keys: list[str], depth: int) -> Any:
        """What a reference that stands at `keys` refers to."""
        words = [word for word in re.split(r"[.\[\]]", match["path"]) if word]
        # one dot is the mapping that the reference stands in, a second one what holds that mapping
        above = keys[: max(0, len(keys) - len(match["up"]))] if match["up"] else []
        try:
            return self.at([*above, *words], depth + 1)
        except Unresolved as error:
            raise Unresolved(".".join(keys), str(error)) from None  # of what refers, which is what a user has asked for
