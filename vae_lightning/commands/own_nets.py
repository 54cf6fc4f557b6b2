"""`model.net.name=mynets.small` on a command line: a net of one's own in the place of the default one and its arguments."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.overrides import parts_of
from vae_lightning.plugins import is_path

__all__ = ["with_own_net"]

NAME = re.compile(r"\bname\s*:\s*['\"]?[\w]+(\.\w+)+")
"""An import path as the name in a spec that is written out."""


def with_own_net(words: Sequence[str], conf: Path) -> list[str]:
    """`words` with the net that nobody asked for left out, where a net of one's own is named.

    Hydra would merge its name into the default net's arguments, which it does not take. A net that was chosen, by `model/net` or a
    preset, keeps them.

    >>> with_own_net(["model.net.name=mynets.small", "model.net.width=8"], Path("conf"))
    ['++model.net.name=mynets.small', '++model.net.width=8', '~model/net']
    """
    settings = {key.lstrip("+~"): value for key, _, value in (word.partition("=") for word in words)}
    name, spec = settings.get("model.net.name", ""), settings.get("model.net", "")
    own = any(value and all(map(is_path, parts_of(value))) for value in (name, spec)) or NAME.search(spec)
    chosen = {"model/net", "experiment", "--config-name", "-cn"} & set(settings)
    if not own or chosen or not _has_default(conf / "model", settings.get("model", "vae")):
        return list(words)
    return [*map(_added, words), "~model/net"]  # at the end, as flags come first


def _added(word: str) -> str:
    key, _, value = word.partition("=")
    key = key.lstrip("+")
    if key == "model.net" and not value.startswith("{"):
        key = "model.net.name"
    return f"++{key}={value}" if key.startswith("model.net") else word


def _has_default(models: Path, option: str) -> bool:
    """Whether the option `option` of model chooses a net."""
    path = models / f"{option}.yaml"
    content: object = OmegaConf.load(path) if path.is_file() else {}
    defaults = content.get("defaults", []) if isinstance(content, Mapping | DictConfig) else []
    return any("net" in entry if OmegaConf.is_dict(entry) else _has_default(models, str(entry)) for entry in defaults)
