"""The jobs that a sweep's command asks for: the product of the values of its settings, each as the config that it will have."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from vae_lightning.arguments import flattened
from vae_lightning.errors import ConfigurationError
from vae_lightning.sweeps.record import Asked, identity

__all__ = ["Configs", "checked_places", "expanded"]

CHECKED = 50
"""Jobs up to which all are checked: a check takes a tenth of a second."""


def expanded(words: Sequence[str], parser: OverridesParser) -> tuple[list[list[str]], list[str]]:
    """The words of each job, and the keys that are varied.

    Args:
        words: the settings of a command line; of two for one key, the later one counts.

    Raises:
        ConfigurationError: a setting has infinitely many values, or none.
    """
    by_key = {override.get_key_element(): override for override in parser.parse_overrides([*words])}
    values: list[list[str]] = []
    for override in by_key.values():
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigurationError(
                f"{override.input_line}: has no end of values; choose some of them, or let a search do so: sweep=optuna"
            )
        values.append(_values(override))
        if not values[-1]:
            group = str(override.key_or_group)
            options = parser.config_loader.get_group_options(group) if parser.config_loader else []
            raise ConfigurationError(
                f"{override.input_line}: has no value" + (f"; {group} is one of {', '.join(options)}" if options else "")
            )
        _require_whole(override, values[-1], parser)
    axes = [str(override.key_or_group) for override in by_key.values() if override.is_sweep_override()]
    return [list(job) for job in itertools.product(*values)], axes


def _require_whole(override: Override, words: Sequence[str], parser: OverridesParser) -> None:
    """Refuse to vary several settings at once, or a part of one: a table has a column for each setting."""
    if not override.is_sweep_override():
        return
    key = str(override.key_or_group)
    if key.rpartition(".")[2].isdecimal():
        whole = key.rpartition(".")[0]
        raise ConfigurationError(f"{override.input_line}: varies a part of a list; vary the list: {whole}=[...],[...]")
    mapping = next((word for word in words if word.partition("=")[2].startswith("{")), None)
    if mapping is not None:
        given: Any = parser.parse_override(mapping).value()
        names = ", ".join(f"{key}.{name}=..." for name in given)
        raise ConfigurationError(f"{override.input_line}: varies several settings as one; vary each by its name: {names}")


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [*dict.fromkeys(f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator())]
    return [override.input_line or ""]


class Configs:
    """The configs of jobs that differ in a few words.

    Hydra composes one config for all jobs that choose the same options. The values in which they differ are put into it, as Hydra
    itself does after it has put a config together.

    Args:
        name: of the config that is composed.
        common: words for Hydra itself that all jobs have, such as where further configs are.
        parser: of words.
    """

    def __init__(self, name: str, common: Sequence[str], parser: OverridesParser, groups: Mapping[str, Any]) -> None:
        self.name, self.common, self.parser, self.groups = name, list(common), parser, groups
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def with_hydra(self, words: Sequence[str]) -> DictConfig:
        """The config of the job with these words, and in it, below `hydra`, that of Hydra."""
        parsed = self.parser.parse_overrides([*words])
        values = [override for override in parsed if self._is_value(override)]
        rest = tuple(str(override.input_line) for override in parsed if not self._is_value(override))
        keys = tuple(override.get_key_element() for override in values)
        if (*rest, *keys) not in self._composed:
            self._composed[*rest, *keys] = hydra.compose(self.name, [*self.common, *words, "run_dir=."], return_hydra_config=True)
        config = deepcopy(self._composed[*rest, *keys])
        for override in values:
            OmegaConf.update(config, override.get_key_element(), override.value(), merge=True)
        return config

    def _is_value(self, override: Override) -> bool:
        """Whether the word only sets a value that there is already, and chooses no option of a group."""
        plain = override.type is OverrideType.CHANGE and override.package is None
        return plain and str(override.key_or_group) not in self.groups and "/" not in str(override.key_or_group)

    def of(self, words: Sequence[str]) -> tuple[DictConfig, Asked]:
        """The config of a job, and the job."""
        config = self.with_hydra(words)
        choices = {group: option for group, option in config.hydra.runtime.choices.items() if not group.startswith("hydra/")}
        with open_dict(config):
            del config["hydra"]
        plain: Any = OmegaConf.to_container(config, resolve=True)
        flat = flattened(plain)
        return config, Asked(tuple(words), {**flat, **choices}, identity(flat))


def checked_places(values: Sequence[int]) -> Iterator[int]:
    """Which jobs of a product are checked: of up to `CHECKED` all, of more each value once, beside the first of the others.

    Args:
        values: how many values each setting has.

    >>> list(checked_places([2, 3])), len(list(checked_places([10, 10])))
    ([0, 1, 2, 3, 4, 5], 19)
    """
    if math.prod(values) <= CHECKED:
        yield from range(math.prod(values))
        return
    yield 0
    for place, count in enumerate(values):
        yield from (number * math.prod(values[place + 1 :]) for number in range(1, count))
