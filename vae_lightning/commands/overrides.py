"""Translate a command line as people type it for Hydra: paths as they are, `null` for none of a group, flags anywhere.

A word that cannot be a setting is refused with a line that shows how settings are written: `--model vae`, `model = vae`, `vae`.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vae_lightning.errors import ConfigurationError
from vae_lightning.machine.shell import hydra_quoted, is_hydra_quoted

__all__ = ["flags_first", "parts_of", "prepared", "takes_a_path"]

PATHS = {"ckpt_path", "resume", "run", "run_dir", "root", "static_root", "path", "to", "name", "evaluation.classifier"}
"""Settings whose value is a path or a name, which Hydra's grammar must not interpret."""
PATH_ENDS = (".root", ".static_root", ".path", ".dir", ".subdir", ".dirpath", ".save_dir")
NONE = {"null", "none", "~"}
FLAGS = {"--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion", "-sc"}
FLAGS_WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
FLAGS_WITH_VALUE |= {"--experimental-rerun"}
INFO = {"--info", "-i"}
INFORMATION = {"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"}
SETTING = re.compile(r"(?P<key>\+{0,2}[^=+~\s'\"]+)=(?P<value>.*)", re.DOTALL)
OPTION = re.compile(r"(['\"]?)(?!(?:null|true|false|nan|inf)\b)[A-Za-z_$][^'\"\[\]{}]*\1", re.IGNORECASE)
"""A name in a list of options; Hydra fails on a number."""
FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)", re.DOTALL)
SWEEP = re.compile(r"\+{0,2}sweep=(?!(?:null|none)$).*", re.DOTALL | re.IGNORECASE)
"""A word that makes a command a sweep."""
NO_KEY = re.compile(r"(\+{0,2}|~)(=.*|@.*)?\s*", re.DOTALL)
"""A sign and a value, or a package, without what they are of; Hydra fails on some."""
WRONG_MINUS = re.compile("(?<![\\w./])[\u2212\u2013\u2014](?=[0-9.])")

Suggest = Callable[[str], str]
"""Gives the key that was probably meant by a word in place of a key; an empty string if there is none."""


def prepared(
    words: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None, suggest: Suggest = lambda key: ""
) -> list[str]:
    """The words of a command line, without the script's name, as Hydra reads them.

    Args:
        words: as they were typed.
        groups: the options of each group; a group that may be left out has an option `none`.
        suggest: gives the key that was probably meant by a word.

    Raises:
        ConfigurationError: a word is neither a flag nor a setting.
    """
    flags, settings = flags_first(words, suggest)
    sweep = any(flag in ("-m", "--multirun") for flag in flags) or "hydra.mode=MULTIRUN" in settings
    sweep = sweep or any(map(SWEEP.fullmatch, settings))
    settings = [_setting(word, settings[place + 1 :], sweep, suggest) for place, word in enumerate(settings)]
    return flags + [_option(word, groups or {}, sweep) for word in settings]


