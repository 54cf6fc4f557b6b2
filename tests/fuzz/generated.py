"""What hypothesis makes up, and makes smaller when something fails: damage to bytes, values of any kind, words of a command.

Damage is a list of changes, and a changed tree is a list of edits, so that the fewest are left that a failure takes.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import yaml
from bad_input import CATALOGUES
from hypothesis import strategies as st

__all__ = [
    "DAMAGE",
    "EDITS",
    "EDITS_OF_A_CHECKPOINT",
    "Damage",
    "Edits",
    "damaged",
    "documents_of",
    "edited",
    "member_damaged",
    "words_of",
]

Damage = Sequence[tuple[str, int, Any]]
"""Changes of bytes: what is done, at which place (counted from the end if negative), and with what."""
Edits = Sequence[tuple[Sequence[int], str, Any, Any]]
"""Changes of nested mappings and lists: the way to a place, what is done there, and a key and a value to do it with."""

DICTIONARY = (
    *(
        b"${oc.env:HOME}",
        b"${",
        b"}",
        b"*a",
        b"&a ",
        b"!!python/object/apply:os.system",
        b"\x00",
        b"\xff\xff\xff\xff",
        b"\n",
        b": ",
    ),
    *(
        b"[",
        b"{",
        b"nan",
        b"-1",
        b"1e999",
        b"9" * 400,
        b"_target_",
        b"null",
        b"'",
        b'"',
        b"\x80\x02",
        b"\r\n",
        b"../",
        b"PK\x05\x06",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xe2\x80\xae",
        b"<<: ",
        b"? ",
        b"%YAML 9.9\n",
        b"---\n",
        b"0x",
        b"1_0",
        b"\x7f",
        b"\x1b[31m",
    ),
)


def _text(max_size: int) -> st.SearchStrategy[str]:
    """Any characters; hypothesis takes seconds to find out which ones UTF-8 has, where it keeps nothing."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=max_size)


PLACES = st.integers(-(2**15), 2**15)
CHANGES = st.one_of(
    st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
    st.tuples(st.just("cut"), PLACES, st.sampled_from((1, 2, 4, 8, 64, 1024, 1 << 20))),
    st.tuples(st.just("repeat"), PLACES, st.sampled_from((1, 2, 4, 8, 64, 1024))),
    st.tuples(st.just("replace"), PLACES, st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("insert"), PLACES, st.sampled_from(DICTIONARY)),
)
DAMAGE: st.SearchStrategy[Damage] = st.lists(CHANGES, min_size=1, max_size=8)


def damaged(content: bytes, damage: Damage) -> bytes:
    """`content` with bits flipped, pieces cut out, repeated or replaced, and words put in.

    >>> damaged(b"abcdef", [("cut", 1, 2), ("insert", -1, b"!"), ("flip", 0, 5)])
    b'Adef!'
    """
    changed = bytearray(content)
    for what, place, argument in damage:
        at = place % (len(changed) + 1)
        if what == "flip" and changed:
            changed[min(at, len(changed) - 1)] ^= 1 << argument
        elif what == "cut":
            del changed[at : at + argument]
        elif what == "repeat":
            changed[at:at] = changed[at : at + argument]
        elif what == "replace":
            changed[at : at + len(argument)] = argument
        elif what == "insert":
            changed[at:at] = argument
    return bytes(changed)


