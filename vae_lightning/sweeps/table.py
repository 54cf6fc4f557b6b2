"""The table of a sweep: a row a setting, each metric's mean over seeds with its errors, and differences from one of the rows.

A setting is what varies but for the seed: its jobs differ in their seeds alone. How means, errors and differences are computed is
said in `sweeps.statistics`; the errors of an estimate of an evaluation (`nll`, `active_units`, ...) over images are those of its
report, whose mean over seeds is given: that is right where an image is as hard for every seed, and too large otherwise.
"""

import importlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vae_lightning.errors import ConfigurationError
from vae_lightning.glossary import METRICS
from vae_lightning.sweeps.naming import labelled, short_keys, shown
from vae_lightning.sweeps.record import Record
from vae_lightning.sweeps.results import SPLIT, Result
from vae_lightning.sweeps.search import is_search
from vae_lightning.sweeps.statistics import Spread, paired, spread
from vae_lightning.sweeps.status import State, statuses
from vae_lightning.treatment import Treatment

__all__ = ["FIRST", "Row", "Table", "in_nats", "is_better_high", "table_of"]

SEED = "seed"
FIRST = ("elbo", "elbo_marginal", "log_likelihood", "kl", "nll", "active_units", "accuracy", "iwae_bound", "loss")
"""The metrics that come first, in this order."""
JUDGED_BY = ("elbo_marginal", "elbo", "accuracy", "loss")
"""The metrics by which rows are ranked: the first of these that the runs have."""


@dataclass(frozen=True)
class Row:
    """A setting: its jobs, and what came out of them.

    >>> Row({"model.beta": 4}, "beta=4").finished
    []
    """

    settings: Mapping[str, Any]
    """The values of what varies, without the seed, by dotted key."""
    label: str
    """The settings in a line, with short keys."""
    results: Sequence[Result] = ()
    """The jobs, which differ in their seeds."""
    cells: Mapping[str, Spread] = field(default_factory=dict)
    """The means over seeds by `split/metric`."""
    differences: Mapping[str, Spread] = field(default_factory=dict)
    """The paired differences from the chosen row by `test/metric`: this row's value less that of the chosen one."""
    no_differences: str = ""
    """Why there are no differences; empty where there are, and in the chosen row."""

    @property
    def finished(self) -> list[Result]:
        """The jobs with a result; the last one of each seed, since a second one of a seed is no further seed."""
        return list({json.dumps(result.seed, default=str): result for result in self.results if result.finished}.values())

    @property
    def treatment(self) -> Treatment | None:
        """What its nats are of, as the first job with a result says; None where none does."""
        return next((result.status.treatment for result in self.finished), None)


@dataclass(frozen=True)
class Table:
    """What came out of a sweep.

    >>> Table(Path("sweep"), Record.empty("."), [], [], [], {}, None).axes
    []
    """

    folder: Path
    """The sweep's."""
    record: Record
    """What was asked for."""
    rows: Sequence[Row]
    """The settings, in the order in which they were asked for."""
    results: Sequence[Result]
    """All jobs."""
    metrics: Sequence[str]
    """The keys of all metrics, `split/metric`: of test and then of validation."""
    estimators: Mapping[str, Mapping[str, Any]]
    """One of the estimates that each metric of an evaluation is the mean of, by the metric's key."""
    chosen: Row | None
    """The row that differences are taken from."""
    reason: str = ""
    """Why that row, in words."""
    notes: Sequence[str] = ()
    """What one has to know to read the table, a line each."""
    searched: bool = False
    """Whether a search chose the settings, by validation: a test that they are compared by as well says nothing of new images."""

    @property
    def axes(self) -> list[str]:
        """The keys that vary, without the seed."""
        return [axis for axis in self.record.axes if axis != SEED]

    @cached_property
    def names(self) -> dict[str, str]:
        """The short name of each key that varies."""
        return short_keys(self.record.axes)

    @property
    def main(self) -> list[str]:
        """The keys of the metrics that a narrow view has room for, of the test, or of validation in a search or without a test."""
        split = SPLIT if any(key.startswith(f"{SPLIT}/") for key in self.metrics) and not self.searched else "val"
        found = [f"{split}/{name}" for name in FIRST if f"{split}/{name}" in self.metrics]
        return [key for key in found if key != f"{split}/loss" or len(found) == 1] or [*self.metrics][:1]

    @property
    def seeds(self) -> str:
        """How many seeds the rows have a result of, in words."""
        counts = sorted({len(row.finished) for row in self.rows if row.finished})
        if not counts:
            return "no results yet"
        return f"{counts[0]} seed{'s' * (counts[0] != 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"

    def scale(self, key: str) -> float:
        """The largest absolute mean of a metric, after which all its numbers are given their digits."""
        return max((abs(row.cells[key].mean) for row in self.rows if key in row.cells), default=0.0)

    def counted(self) -> dict[State, int]:
        """How many jobs stand how."""
        counts = Counter(result.status.state for result in self.results)
        return {state: counts[state] for state in State if counts[state]}

    def of_state(self, *states: State) -> list[Result]:
        """The jobs that stand so."""
        return [result for result in self.results if result.status.state in states]

    def job(self, result: Result) -> str:
        """The settings of a job in a line, its seed among them."""
        return labelled(result.status.job.settings, self.names)


