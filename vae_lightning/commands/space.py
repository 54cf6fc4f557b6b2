"""The space of a search in Hydra's own grammar: `interval(...)`, `range(...)`, `choice(...)`, lists, and tags `log` and `int`."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep, Transformer

from vae_lightning.errors import ConfigurationError

__all__ = ["Axis", "Space", "Suggests"]

SEED = "seed"
"""The setting whose values are not searched, but averaged over."""
TAGS = ("int", "log")
"""What a range can be tagged with."""
MOST = 100_000
"""Values of a range that are looked at."""


class Suggests(Protocol):
    """What draws values: a trial of Optuna."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Axis:
    """A setting that is searched."""

    key: str
    """The dotted key of the setting, or its group."""
    element: str
    """The key as a word has it: with a plus, or a package."""
    low: float = 0
    high: float = 0
    step: float | None = None
    """The distance between values; None: any value between `low` and `high`."""
    log: bool = False
    """Whether the logarithm is what is uniform."""
    choices: Mapping[Any, str] | None = None
    """Values among which there is no order, by what Optuna calls them; None: numbers from `low` to `high`."""

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int) and isinstance(self.step, int)

    def __str__(self) -> str:
        if self.choices is not None:
            return f"one of {','.join(self.choices.values())}"
        by = "" if self.step is None else f" by {self.step}"
        return f"{self.low} to {self.high}{by}{', log-uniform' * self.log}"

    def word(self, trial: Suggests) -> str:
        """The word of the setting, with the value that `trial` draws, or has drawn before."""
        if self.choices is not None:
            return f"{self.element}={self.choices[trial.suggest_categorical(self.key, list(self.choices))]}"
        if self.whole:
            step = int(self.step or 1)
            return f"{self.element}={trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log)}"
        return f"{self.element}={trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)!r}"

    def ends(self) -> list[str]:
        """The words of the values that say whether all others are allowed: the ends of a range, or all choices."""
        values = [self.low, self.high] if self.choices is None else self.choices.values()
        return [f"{self.element}={value}" for value in values]


@dataclass(frozen=True)
class Space:
    """What the settings of a command make a search try."""

    axes: tuple[Axis, ...]
    """The settings that are searched."""
    fixed: tuple[str, ...]
    """The words that all runs have."""
    seeds: tuple[str, ...]
    """The words of the seeds that a trial is averaged over; empty: one run a trial."""

    @classmethod
    def of(cls, words: Sequence[str], parser: OverridesParser) -> "Space":
        """The space of the settings of a command line; of two for one key, the later one counts.

        Raises:
            ConfigurationError: nothing is searched, or a range is none.
        """
        by_key = {override.get_key_element(): override for override in parser.parse_overrides(list(words))}
        swept = [override for override in by_key.values() if override.is_sweep_override()]
        fixed = tuple(str(override.input_line) for override in by_key.values() if not override.is_sweep_override())
        seeds = [override for override in swept if override.key_or_group == SEED]
        for override in seeds:
            if not override.is_discrete_sweep():
                raise ConfigurationError(f"{override.input_line}: a trial is averaged over seeds, so name them: seed=0,1,2")
        axes = tuple(axis_of(override) for override in swept if override.key_or_group != SEED)
        if not axes:
            raise ConfigurationError(
                "hydra/sweeper=optuna: nothing to search; give a setting several values: 'model.optimizer.lr=interval(1e-4,1e-2)'"
            )
        return cls(
            axes, fixed, tuple(f"{SEED}={value}" for seed in seeds for value in dict.fromkeys(text for _, text in _items(seed)))
        )

    @property
    def keys(self) -> list[str]:
        """The keys in which runs differ."""
        return [*(axis.key for axis in self.axes), *([SEED] if self.seeds else [])]

    def runs(self, trial: Suggests) -> list[list[str]]:
        """The words of each run of a trial."""
        common = [*self.fixed, *(axis.word(trial) for axis in self.axes)]
        return [[*common, seed] for seed in self.seeds] or [common]

    def explained(self, error: ConfigurationError) -> ConfigurationError:
        """The refusal of an end of a range, such that it names the range, if that should have been one of whole numbers."""
        for axis in self.axes:
            if axis.choices is None and str(error).startswith(f"{axis.key}=") and "valid integer" in str(error):
                asked = f"interval({axis.low:g},{axis.high:g})"
                return ConfigurationError(f"{axis.element}={asked}: takes whole numbers; write {axis.element}=int({asked})")
        return error

    def ends(self) -> Iterator[list[str]]:
        """Words of runs in which each value stands once that says whether all others are allowed."""
        by_axis = [axis.ends() for axis in self.axes] + ([list(self.seeds)] if self.seeds else [])
        first = [words[0] for words in by_axis]
        yield [*self.fixed, *first]
        for place, words in enumerate(by_axis):
            for word in words[1:]:
                yield [*self.fixed, *first[:place], word, *first[place + 1 :]]