def member_damaged(content: bytes, which: int, damage: Damage) -> bytes:
    """A zip file with damage in one of its members, which its checksums do not tell, as an attacker would make it."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(changed, "w") as after:
        members = before.infolist()
        for place, member in enumerate(members):
            inside = before.read(member)
            after.writestr(member.filename, damaged(inside, damage) if place == which % len(members) else inside)
    return changed.getvalue()


# ---- values

KEYS = ("_target_", "model", "data", "root", "path", "latent_dim", "net", "name", "hidden", "seed", "callbacks", "trainer", "hydra")
KEYS += ("runtime", "cwd", "overrides", "task", "job", "config_sources", "provider", "_convert_", "_args_", "_partial_", "defaults")
TEXTS = (
    "${oc.env:HOME}",
    "${data.root}",
    "${",
    "???",
    "",
    " ",
    "null",
    "true",
    "1e3",
    "0o7",
    "2020-01-01",
    "nan",
    "=",
    "[",
    "a: b",
)
TEXTS += (
    "/dev/zero",
    "../..",
    "~",
    "~nobody",
    "vae_lightning.models.VAE",
    "vae_lightning.data.MNISTDataModule",
    "os.system",
    "torch.nn",
)
TEXTS += (
    "mlp",
    "vae_lightning.",
    ".",
    "a.b",
    "\x1b[31m",
    "two\nlines",
    "\u202e",
    "a\tb",
    "x" * 5000,
    "model=vae",
    "+seed=1",
    "resume=x",
)
NUMBERS = st.one_of(st.integers(-3, 40), st.sampled_from((2**31, 2**63, -(2**63), 10**30)), st.floats(), st.booleans(), st.none())
SCALARS = st.one_of(NUMBERS, st.sampled_from(TEXTS), _text(max_size=20))
NAMES = st.one_of(st.sampled_from(KEYS), _text(max_size=8))


def _nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12)


VALUES = _nested(SCALARS, NAMES)
"""What JSON can hold: scalars, lists, and mappings from texts."""
TENSORS = st.sampled_from(
    (
        torch.zeros(0),
        torch.zeros(()),
        torch.full((3, 2), float("nan")),
        torch.ones(8, dtype=torch.float64),
        torch.ones(2, dtype=torch.complex64),
        torch.zeros(8, 784, dtype=torch.int64),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(1).expand(10**6),
        torch.zeros(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.zeros(4, dtype=torch.bfloat16),
    )
)
SAVED = _nested(st.one_of(SCALARS, TENSORS, st.binary(max_size=8)), st.one_of(NAMES, st.integers(-3, 40), st.none()))
"""What a checkpoint can hold beside: tensors of any kind, bytes, and keys that are no texts."""


def edits_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Edits]:
    """A few edits, with `values` as what is put in."""
    ways = st.lists(st.integers(0, 30), max_size=5)
    return st.lists(st.tuples(ways, st.sampled_from(("put", "add", "leave out")), NAMES, values), min_size=1, max_size=4)


EDITS = edits_of(VALUES)
EDITS_OF_A_CHECKPOINT = edits_of(SAVED)


def edited(tree: Any, edits: Edits) -> Any:
    """A copy of `tree`, nested mappings and lists, with values put in the place of others, added, or left out.

    >>> edited({"a": {"b": 1}, "c": [2]}, [([0, 0], "put", "", 3), ([0], "add", "d", 4), ([1], "leave out", "", None)])
    {'a': {'b': 3, 'd': 4}}
    """
    for way, what, key, value in edits:
        tree = _edited(tree, way, what, key, value)
    return tree


def _edited(tree: Any, way: Sequence[int], what: str, key: Any, value: Any) -> Any:
    if what == "add" and not way and isinstance(tree, Mapping):
        return {**tree, key: value}
    if not way or not isinstance(tree, Mapping | list) or not tree:
        return value
    branches = dict(tree) if isinstance(tree, Mapping) else dict(enumerate(tree))
    at = [*branches][way[0] % len(branches)]
    if what == "leave out" and len(way) == 1:
        del branches[at]
    else:
        branches[at] = _edited(branches[at], way[1:], what, key, value)
    return branches if isinstance(tree, Mapping) else [*branches.values()]


def _yaml(tree: Any, flow: bool | None) -> bytes:
    return yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True).encode("utf-8", "surrogatepass")


def documents_of(tree: Any, kind: str, flow: bool | None, damage: Damage) -> bytes:
    """A tree as the bytes of a YAML or JSON file, damaged or not."""
    content = _yaml(tree, flow) if kind == "yaml" else json.dumps(tree, indent=0 if flow else None).encode()
    return damaged(content, damage)


# ---- words of a command

HARMFUL = ("hydra.", "--", "run_dir", "ckpt_path", "root", "path", "mlflow", "wandb", "devices", "num_nodes", "static", "trust")
"""What in a made-up word would let it write elsewhere, read other files, fetch, or wait for others."""
ELSEWHERE = re.compile(r"[+~]*(to|run|resume)\b")
"""What names a folder as a whole."""


def _harmless(word: str) -> bool:
    return not (word.startswith("-") or "\0" in word or ELSEWHERE.match(word) or any(part in word for part in HARMFUL))


def words_of(script: str, typed: Sequence[str]) -> st.SearchStrategy[list[str]]:
    """One to three words for a script: as they are in `typed`, made of their pieces and of real keys and options, or of any text."""
    catalogue = CATALOGUES[script]
    known = [word for word in typed if _harmless(word)]
    keys = sorted(
        {key for key in (*catalogue.settings, *catalogue.groups, *(word.partition("=")[0] for word in known)) if _harmless(key)}
    )
    options = sorted({option for options in catalogue.groups.values() for option in options})
    values = sorted({word.partition("=")[2] for word in known})
    atoms = st.one_of(
        st.sampled_from(values),
        st.sampled_from(options),
        st.sampled_from(
            ("1", "-1", "0", "1.5", "1e999", "nan", "null", "true", "???", "'", '"a"', "\\", "${seed}", "${oc.env:HOME}", "1" * 30)
        ),
        st.integers(-3, 40).map(str),
        _text(max_size=8),
    )
    signs = st.sampled_from(("", "", "", "", "+", "++", "~"))
    any_key = st.one_of(st.sampled_from(keys), st.sampled_from(keys), _text(max_size=12))
    any_value = st.recursive(atoms, _hydras, max_leaves=6)
    settings = st.tuples(signs, any_key, any_value).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}")
    spoilt = st.tuples(st.sampled_from(known), DAMAGE).map(
        lambda pair: damaged(pair[0].encode(), pair[1]).decode("utf-8", "replace")
    )
    words = st.one_of(settings, settings, st.sampled_from(known), spoilt, _text(max_size=20))
    return st.lists(words.filter(_harmless), min_size=1, max_size=3)


def _hydras(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Lists, mappings, quoted texts and functions of Hydra's grammar."""
    listed = st.lists(inner, max_size=3).map(",".join)
    return st.one_of(
        listed.map(lambda text: f"[{text}]"),
        listed,
        st.tuples(st.sampled_from(("choice", "range", "str", "int", "json_str", "extend_list", "nix")), listed).map(
            lambda c: f"{c[0]}({c[1]})"
        ),
        st.tuples(NAMES, inner).map(lambda pair: f"{{{pair[0]}:{pair[1]}}}"),
        inner.map(lambda text: f"'{text}'"),
        inner.map(lambda text: f"${{{text}}}"),
    )