def is_better_high(key: str) -> bool | None:
    """Whether a higher value of the metric `split/metric` is better; None where neither is, or nobody knows.

    >>> is_better_high("test/elbo"), is_better_high("test/loss"), is_better_high("test/kl")
    (True, False, None)
    """
    metric = METRICS.get(key.partition("/")[2].partition("/")[0])
    return {"high": True, "low": False}.get(metric.direction) if metric is not None else None


def in_nats(key: str) -> bool:
    """Whether the metric `split/metric` is in nats, which compare with those of the same pixels and kind of likelihood alone.

    >>> in_nats("test/elbo"), in_nats("test/accuracy")
    (True, False)
    """
    metric = METRICS.get(key.partition("/")[2].partition("/")[0])
    return metric is None or metric.unit == "nats"


def table_of(folder: Path, record: Record, to: str | None = None) -> Table:
    """The table of the sweep in `folder`, as its jobs stand now.

    Args:
        to: the row that differences are taken from, `"beta=1 latent_dim=2"`; None: the best one on validation.

    Raises:
        ConfigurationError: `to` names no row, or several, or one without a result.
    """
    results = [Result(folder, status, record.shared) for status in statuses(folder, record)]
    estimators, notes = _comparable(results)
    names = short_keys(record.axes)
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(_key(_setting(result)), []).append(result)
    rows = [_row(_setting(group[0]), names, group, estimators) for group in groups.values()]
    found = {key for row in rows for key in row.cells}
    metrics = sorted(found, key=_place)
    chosen, reason = (None, "") if not found else _asked(rows, names, to) if to is not None else _best(rows)
    if to is not None and not found:
        raise ConfigurationError(f"to={to}: no job of the sweep has a result yet")
    if chosen is not None:
        rows = [_with_differences(row, chosen) for row in rows]
        chosen = next(row for row in rows if row.settings == chosen.settings)
    samples = {key: row for key, (_, row) in estimators.items()}
    notes += _without_a_split(results, names) + _twice(rows) + _apart(rows)
    return Table(folder, record, rows, results, metrics, samples, chosen, reason, notes, is_search(folder))


def _setting(result: Result) -> dict[str, Any]:
    return {key: value for key, value in result.status.job.settings.items() if key != SEED}


