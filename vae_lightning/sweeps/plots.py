"""Plots of a sweep, each a function of the table that gives a matplotlib figure, known to no window and to no global state."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from vae_lightning.arguments import require
from vae_lightning.errors import printable
from vae_lightning.figures.style import class_colors, figure
from vae_lightning.sweeps.naming import shown
from vae_lightning.sweeps.statistics import Spread
from vae_lightning.sweeps.table import Row, Table, is_better_high

__all__ = ["beta_of", "differences", "drawn", "heat_maps", "numeric_axes", "parallel_coordinates", "rate_distortion", "seeds"]

TITLES = {
    "elbo": "ELBO (nats)",
    "log_likelihood": "log p(x | z) (nats)",
    "kl": "KL (nats)",
    "nll": "NLL (nats)",
    "active_units": "active units",
    "accuracy": "accuracy",
}
MAPPED = ("elbo", "nll", "kl", "active_units")
"""The metrics that heat maps show."""
MOST = 60
"""Rows that a plot shows, at most: the best ones."""
LARGEST = 1e300
"""Settings beyond which an axis has no place for them."""
ONE = 0.02
"""The share of a plot's width and height within which two points are one to the eye."""
LINES = 8
"""Lines with a legend of their own, and rows of heat maps, at most."""


def drawn(table: Table) -> Iterator[tuple[str, str, Figure]]:
    """The plots that the table has enough for: the name of each, what it shows, and the figure."""
    if not table.metrics:
        return
    metric = table.main[0]
    yield (
        "seeds",
        f"{metric}: a point a seed; the bar is the mean, the line its 95 % interval over seeds (Student's t).",
        seeds(table, metric),
    )
    key = next((key for key in table.main if any(key in row.differences for row in table.rows)), None)
    if key is not None and table.chosen is not None:
        caption = (
            f"{key} less that of {table.chosen.label}, of the same seeds and test images. Thin line: 95 % interval over seeds; "
            "thick line: a standard error over images to either side."
        )
        yield "differences", caption, differences(table, key)
    numeric = numeric_axes(table)
    for x, y in list(itertools.combinations(numeric, 2))[:3]:
        name = "heat_maps" if len(numeric) == 2 else f"heat_maps_{table.names[x]}_{table.names[y]}"
        yield name, "Means over seeds. Darker is more.", heat_maps(table, x, y)
    if beta_of(table) is not None and rate_points(table):
        caption = "Rate (KL) against distortion (-log p(x | z)), beta at each point; along a grey line the ELBO is the same."
        yield "rate_distortion", caption, rate_distortion(table)
    if len(table.axes) > 1 and len(with_metric(table, metric)) > 1:
        yield "parallel_coordinates", f"A line a setting, from what varies to {metric}.", parallel_coordinates(table, metric)


def numeric_axes(table: Table) -> list[str]:
    """The keys that vary and have several values, all of them numbers."""
    values = {axis: [row.settings.get(axis) for row in table.rows] for axis in table.axes}
    return [axis for axis, held in values.items() if all(map(_is_number, held)) and len(set(held)) > 1]


def beta_of(table: Table) -> str | None:
    """The key of the weight of the KL, where it varies."""
    return next((axis for axis in numeric_axes(table) if axis.rpartition(".")[2] == "beta"), None)


def with_metric(table: Table, metric: str) -> list[Row]:
    """The rows that have the metric, of more than `MOST` the best ones, in the order of the table."""
    rows = [row for row in table.rows if metric in row.cells]
    if len(rows) <= MOST:
        return rows
    high = is_better_high(metric)
    best = sorted(rows, key=lambda row: row.cells[metric].mean, reverse=high is not False)[:MOST]
    return [row for row in rows if any(row is other for other in best)]


# ---- means over seeds