def flags_first(words: Sequence[str], suggest: Suggest) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the settings: argparse does not take settings on both sides of a flag."""
    flags: list[str] = []
    settings: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag = word.partition("=")[0]
        if flag in FLAGS_WITH_VALUE:
            count = 0 if "=" in word else 1
        elif flag in INFO:
            count = 1 if rest and rest[0] in INFORMATION else 0
        elif flag in FLAGS or (len(flag) > 3 and any(known.startswith(flag) for known in FLAGS | FLAGS_WITH_VALUE)):
            count = 0
        elif re.match(r"--?[A-Za-z]", word):
            raise _no_flag(word, rest, suggest)
        else:
            settings.append(word)
            continue
        flags += [word, *rest[:count]]
        del rest[:count]
    return flags, settings


def _no_flag(word: str, rest: Sequence[str], suggest: Suggest) -> ConfigurationError:
    name, equals, value = word.lstrip("-").partition("=")
    key = name.replace("-", "_")
    if not equals:
        value = rest[0] if rest and "=" not in rest[0] and not rest[0].startswith("--") else "<value>"
    return ConfigurationError(f"{word}: settings are written without dashes: {suggest(key) or key}={value}")


def _setting(word: str, rest: Sequence[str], sweep: bool, suggest: Suggest) -> str:
    if NO_KEY.fullmatch(word) or ("=" not in word and not word.startswith("~")):
        raise _no_setting(word, rest, suggest)
    match = SETTING.fullmatch(word)
    if match is None:
        return word
    key, value = match["key"], match["value"]
    if not value and rest and "=" not in rest[0]:
        raise ConfigurationError(f"{word} {rest[0]}: write {word}{rest[0]}, without spaces")
    if WRONG_MINUS.search(value) and not takes_a_path(key):
        right = WRONG_MINUS.sub("-", value)
        raise ConfigurationError(f"{word}: has a dash that is no minus; write {key}={right}")
    if key.lstrip("+") == "name":
        for name in parts_of(value) if sweep else [value]:
            _check_name(name)
    return f"{key}={_path(value, sweep)}" if takes_a_path(key) else word


def _no_setting(word: str, rest: Sequence[str], suggest: Suggest) -> ConfigurationError:
    if rest and rest[0].startswith("="):
        typed = [word, *rest[: 2 if rest[0] == "=" else 1]]
        return ConfigurationError(f"{' '.join(typed)}: write {''.join(typed)}, without spaces")
    meant = suggest(word)
    hint = f"; did you mean {meant}{'' if '=' in meant else '=<value>'}?" if meant else ""
    return ConfigurationError(f"{word if word.strip() else repr(word)}: settings are written key=value{hint}")


def _option(word: str, groups: Mapping[str, Sequence[str]], sweep: bool) -> str:
    """`null` as an option, or `~` before a group, is none of it; `model.net=mlp` is an option where the group has that."""
    if word.startswith("~") and "none" in groups.get(word[1:], ()):
        return f"{word[1:]}=none"
    if word.startswith("~") and groups.get(word[1:]) and "/" not in word:
        raise ConfigurationError(f"{word}: there must be one; choose from: {', '.join(groups[word[1:]])}")
    key, _, value = word.partition("=")
    parts = parts_of(value) if sweep else [value]
    named = key.replace(".", "/")
    if "." in key and set(parts) <= set(groups.get(named, ())):
        # as a value the name would replace the whole group, with settings such as model.net.hidden
        return f"{named}={value}"
    options = groups.get(key.lstrip("+"))
    for part in parts if options is not None else ():
        listed = re.fullmatch(r"\[(.*)\]", part.strip(), re.DOTALL)
        if listed and not all(OPTION.fullmatch(name.strip()) for name in parts_of(listed[1])):
            raise ConfigurationError(f"{word}: takes names: {', '.join(options or ())}")
    if options is None or not any(part.strip().lower() in NONE for part in parts):
        return word
    if "none" not in options:
        raise ConfigurationError(f"{word}: there must be one; choose from: {', '.join(options)}")
    return f"{key}={','.join('none' if part.strip().lower() in NONE else part for part in parts)}"


def takes_a_path(key: str) -> bool:
    """Whether the value of the setting `key` is a path, or the name of a folder."""
    bare = key.lstrip("+")
    return bare in PATHS or bare.endswith(PATH_ENDS)


def _path(value: str, sweep: bool) -> str:
    """`value` quoted as one path; in a sweep, as several paths between commas, unless a file has the whole name."""
    if sweep and FUNCTION.fullmatch(value):
        return value
    parts = parts_of(value) if sweep and not os.path.lexists(value) else [value]
    return ",".join(_one_path(part) for part in parts)


def _check_name(name: str) -> None:
    """Refuse a name of a run that is no folder's name: Hydra makes the folder before anything else is checked."""
    steps = name.strip("'\"").split("/")
    if "" in steps or ".." in steps or not name.isprintable():
        raise ConfigurationError(
            f"name={name!r}: must be a folder's name below outputs/; another place is given with hydra.run.dir="
        )


def _one_path(value: str) -> str:
    if value == "null" or is_hydra_quoted(value):
        return value
    if value.startswith("~") and not os.path.lexists(value):  # a shell expands ~ only at the beginning of a word
        value = os.path.expanduser(value)  # noqa: PTH111
    if "${" in value and (not re.search(r"\$\{[^}]+\}", value) or Path(value).exists()):
        value = value.replace("${", "\\${")
    return hydra_quoted(value)


def parts_of(value: str) -> list[str]:
    """Split at commas that are outside of quotes, brackets and braces."""
    parts, depth, quote, last = [""], 0, "", ""
    for character in value:
        if quote:
            quote = "" if character == quote and last != "\\" else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
        last = character
    return parts