def _key(settings: Mapping[str, Any]) -> str:
    """What two settings have in common if they are one, 1 and 1.0 among them."""

    def same(value: Any) -> Any:
        if isinstance(value, list):
            return [same(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else value

    return json.dumps([[key, same(value)] for key, value in settings.items()], default=str)


def _place(key: str) -> tuple[int, int, str]:
    split, _, name = key.partition("/")
    return split != SPLIT, FIRST.index(name) if name in FIRST else len(FIRST), name


# ---- one row


def _row(
    settings: Mapping[str, Any],
    names: Mapping[str, str],
    results: Sequence[Result],
    estimators: Mapping[str, tuple[str, Mapping[str, Any]]],
) -> Row:
    row = Row(settings, labelled(settings, names), results)
    done = row.finished
    cells: dict[str, Spread] = {}
    for key in dict.fromkeys(key for result in done for key in result.metrics):
        having = [result for result in done if key in result.metrics]
        images = [result.images[key] for result in having if key in result.images]
        alike = len(images) == len(having) and all(having[0].of_the_same_images(other) for other in having)
        cells[key] = spread([result.metrics[key] for result in having], images if alike else ())
    for key, (identity, _) in estimators.items():
        held = [result.estimates.get(key.partition("/")[2], {}).get(identity) for result in done]
        estimates = [estimate for estimate in held if estimate is not None]
        if estimates:
            cells[key] = _of_estimates(estimates)
    return replace(row, cells=cells)


def _of_estimates(estimates: Sequence[Mapping[str, Any]]) -> Spread:
    over_seeds = spread([estimate["value"] for estimate in estimates])
    errors = [estimate["standard_error"] for estimate in estimates]
    over_images = sum(errors) / len(errors) if all(error is not None for error in errors) else None
    return replace(over_seeds, over_images=over_images, num_images=estimates[0]["num_images"])


def _comparable(results: Sequence[Result]) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], list[str]]:
    """For each estimate's key what tells it from others of the name, the same for all rows, and an example; notes on the others."""
    held: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    evaluated = [result for result in results if result.report]
    if evaluated:  # it takes a second, after which the glossary knows what estimates are
        importlib.import_module("vae_lightning.evaluation.parts")
    for result in evaluated:
        for name, rows in result.estimates.items():
            held.setdefault(name, []).extend(rows.items())
    chosen: dict[str, tuple[str, Mapping[str, Any]]] = {}
    fewer: dict[int, list[str]] = {}
    for name, pairs in held.items():
        counts = Counter(identity for identity, _ in pairs)
        examples = dict(pairs)
        # that which most runs have, and of these the one of the most images and samples
        sizes = {each: (count, examples[each]["num_images"], examples[each]["num_samples"]) for each, count in counts.items()}
        best = max(sizes, key=sizes.__getitem__)
        chosen[f"{SPLIT}/{name}"] = best, examples[best]
        having = sum(name in result.estimates for result in evaluated)
        if having > counts[best]:
            fewer.setdefault(having - counts[best], []).append(name)
    notes = [
        f"{', '.join(names)}: {count} run{'s' * (count != 1)} left out, evaluated with other settings than most"
        for count, names in fewer.items()
    ]
    missing = sum(result.finished for result in results) - len(evaluated)
    if evaluated and missing:
        some = ", ".join(sorted(held)[:3])
        notes.append(f"{missing} finished run{'s' * (missing != 1)} not evaluated, so missing in the means of {some}, ...")
    return chosen, notes


def _without_a_split(results: Sequence[Result], names: Mapping[str, str]) -> list[str]:
    """Notes on finished jobs that were not tested, or not validated, as others were, so that fewer seeds make up some means."""
    done, notes = [result for result in results if result.finished], []
    for split in (SPLIT, "val"):
        lacking = [result for result in done if not any(key.startswith(f"{split}/") for key in result.metrics)]
        if 0 < len(lacking) < len(done):
            some = ", ".join(labelled(result.status.job.settings, names) for result in lacking[:3])
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            notes.append(f"no {split} metrics, so that means of {split}/... are without them: {some}{more}")
    return notes


def _twice(rows: Sequence[Row]) -> list[str]:
    """A note on results that do not count, since there is a later one of their seed, as of a job that was trained anew."""
    left_out = sum(result.finished for row in rows for result in row.results) - sum(len(row.finished) for row in rows)
    if not left_out:
        return []
    count = f"{left_out} result{'s' * (left_out != 1)}"
    return [f"{count} left out: the same setting and seed, trained twice, is no second seed, so that the later one counts"]


def _apart(rows: Sequence[Row]) -> list[str]:
    """A note on rows whose nats do not compare, if there are any."""
    counts = Counter(row.treatment for row in rows if row.treatment is not None)
    if len(counts) < 2:
        return []
    each = "; ".join(f"{treatment.words_with_size} ({count} setting{'s' * (count != 1)})" for treatment, count in counts.items())
    return [f"nats of different things, which do not compare, so that no row is the best by them: {each}"]


# ---- differences