def seeds(table: Table, metric: str) -> Figure:
    """Each setting's values of `metric` by seed, their mean and its 95 % interval over seeds."""
    rows = with_metric(table, metric)
    require(bool(rows), "metric", metric, f"one of {', '.join(table.metrics)}")
    fig, axes = _of_rows([row.label for row in rows])
    _intervals(axes, [row.cells[metric] for row in rows])
    for place, row in enumerate(rows):
        values = row.cells[metric].values
        axes.plot(values, [place] * len(values), "o", ms=4, color="C0", alpha=0.7, mec="none")
    axes.set(xlabel=_title(metric))
    return fig


def differences(table: Table, metric: str) -> Figure:
    """Each setting's paired difference of `metric` from the chosen one, with its interval over seeds and its error over images."""
    rows = [row for row in with_metric(table, metric) if metric in row.differences]
    chosen = table.chosen
    require(bool(rows) and chosen is not None, "metric", metric, "a metric that the rows' differences are known of")
    assert chosen is not None
    fig, axes = _of_rows([row.label for row in rows])
    axes.axvline(0.0, color="0.6", lw=0.8)
    _intervals(axes, [row.differences[metric] for row in rows], reaching=0.0)
    for place, row in enumerate(rows):
        spread = row.differences[metric]
        if spread.over_images is not None:
            axes.plot(
                [spread.mean - spread.over_images, spread.mean + spread.over_images],
                [place] * 2,
                color="C0",
                lw=5,
                alpha=0.5,
                solid_capstyle="butt",
            )
    axes.set(xlabel=f"{_title(metric)}, difference from {_cut(chosen.label)}")
    return fig


