"""The record of a search: what it tries, how, and by which metric; `.sweep/search.json` in the sweep's folder.

What came out of each trial is in the journal of Optuna, `sweeps.study`.

This module imports neither torch nor Optuna, as a command reads a record before it knows what it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vae_lightning.arguments import choose, require
from vae_lightning.errors import CheckpointError, ConfigurationError, one_line
from vae_lightning.machine.files import write_json
from vae_lightning.machine.reading import JSON, content_within

__all__ = ["JOURNAL", "PRUNERS", "SAMPLERS", "SEARCH", "Search", "SearchSettings", "is_search"]

SEARCH = Path(".sweep", "search.json")
JOURNAL = "optuna.journal"
"""The file of Optuna's journal in the folder of a sweep."""
FORMAT = 1
"""The format of `search.json`, and the only one that this version reads."""
SAMPLERS = {
    "tpe": "the tree-structured Parzen estimator (Bergstra et al., 2011)",
    "random": "independent draws",
    "qmc": "a low-discrepancy sequence, which covers the space more evenly than independent draws",
}
"""What chooses the values of the next trial, by the name in `hydra.sweeper.sampler`."""
PRUNERS = {
    "median": "stops a trial that is worse than the median of the earlier ones after as many validations",
    "asha": "stops all but the best trials at each rung (asynchronous successive halving; Li et al., 2020)",
    "none": "lets each trial come to its end",
}
"""What stops hopeless trials, by the name in `hydra.sweeper.pruner`."""
LEAST = {"n_trials": 1, "startup_trials": 0, "warmup_validations": 1, "reduction_factor": 2, "seed": 0}


@dataclass(frozen=True)
class SearchSettings:
    """How a search goes about it: the settings of `hydra.sweeper`.

    >>> SearchSettings(n_trials=50).words()[0]
    'hydra.sweeper.n_trials=50'
    """

    n_trials: int = 30
    """How many trials there are in all, without those that failed in earlier commands."""
    sampler: str = "tpe"
    """One of `SAMPLERS`."""
    pruner: str = "median"
    """One of `PRUNERS`."""
    startup_trials: int = 5
    """How many trials come to their end before one is stopped by the median."""
    warmup_validations: int = 1
    """How often a trial is validated before it may be stopped."""
    reduction_factor: int = 3
    """How many trials there are for each one that goes on past a rung of asynchronous successive halving."""
    seed: int = 0
    """The seed of what the sampler draws."""

    def check(self) -> None:
        """Refuse wrong values.

        Raises:
            ConfigurationError: the message names the setting.
        """
        for name, least in LEAST.items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= least, f"hydra.sweeper.{name}", value, f"a whole number of at least {least}")
        choose("hydra.sweeper.sampler", self.sampler, SAMPLERS)
        choose("hydra.sweeper.pruner", self.pruner, PRUNERS)

    def words(self) -> list[str]:
        """The settings as words of a command line."""
        return [f"hydra.sweeper.{name}={value}" for name, value in asdict(self).items()]


@dataclass(frozen=True)
class Search:
    """What a search tries, how, and by which metric it judges."""

    settings: SearchSettings
    metric: str
    """The metric that a trial is judged by, such as `val/elbo`."""
    mode: str
    """Whether that metric is to be large or small: "max" or "min"."""
    space: Mapping[str, str]
    """What is tried of each setting, by dotted key, in words."""
    seeds: tuple[str, ...]
    """The values of `seed` over which the metric of a trial is averaged; empty: that of the config alone."""

    def difference(self, other: "Search") -> str | None:
        """In what another search tries something else, or judges it otherwise; None: in nothing."""
        for key in dict.fromkeys([*self.space, *other.space]):
            if self.space.get(key) != other.space.get(key):
                return f"{key}: the search tries {self.space.get(key, 'one value')}, and not {other.space.get(key, 'one value')}"
        if self.seeds != other.seeds:
            return f"seed: a trial of the search has the seeds {_listed(self.seeds)}, and not {_listed(other.seeds)}"
        if (self.metric, self.mode) != (other.metric, other.mode):
            return f"monitor={other.metric}: the search judges by {self.metric} ({self.mode})"
        return None

    def write(self, folder: Path) -> None:
        """Write the record into the sweep's folder."""
        write_json(folder / SEARCH, {"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> "Search":
        """The record in the sweep's folder.

        Raises:
            CheckpointError: there is none, or it is damaged; the message names the file.
        """
        path = folder / SEARCH
        try:
            content = json.loads(content_within(path, JSON, folder))
            if content.get("format") != FORMAT:
                raise ValueError(f"format {content.get('format')}, and this version of vae_lightning knows {FORMAT}")
            return _read(content)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: is missing, and with it what the search tries; search in another folder") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigurationError) as error:
            raise CheckpointError(f"{path}: is damaged ({one_line(error, 120)})") from None


def is_search(folder: Path) -> bool:
    """Whether a search has chosen the settings of the sweep in `folder`, also if its record was lost."""
    return (folder / SEARCH).is_file() or (folder / JOURNAL).is_file()


def _listed(seeds: tuple[str, ...]) -> str:
    return ",".join(seeds) or "of the config"


def _read(content: Any) -> Search:
    settings = SearchSettings(**{field.name: content["settings"][field.name] for field in fields(SearchSettings)})
    settings.check()
    texts = [content["metric"], content["mode"], *content["space"], *content["space"].values(), *content["seeds"]]
    if not all(isinstance(text, str) for text in texts) or content["mode"] not in ("min", "max"):
        raise TypeError("it is no record of a search")
    return Search(settings, content["metric"], content["mode"], content["space"], tuple(content["seeds"]))
