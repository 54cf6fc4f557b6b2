"""What each metric means, for TensorBoard, reports, the commands' help texts and `docs/glossary.md`.

The metrics of training are defined in this file. An estimate is defined beside the function that measures it, by `define` or by the
`metrics` of its part (`evaluation.registry.part`), and is in the glossary once that module is imported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from vae_lightning.errors import ConfigurationError

__all__ = ["GLOSSARY", "LOGGED", "METRICS", "Metric", "define", "described", "meaning", "metric_of"]


@dataclass(frozen=True)
class Metric:
    """What a number under a name means.

    >>> Metric("rate", "KL from the posterior to the prior", direction="low").sentence
    'KL from the posterior to the prior; nats.'
    """

    name: str
    """The name without its split, and without what stands behind a slash: `nll`."""
    definition: str
    """What the metric is, as one clause without a full stop."""
    unit: Literal["nats", "bits", "share", "count", "distance", ""] = "nats"
    """The unit of the values; nats and bits are per image unless the definition says otherwise."""
    direction: Literal["high", "low", ""] = ""
    """Which values are better; empty where neither is."""
    source: str = ""
    """The paper that defines the metric, if any: authors, year and address."""
    symbol: str = ""
    """The quantity in mathematical notation (TeX, without dollars), if there is one."""
    forms: tuple[str, ...] = ()
    """The names in a report, where they are not `name` alone: `nll/k_<K>`."""

    @property
    def sentence(self) -> str:
        """The definition with its unit, as one sentence."""
        return f"{self.definition}; {self.unit}." if self.unit in ("nats", "bits") else f"{self.definition}."


METRICS: dict[str, Metric] = {}
"""Every metric that is defined so far, by name."""


def define(*metrics: Metric) -> tuple[Metric, ...]:
    """Put `metrics` into the glossary.

    Raises:
        ConfigurationError: one of the names already means something else.
    """
    for metric in metrics:
        known = METRICS.setdefault(metric.name, metric)
        if known != metric:
            raise ConfigurationError(f"{metric.name}: is a metric already ({known.definition}); choose another name")
    return metrics


class _Glossary(Mapping[str, str]):
    """A read-only view of `METRICS`: the sentence of each metric by its name."""

    def __getitem__(self, name: str) -> str:
        return METRICS[name].sentence

    def __iter__(self) -> Iterator[str]:
        return iter(METRICS)

    def __len__(self) -> int:
        return len(METRICS)


GLOSSARY: Mapping[str, str] = _Glossary()
"""What each metric is, in one sentence, by its name without the split."""

_ACTIVE = "Latent dimensions whose posterior mean varies over images by a variance above 0.01"
_BURDA = "Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519"
_KINGMA = "Kingma and Welling, 2014, https://arxiv.org/abs/1312.6114"

define(
    Metric(
        "elbo",
        "Lower bound of log p(x), or of log p(x given y) for a conditional model: log_likelihood - kl, unweighted",
        direction="high",
        source=_KINGMA,
        symbol=r"E_q \log p(x | z) - KL(q(z | x) \| p(z))",
    ),
    Metric(
        "log_likelihood",
        "Mean of log p(x given z) over samples z of the posterior: minus the reconstruction error",
        direction="high",
        symbol=r"E_q \log p(x | z)",
    ),
    Metric(
        "kl",
        "KL(q(z given x) to p(z)): nats the latent tells about the image; near 0, the posterior has collapsed",
        symbol=r"KL(q(z | x) \| p(z))",
    ),
    Metric(
        "loss",
        "What is minimised: minus the objective, with beta, capacity or K samples in it; a classifier's cross-entropy",
        direction="low",
    ),
    Metric(
        "iwae_bound",
        "Importance-weighted bound of log p(x) on K samples, at least the ELBO in expectation",
        direction="high",
        source=_BURDA,
        symbol=r"E \log \frac1K \sum_k p(x, z_k) / q(z_k | x)",
    ),
    Metric(
        "elbo_marginal",
        "Lower bound of log p(x) of M2: its ELBOs averaged by q(y given x), less KL(q(y given x) to p(y))",
        direction="high",
        source="Kingma, Rezende, Mohamed and Welling, 2014, https://arxiv.org/abs/1406.5298",
    ),
    Metric("accuracy", "Share of images whose class is right; in training, of those that have a label", "share", "high"),
    Metric("active_units", _ACTIVE, "count", source=_BURDA),
    Metric(
        "kl_per_dimension",
        "The KL of each latent dimension by itself; near 0, the dimension tells nothing",
        forms=("kl_per_dimension/<d>",),
    ),
    Metric("gradient_norm", "Norm over all parameters of the gradient of the last step before the log entry, after clipping", ""),
    Metric("images_per_second", "Training images a second of an epoch, its validation left out", "", "high"),
    Metric("lr", "Learning rate of the optimizer that is named after it", "", forms=("lr-<optimizer>",)),
    Metric("epoch", "Passes over the training images that were complete", "count"),
)

LOGGED: tuple[str, ...] = tuple(METRICS)
"""Names of the metrics that training logs; the others come out of an evaluation."""


def meaning(key: str) -> str:
    """What a logged metric is, by its key as loggers have it.

    >>> meaning("val/kl_per_dimension/03") == GLOSSARY["kl_per_dimension"]
    True

    Raises:
        KeyError: the glossary does not know it.
    """
    named = key.partition("/")[2] or key
    return GLOSSARY[named.partition("/")[0].partition("-")[0]]


def metric_of(name: str) -> Metric | None:
    """The metric that an estimate is of, by its name in a report; None if the glossary does not know it.

    `<name>_real` is the estimate `<name>` of real images in the place of samples.

    >>> metric_of("kl_per_dimension/03").name
    'kl_per_dimension'
    """
    kind = name.partition("/")[0]
    return METRICS.get(kind) or METRICS.get(kind.removesuffix("_real"))


def described(name: str) -> str:
    """What an estimate is, by its name in a report; empty if the glossary does not know it.

    >>> described("kl_per_dimension/03") == GLOSSARY["kl_per_dimension"]
    True
    """
    metric = metric_of(name)
    return metric.sentence if metric else ""