def _with_differences(row: Row, chosen: Row) -> Row:
    if row is chosen:
        return row
    pairs, reason = _pairs(row, chosen)
    keys = set.intersection(*({*mine.images} & {*theirs.images} for mine, theirs in pairs)) if pairs else set()
    mine, theirs = row.treatment, chosen.treatment
    if None not in (mine, theirs) and mine != theirs:
        keys = {key for key in keys if not in_nats(key)}
        reason = "" if keys else f"nats of something else than {chosen.label}"
    differences = {
        key: paired([mine.images[key] for mine, _ in pairs], [theirs.images[key] for _, theirs in pairs])
        for key in sorted(keys, key=_place)
    }
    return replace(row, differences=differences, no_differences=reason)


def _pairs(row: Row, chosen: Row) -> tuple[list[tuple[Result, Result]], str]:
    """The jobs of both rows that have the same seed and were tested on the same images; or why there are none."""
    if not (row.finished and chosen.finished):
        return [], "no result yet"
    theirs = {json.dumps(result.seed): result for result in chosen.finished}
    mine = {json.dumps(result.seed): result for result in row.finished}
    common = [(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
    if not common:
        return [], f"no seed in common with {chosen.label}"
    kept = [pair for pair in common if all(result.images for result in pair)]
    if not kept:
        return [], "no values of single images were kept"
    same = [pair for pair in kept if pair[0].of_the_same_images(pair[1]) and pair[0].of_the_same_images(kept[0][0])]
    return (same, "") if same else ([], f"tested on other images than {chosen.label}")


def _best(rows: Sequence[Row]) -> tuple[Row | None, str]:
    """The best row by validation, which the test does not choose; none by nats that do not compare."""
    apart = bool(_apart(rows))
    for split in ("val", SPLIT):
        for name in JUDGED_BY:
            key = f"{split}/{name}"
            having = [row for row in rows if key in row.cells]
            high = is_better_high(key)
            if having and high is not None and not (apart and in_nats(key)):
                best = max(having, key=lambda row: row.cells[key].mean if high else -row.cells[key].mean)
                return best, f"the best by {key}"
    return None, ""


def _asked(rows: Sequence[Row], names: Mapping[str, str], to: str) -> tuple[Row, str]:
    """The row that `to` names."""
    wanted = _parsed(to)
    axes = [axis for axis in names if axis != SEED]
    keys: dict[str, str] = {}
    for word in wanted:
        endings = [axis for axis in axes if re.split(r"[./]", axis)[-1] == word]
        meant = [axis for axis in axes if word in (axis, names[axis])] or endings
        if len(meant) != 1:
            varied = ", ".join(names[axis] for axis in axes) or "nothing but the seed"
            raise ConfigurationError(f"to={to}: {word} is none of what the sweep varies ({varied})")
        keys[meant[0]] = wanted[word]
    fitting = [row for row in rows if all(_is(row.settings.get(axis), value) for axis, value in keys.items())]
    if len(fitting) != 1:
        which = "names no row" if not fitting else f"names {len(fitting)} rows"
        some = "; ".join(row.label for row in (fitting or rows)[:3])
        raise ConfigurationError(f"to={to}: {which}; give all that tells one from the others, such as {some}")
    if not fitting[0].finished:
        raise ConfigurationError(f"to={to}: no job of this row has a result yet")
    return fitting[0], "as asked for"


def _parsed(to: str) -> dict[str, str]:
    """The pairs of `beta=1 latent_dim=2` or `beta=1,latent_dim=2`, whose values may hold spaces and commas."""
    if to.strip() == "the only setting":  # the label of the row of a sweep over seeds alone
        return {}
    pairs = re.findall(r"(?:^|[\s,])\s*([\w./@]+)=(.*?)(?=[\s,]+[\w./@]+=|\s*$)", to.strip())
    if not pairs:
        raise ConfigurationError(f"to={to}: is no row; give its settings, such as 'beta=1 latent_dim=2'")
    return dict(pairs)


def _is(value: Any, text: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value) == float(text)
        except (ValueError, OverflowError):
            return shown(value) == text.strip()
    return re.sub(r"\s", "", shown(value)) == re.sub(r"\s", "", text)
