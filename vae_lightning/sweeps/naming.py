"""Names of the jobs of a sweep: what tells a job from the others, in a form that every file system takes."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["folder_name", "labelled", "short_keys", "shown"]

LONGEST = 180
"""The most bytes of a folder's name; file systems take 255, of which temporary files beside the folder need some."""


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each key that no other key has.

    >>> short_keys(["model.latent_dim", "model.optimizer.name", "model/net", "name"])
    {'model.latent_dim': 'latent_dim', 'model.optimizer.name': 'optimizer.name', 'model/net': 'net', 'name': 'name'}
    """
    parts = {key: re.split(r"[./]", key) for key in keys}
    short: dict[str, str] = {}
    for key, words in parts.items():
        others = [other for name, other in parts.items() if name != key]
        endings = (words[-count:] for count in range(1, len(words) + 1))
        apart = next((end for end in endings if all(other[-len(end) :] != end for other in others)), words)
        short[key] = ".".join(apart)
    return short


def shown(value: Any) -> str:
    """A value as a table shows it.

    >>> shown(4.0), shown([500, 500]), shown(None), shown(True)
    ('4.0', '[500,500]', 'null', 'true')
    """
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def labelled(settings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Settings in a line.

    Args:
        names: the short name of each key.

    >>> labelled({"model.beta": 4.0, "seed": 1}, {"model.beta": "beta", "seed": "seed"})
    'beta=4.0 seed=1'
    """
    return " ".join(f"{names.get(key, key)}={shown(value)}" for key, value in settings.items()) or "the only setting"


def folder_name(settings: Mapping[str, Any], names: Mapping[str, str], taken: Iterable[str] = ()) -> str:
    """The name of the folder of a job, of at most `LONGEST` bytes, which is none of `taken`, whatever the case of its letters.

    >>> folder_name({"model.net.hidden": [32, 16], "name": "a b/c"}, {"model.net.hidden": "hidden", "name": "name"})
    'hidden=32_16,name=a_b_c'
    """
    pairs = (f"{names.get(key, key)}={_plain(shown(value))}" for key, value in settings.items())
    name = ",".join(pairs) or "job"
    digest = hashlib.sha256(json.dumps([*settings.items()], default=str).encode()).hexdigest()[:8]
    if len(name.encode()) > LONGEST:
        name = f"{name.encode()[: LONGEST - 9].decode(errors='ignore')}~{digest}"
    lowered = {other.casefold() for other in taken}
    return f"{name}~{digest}" if name.casefold() in lowered else name


def _plain(text: str) -> str:
    """`text` with `_` in the place of what a shell, a web address or Hydra would take for more than a character."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "_"
