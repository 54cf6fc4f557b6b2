"""Estimates, yardsticks and names as the texts that a page shows of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from vae_lightning.glossary import Metric, metric_of
from vae_lightning.reports.reading import Standing
from vae_lightning.reports.table import shown
from vae_lightning.reports.yardsticks import Yardstick

__all__ = ["WORDS", "formatted", "in_words", "standing_row", "terms"]

WORDS = {
    "nat": "The unit of information of natural logarithms: 1 nat is 1.44 bits. Nats of an image are summed over its pixels.",
    "K": "How many samples of the latent an estimate takes for each image.",
    "split": "Which images were measured: those the model was trained on (train), or those that it has never seen (test).",
}
"""Words in the tables that are no names of estimates."""

DIRECTIONS = {"high": " Higher is better.", "low": " Lower is better.", "": ""}


def terms(names: Iterable[str]) -> list[dict[str, str]]:
    """What words in tables and names of estimates mean, each once: `anchor`, `name`, `meaning`, `paper` and its address `url`.

    >>> [term["name"] for term in terms(["kl", "kl_per_dimension/00", "kl_per_dimension/01", "mine"])]
    ['nat', 'K', 'split', 'kl', 'kl_per_dimension']
    """
    metrics = dict.fromkeys(metric for name in names if (metric := metric_of(name)))
    words = [{"anchor": "", "name": name, "meaning": meaning, "paper": "", "url": ""} for name, meaning in WORDS.items()]
    return [*words, *map(_term, metrics)]


def _term(metric: Metric) -> dict[str, str]:
    paper, _, url = metric.source.rpartition(", ")
    if not url.startswith(("https://", "http://")):
        paper, url = metric.source, ""
    meaning = metric.sentence + DIRECTIONS[metric.direction]
    return {"anchor": f"about-{metric.name}", "name": metric.name, "meaning": meaning, "paper": paper, "url": url}


def formatted(name: str, estimate: Mapping[str, Any]) -> dict[str, str]:
    """An estimate of `report.json` as texts, by what they are."""
    value, error = shown(name, estimate)
    seconds = estimate["seconds"]
    return {
        "value": value,
        "error": error,
        "images": f"{estimate['num_images']:,}",
        "samples": str(estimate["num_samples"] or ""),
        "estimator": estimate["estimator"],
        "settings": in_words({**estimate["settings"], **({"seed": estimate["seed"]} if estimate.get("seed") else {})}),
        "seconds": "" if seconds is None else f"{seconds:.1f}",
    }


def standing_row(standing: Standing) -> dict[str, Any]:
    """A run's number among those that it compares with as texts: `rows`, the best first, `neighbours`, and `this` run's own."""
    name, own = standing.name, standing.estimate
    value, error = shown(name, own)
    rows_of = {y: _of_yardstick(y, standing) for y in standing.yardsticks}
    rows: list[dict[str, Any]] = list(rows_of.values())
    samples = f", K = {own['num_samples']:,}" if own["num_samples"] and name != "elbo" else ""
    this: dict[str, Any] = {"value": value, "error": error, "name": "this run", "whose": "", "url": "", "own": True}
    this |= {"details": f"{own['num_images']:,} test images{samples}", "place": f"{standing.place(own['value']):.1f}"}
    rows.insert(len(standing.better), this)
    neighbours = [{"how": how, **rows_of[y]} for how, y in standing.neighbours.items()]
    return {
        "name": name,
        "better": "higher" if standing.sign < 0 else "lower",
        "rows": rows,
        "neighbours": neighbours,
        "this": this,
    }


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings as a text.

    >>> in_words({"step_size": 0.123456, "shape": [28, 28]})
    'step size: 0.1235; shape: 28, 28'
    """
    return "; ".join(f"{key.replace('_', ' ')}: {_short(value)}" for key, value in settings.items())


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(map(_short, value)) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return str(value)


def _of_yardstick(y: Yardstick, standing: Standing) -> dict[str, Any]:
    return {
        "value": f"{y.value:.2f}",
        "error": "" if y.error is None else f"{y.error:.2f}",
        "name": y.name,
        "whose": y.whose,
        "url": y.source.url if y.source else "",
        "details": y.details,
        "place": f"{standing.place(y.value):.1f}",
        "own": False,
    }