def axis_of(override: Override) -> Axis:
    """The axis that a swept setting is."""
    key, element, value = str(override.key_or_group), override.get_key_element(), override.value()
    unknown = sorted(str(tag) for tag in getattr(value, "tags", ()) if tag not in TAGS)
    if unknown:
        raise ConfigurationError(f"{override.input_line}: no tag {', '.join(unknown)}; tags are {' and '.join(TAGS)}")
    if isinstance(value, IntervalSweep):
        low, high = _number(override, value.start), _number(override, value.end)
        if "int" in value.tags:
            low, high = int(low), int(high)
        step = 1 if isinstance(low, int) and isinstance(high, int) else None
        return _checked(override, Axis(key, element, low, high, step, "log" in value.tags))
    if isinstance(value, RangeSweep):
        return _of_range(override, key, element, "log" in value.tags)
    choices = {_called(item, text): text for item, text in _items(override)}
    if not choices:
        raise ConfigurationError(f"{override.input_line}: has no values")
    return Axis(key, element, choices=choices)


def _items(override: Override) -> list[tuple[Any, str]]:
    """The values of a swept setting, each with its text, as they are written: `shuffle` gives another order each time."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        values = list(value.list)
    elif isinstance(value, RangeSweep):
        values = [*itertools.islice(value.range(), MOST)]
    else:
        values = [*override.sweep_iterator()]
    return [(item, str(Transformer.str(item))) for item in values]


def _of_range(override: Override, key: str, element: str, log: bool) -> Axis:
    values = [_number(override, value) for value, _ in _items(override)]
    if not values:
        raise ConfigurationError(f"{override.input_line}: has no values")
    low, high = min(values), max(values)
    step = abs(values[1] - values[0]) if len(values) > 1 else 1
    if not isinstance(low, int):
        step = round(step, 12)  # which decimal numbers in the grammar had exactly
    if log and not (isinstance(low, int) and step == 1):
        raise ConfigurationError(
            f"{override.input_line}: a range with the tag log has steps of 1; others are written as an interval"
        )
    return _checked(override, Axis(key, element, low, high, step, log))


def _checked(override: Override, axis: Axis) -> Axis:
    if not axis.low <= axis.high:
        raise ConfigurationError(f"{override.input_line}: ends before it begins")
    if axis.log and axis.low <= 0:
        raise ConfigurationError(f"{override.input_line}: the tag log needs a range above 0")
    return axis


def _number(override: Override, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):
        raise ConfigurationError(f"{override.input_line}: has no two ends that are numbers")
    return value


def _called(item: Any, text: str) -> str | int | float | bool | None:
    """What Optuna calls a value: it takes plain values alone, and a list by its text."""
    if isinstance(item, QuotedString):
        return str(item.text)
    return item if item is None or isinstance(item, str | int | float | bool) else text
