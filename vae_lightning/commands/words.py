"""The words of a command that is not Hydra's: `key=value`, each key once, and `--help`."""

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from vae_lightning.commands.commandline import whole_command
from vae_lightning.errors import ConfigurationError
from vae_lightning.machine import screen
from vae_lightning.machine.shell import unquoted
from vae_lightning.plugins import search_working_directory

__all__ = ["asked_for", "list_of", "settings_of"]


@contextmanager
def asked_for(words: Sequence[str] | None, help: str) -> Iterator[list[str] | None]:
    """A block for a command with these words, None for those of the process; errors end it in one line and status 2.

    It gives None where help is asked for, which is then printed.
    """
    screen.prepare()
    search_working_directory()
    with whole_command():
        given = list(sys.argv[1:] if words is None else words)
        if any(word in ("--help", "-h") for word in given):
            print(help)
            yield None
        else:
            yield given


def settings_of(words: Sequence[str], keys: Mapping[str, str]) -> dict[str, str]:
    """The values of the words by their keys; one in quotes of Hydra's, as another command may print it, without these.

    Args:
        keys: every key with an example of its value, as `run` with `<folder>`.

    Raises:
        ConfigurationError: a word is no setting, its key is unknown, or given twice.

    >>> settings_of(["run=latest"], {"run": "<folder>", "to": "<folder>"})
    {'run': 'latest'}
    """
    settings: dict[str, str] = {}
    examples = ", ".join(f"{key}={example}" for key, example in keys.items())
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not re.fullmatch(r"\w+", key):
            raise ConfigurationError(f"{word}: is not understood; give {examples}")
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]}=?" if near else f"give {examples}"
            raise ConfigurationError(f"{word}: no such key; {hint}")
        if key in settings:
            raise ConfigurationError(f"{word}: {key} is given twice")
        settings[key] = unquoted(value)
    return settings


def list_of(key: str, value: str) -> list[str]:
    """The names in `[a,b]`, `a,b` or `a`.

    >>> list_of("format", "[onnx, safetensors]")
    ['onnx', 'safetensors']

    Raises:
        ConfigurationError: there is no name in it.
    """
    inner = value.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    names = [name.strip().strip("'\"") for name in inner.split(",")]
    if not all(names):
        raise ConfigurationError(f"{key}={value}: must be a name or a list of names, {key}=[a,b]")
    return names
