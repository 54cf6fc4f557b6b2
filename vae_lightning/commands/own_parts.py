"""`model.net.name=mynets.small model.net.width=8` on a command line: a part of one's own, and its arguments."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vae_lightning.commands.overrides import parts_of
from vae_lightning.plugins import is_path

__all__ = ["with_own_parts"]

NAME = re.compile(r"\bname\s*:\s*['\"]?[\w]+(\.\w+)+")
"""An import path as the name in a spec that is written out."""
PATH = re.compile(r"[^\W\d]\w*(\.\w+)+")
"""An import path."""
PARTS = ("net", "objective")
"""Parts of a model whose default option has arguments beside the name."""
OF_TORCH = re.compile(r"model\.(optimizer|lr_schedule)\.(?!(name|lr)=)\w+=")
"""Arguments of an optimizer or a schedule, most of which are torch's own; those that every config has are left out."""
ABSENT = ("model.encoder", "model.decoder", "model.objective")
"""Parts that are null by default, or that some model has not."""


def with_own_parts(words: Sequence[str], conf: Path) -> list[str]:
    """`words` as Hydra takes them where a part of one's own is named: its arguments need no plus, nor does it get another's.

    Nor do the arguments of optimizers and schedules need one, whosever they are.

    A net or objective that nobody asked for is left out, as Hydra would merge the name of one's own, or of any objective, into
    arguments that it does not take. A part that was chosen, by `model/net` or a preset, keeps them.

    >>> with_own_parts(["model.prior.name=mypriors.Laplace", "model.prior.scale=2"], Path("conf"))
    ['model.prior.name=mypriors.Laplace', '++model.prior.scale=2']
    >>> with_own_parts(["model.net.name=mynets.small", "model.net.width=8"], Path("conf"))
    ['++model.net.name=mynets.small', '++model.net.width=8', '~model/net']
    """
    for part in PARTS:
        words = _with_own(part, words, conf)
    pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words]
    parts = dict.fromkeys(part for key, value in pairs if (part := _part_of_ones_own(key, value)))
    for part in parts:
        words = _without_pluses(part, words)
    return [f"++{word}" if OF_TORCH.match(word) else word for word in words]


def _part_of_ones_own(key: str, value: str) -> str:
    """The part that a word chooses one of one's own for, `model.prior` of `model.prior.name=mypriors.Laplace`; "" if none."""
    key = key.lstrip("+")
    part = key.removesuffix(".name")
    named = NAME.search(value) is not None if value.startswith("{") else any(map(PATH.fullmatch, parts_of(value)))
    return part if named and part.startswith("model.") and (key != part or part.count(".") == 1) else ""


def _without_pluses(part: str, words: Sequence[str]) -> list[str]:
    """`words` with a plus before the settings of `part`, whose class is one's own, and `~part`, if it is there, before them."""
    rest = [word for word in words if word != f"~{part}"]
    is_left_out = len(rest) < len(words)
    name, below = f"{part}.name", f"{part}."
    given = any(word.startswith(below) and not word.startswith(f"{name}=") for word in rest)
    done: list[str] = []
    for word in rest:
        key, equals, value = word.partition("=")
        whole = key == part and value.startswith("{")
        if key == part and given and not whole:
            key = name
        there = key == name and not is_left_out and part not in ABSENT
        plus = "++" if whole or (key.startswith(below) and not there) else ""
        done.append(f"{plus}{key}{equals}{value}")
    first = next(place for place, word in enumerate(done) if word.lstrip("+").startswith(part))
    return [*done[:first], f"~{part}", *done[first:]] if is_left_out else done


def _with_own(part: str, words: Sequence[str], conf: Path) -> list[str]:
    settings = {key.lstrip("+~"): value for key, _, value in (word.partition("=") for word in words)}
    name, spec = settings.get(f"model.{part}.name", ""), settings.get(f"model.{part}", "")
    own = any(value and all(map(is_path, parts_of(value))) for value in (name, spec)) or NAME.search(spec) is not None
    own = (own or (part == "objective" and name != "")) and f"~model.{part}" not in words  # each has other arguments
    chosen = {f"model/{part}", "experiment", "--config-name", "-cn"} & set(settings)
    if not own or chosen or not _has_default(part, conf / "model", settings.get("model", "vae")):
        return list(words)
    return [*(_added(part, word) for word in words), f"~model/{part}"]  # at the end, as flags come first


def _added(part: str, word: str) -> str:
    key, _, value = word.partition("=")
    key = key.lstrip("+")
    if key == f"model.{part}" and not value.startswith("{"):
        key = f"model.{part}.name"
    return f"++{key}={value}" if key.startswith(f"model.{part}") else word


def _has_default(part: str, models: Path, option: str) -> bool:
    """Whether the option `option` of model chooses a part of this kind."""
    path = models / f"{option}.yaml"
    content: object = OmegaConf.load(path) if path.is_file() else {}
    defaults = content.get("defaults", []) if isinstance(content, Mapping | DictConfig) else []
    return any(part in entry if OmegaConf.is_dict(entry) else _has_default(part, models, str(entry)) for entry in defaults)