def _of_rows(labels: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure with a line a row, the first one above."""
    fig, axes = figure(6.4, 0.9 + 0.27 * len(labels))
    axes.set_yticks(range(len(labels)), [_cut(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="y", color="0.92", lw=0.7)
    return fig, axes


def _intervals(axes: Axes, spreads: Sequence[Spread], reaching: float | None = None) -> None:
    """The mean of each row and its interval over seeds; what would press all others into a line reaches beyond the axis."""
    values = [value for spread in spreads for value in (spread.mean, *spread.values)] + ([] if reaching is None else [reaching])
    low, high = min(values), max(values)
    margin = 0.5 * (high - low) or 0.01 * abs(high) or 1.0
    for place, spread in enumerate(spreads):
        half = "" if spread.half_width is None else f" ± {spread.half_width:.2f}"
        axes.annotate(
            f"{spread.mean:.2f}{half}",
            (1.01, place),
            xycoords=axes.get_yaxis_transform(),
            fontsize=7,
            va="center",
            annotation_clip=False,
        )
        axes.plot([spread.mean], [place], "|", ms=11, mew=2, color="C1", zorder=3)
        if spread.half_width is not None:
            axes.plot([spread.mean - spread.half_width, spread.mean + spread.half_width], [place] * 2, color="C1", lw=1.2)
    reach = [spread.mean + sign * spread.half_width for spread in spreads if spread.half_width is not None for sign in (-1, 1)]
    axes.set_xlim(max(low - margin, min([low, *reach]) - 0.1 * margin), min(high + margin, max([high, *reach]) + 0.1 * margin))
    if reach and (min(reach) < low - margin or max(reach) > high + margin):
        axes.set_title("an interval that reaches the edge goes on beyond it", fontsize=8, color="0.4")


# ---- two keys


def heat_maps(table: Table, x: str, y: str, metrics: Sequence[str] = MAPPED) -> Figure:
    """The means of `metrics` over the values of the keys `x` and `y`; further maps for each combination of what varies besides."""
    split = table.main[0].partition("/")[0]
    keys = [key for key in (f"{split}/{name}" for name in metrics) if key in table.metrics] or [table.main[0]]
    others = list(dict.fromkeys(_others(row, (x, y), table.names) for row in table.rows))[:LINES]
    across, along = (sorted({row.settings[key] for row in table.rows}) for key in (x, y))
    maps = [(other, key) for other in others for key in keys]
    columns = min(2, len(maps))
    lines = -(-len(maps) // columns)
    width, height = max(3.0, 1.1 + 0.62 * len(across)), max(1.9, 1.0 + 0.36 * len(along))
    fig, panels = figure(width * columns, height * lines, rows=lines, columns=columns, squeeze=False)
    for panel in panels.flat[len(maps) :]:
        panel.set_visible(False)
    for panel, (other, key) in zip(panels.flat, maps, strict=False):
        cells = np.full((len(along), len(across)), np.nan)
        for row in table.rows:
            if key in row.cells and _others(row, (x, y), table.names) == other:
                cells[along.index(row.settings[y]), across.index(row.settings[x])] = row.cells[key].mean
        _heat_map(panel, cells, [shown(value) for value in across], [shown(value) for value in along])
        panel.set_title("\n".join(filter(None, (_title(key), _cut(other)))), fontsize=9)
        panel.set(xlabel=_cut(table.names[x]), ylabel=_cut(table.names[y]))
    return fig


def _heat_map(axes: Axes, cells: Any, columns: Sequence[str], rows: Sequence[str]) -> None:
    known = cells[np.isfinite(cells)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1.0)
    axes.imshow(cells, cmap="viridis_r", norm=norm, aspect="auto", origin="lower")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    digits = 3 if high - low < 1 else 1
    for (row, column), value in np.ndenumerate(cells):
        missing = not math.isfinite(value)
        light = not missing and norm(value) > 0.6
        text = "missing" if missing else f"{value:.{digits}f}"
        axes.text(
            column, row, text, ha="center", va="center", fontsize=7, color="0.5" if missing else "white" if light else "black"
        )


def rate_points(table: Table) -> dict[str, list[tuple[float, Row]]]:
    """The rows with a rate and a distortion, each with its beta, in the order of beta, by the settings that vary besides."""
    beta = beta_of(table)
    if beta is None:
        return {}
    found: dict[str, list[tuple[float, Row]]] = {}
    for row in table.rows:
        if "test/kl" in row.cells and "test/log_likelihood" in row.cells:
            found.setdefault(_others(row, (beta,), table.names), []).append((row.settings[beta], row))
    return {label: sorted(pairs, key=lambda pair: pair[0]) for label, pairs in found.items()}


def rate_distortion(table: Table) -> Figure:
    """Rate (KL) and distortion (-log-likelihood) of the test in nats an image, beta at each point, on lines of equal ELBO.

    "Fixing a broken ELBO", Alemi et al., 2018, https://arxiv.org/abs/1711.00464.
    """
    points = rate_points(table)
    require(bool(points), "table", table.folder.name, "of a sweep over beta with results")
    fig, axes = figure(6.0, 4.4)
    few = list(points.items())[:LINES]
    for (label, pairs), color in zip(few, class_colors(len(few)), strict=True):
        rates, distortions = ([row.cells[f"test/{name}"] for _, row in pairs] for name in ("kl", "log_likelihood"))
        axes.errorbar(
            [spread.mean for spread in rates],
            [-spread.mean for spread in distortions],
            [spread.standard_error or 0.0 for spread in distortions],
            [spread.standard_error or 0.0 for spread in rates],
            marker="o",
            ms=4,
            lw=1,
            color=color,
            label=_cut(label) or None,
        )
        places = [(rate.mean, -distortion.mean) for rate, distortion in zip(rates, distortions, strict=True)]
        _name_places(axes, places, [f"{beta:g}" for beta, _ in pairs], color)
    _equal_elbo(axes)
    many = any(spread.num_seeds > 1 for spread in rates)
    errors = "; crosses: standard errors over seeds" if many else ""
    axes.set(xlabel="rate: KL (nats)", ylabel="distortion: -log p(x | z) (nats)")
    axes.set_title(f"beta at each point; grey lines: equal ELBO{errors}", fontsize=9)
    if len(few) > 1:
        axes.legend(fontsize=7)
    return fig


def _name_places(axes: Axes, places: Sequence[tuple[float, float]], names: Sequence[str], color: Any) -> None:
    """Write its name beside each of `places`, and the names of neighbours that are one to the eye beside the first of them."""
    spans = [max(values) - min(values) for values in zip(*places, strict=True)]
    together: list[tuple[tuple[float, float], list[str]]] = []
    for place, name in zip(places, names, strict=True):
        first = together[-1][0] if together else None
        if first is not None and all(abs(a - b) <= ONE * span for a, b, span in zip(place, first, spans, strict=True)):
            together[-1][1].append(name)
        else:
            together.append((place, [name]))
    for place, several in together:
        axes.annotate(", ".join(several), place, (4, 4), textcoords="offset points", fontsize=7, color=color)


def _equal_elbo(axes: Axes) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for total in np.linspace(left + bottom, right + top, 11):
        axes.plot([left, right], [total - left, total - right], color="0.88", lw=0.7, zorder=0)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def parallel_coordinates(table: Table, metric: str) -> Figure:
    """A line a setting, through its value on an axis of each key that varies, to the mean of `metric`, which gives the colour."""
    rows = with_metric(table, metric)
    require(len(rows) > 1, "metric", metric, "one that several rows have")
    keys = [axis for axis in table.axes if len({_key(row, axis) for row in rows}) > 1]
    scales = [_Scale([row.settings.get(key) for row in rows]) for key in keys]
    means = [row.cells[metric].mean for row in rows]
    low, high = min(means), max(means)
    norm = Normalize(low, high if high > low else low + 1.0)
    fig, axes = figure(1.6 + 1.3 * (len(keys) + 1), 3.4)
    for row, mean in sorted(zip(rows, means, strict=True), key=lambda pair: pair[1]):
        heights = [scale.of(row.settings.get(key)) for key, scale in zip(keys, scales, strict=True)]
        axes.plot([*heights, float(norm(mean))], color=colormaps["viridis"](norm(mean)), lw=1.3, alpha=0.85)
    for place, scale in enumerate(scales):
        axes.axvline(place, color="0.4", lw=0.8)
        for text, height in scale.ticks:
            axes.text(place - 0.04, height, _cut(text, 16), ha="right", va="center", fontsize=7)
    axes.axvline(len(keys), color="0.4", lw=0.8)
    axes.set_xticks(range(len(keys) + 1), [_cut(name) for name in (*(table.names[key] for key in keys), metric)])
    axes.set_yticks([])
    axes.set(xlim=(-0.55, len(keys) + 0.05), ylim=(-0.05, 1.05))
    axes.spines[:].set_visible(False)
    fig.colorbar(ScalarMappable(norm, colormaps["viridis"]), ax=axes, label=_title(metric), pad=0.02)
    return fig


class _Scale:
    """Where values lie on an axis from 0 to 1: in equal steps, in their order."""

    def __init__(self, values: Sequence[Any]) -> None:
        if all(map(_is_number, values)):
            texts = [shown(value) for value in sorted(set(values))]
        else:
            texts = list(dict.fromkeys(map(shown, values)))
        self.heights = {text: place / max(1, len(texts) - 1) for place, text in enumerate(texts)}

    def of(self, value: Any) -> float:
        return self.heights[shown(value)]

    @property
    def ticks(self) -> list[tuple[str, float]]:
        pairs = list(self.heights.items())
        return pairs[:: -(-len(pairs) // 12)]


# ---- small things


def _others(row: Row, keys: Sequence[str], names: Mapping[str, str]) -> str:
    return " ".join(f"{names.get(key, key)}={shown(value)}" for key, value in row.settings.items() if key not in keys)


def _key(row: Row, axis: str) -> str:
    return shown(row.settings.get(axis))


def _title(metric: str) -> str:
    split, _, name = metric.partition("/")
    title = TITLES.get(name) or _cut(name.replace("_", " "))
    return title if split == "test" else f"{title}, {_cut(split)}"


def _cut(label: str, most: int = 48) -> str:
    """A label as a plot shows it: short, of characters that there are, and without the dollars that would begin a formula."""
    text = printable(label.encode(errors="replace").decode())
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return text.replace("$", r"\$")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
