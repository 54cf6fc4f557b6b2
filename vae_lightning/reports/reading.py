"""How the numbers of a report are to be read: which come first, what they compare with, what their errors cover, what is amiss.

What is said here is the same in `report.html`, `report.md` and a terminal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vae_lightning.reports.yardsticks import Yardstick, beside
from vae_lightning.treatment import Treatment

__all__ = ["COVERS", "COVERS_SHORT", "ENOUGH", "HEADLINE", "Standing", "headline", "remarks", "standings"]

Plain = Mapping[str, Any]
"""An estimate in the form that it has in `report.json`."""

HEADLINE = ("nll", "elbo", "kl", "accuracy")
"""The estimates that a page shows first, in this order, where there are such."""
COVERS = (
    "± is the standard error over the images that were measured: with other images of the split, the number of this very model "
    "would differ by about as much. It leaves out the seed of the training (train.py -m seed=0,1,2 shows what that does) and what "
    "the estimator itself misses: an ELBO lies below log p(x), and an nll of few samples is too high."
)
"""What the standard errors of a report cover, and what not."""
COVERS_SHORT = "± is over test images; it covers neither the seed of the training nor what an estimator misses"
"""`COVERS` for a terminal."""
ENOUGH = 10.0
"""The effective sample size from which on the bias of an nll is below a twentieth of a nat."""
ACCEPTED = (0.5, 0.8)
"""Acceptance rates of Hamiltonian trajectories between which annealing is near its best; 0.65 is wanted."""
ANNEALED = ("nll/ais", "nll/ais_from_encoder")
"""The estimates by annealing."""
COLLAPSED = 0.1
"""Nats of the kl below which a decoder ignores its latent."""


@dataclass(frozen=True)
class Standing:
    """A number of a run among the numbers that it compares with.

    >>> from vae_lightning.reports.yardsticks import YARDSTICKS
    >>> standing = Standing("nll", {"value": 90.0}, YARDSTICKS[:1])
    >>> standing.better[0].value, standing.worse
    (86.76, ())
    """

    name: str
    """The name of the estimate."""
    estimate: Plain
    """The run's own estimate."""
    yardsticks: Sequence[Yardstick]
    """The numbers, the best first."""

    @property
    def sign(self) -> int:
        """1 where lower is better, as of an nll; -1 where higher is, as of an ELBO."""
        return -1 if self.name == "elbo" else 1

    @property
    def better(self) -> tuple[Yardstick, ...]:
        """The numbers that are better than the run's number, the best first."""
        return tuple(y for y in self.yardsticks if self.sign * y.value < self.sign * self.estimate["value"])

    @property
    def worse(self) -> tuple[Yardstick, ...]:
        """The other numbers, the best first."""
        return tuple(self.yardsticks[len(self.better) :])

    @property
    def neighbours(self) -> dict[str, Yardstick]:
        """The best of the numbers and those next to the run's number, each by what it is, none twice."""
        better, worse = self.better, self.worse
        chosen = {"the best": better[:-1][:1], "next better": better[-1:], "next worse": worse[:1]}
        return {how: found[0] for how, found in chosen.items() if found}

    def place(self, value: float) -> float:
        """Where a value stands between the best, 0, and the worst of all, 100."""
        values: list[float] = [self.sign * each for each in (self.estimate["value"], *(y.value for y in self.yardsticks))]
        return 100 * (self.sign * value - min(values)) / ((max(values) - min(values)) or 1)


def headline(estimates: Mapping[str, Plain]) -> dict[str, Plain]:
    """The estimates of a split, by name, that a page shows first."""
    return {name: estimates[name] for name in HEADLINE if name in estimates}


def standings(estimates: Mapping[str, Plain], treatment: Treatment | None) -> Iterator[Standing]:
    """Each estimate of the test images that has numbers to be held against, among these.

    Args:
        estimates: those of the test images, by name.
        treatment: what they are of; None: unknown, so that nothing compares.
    """
    for name in ("nll", "nll_marginal", "elbo"):
        estimate = estimates.get(name)
        found = beside(name, treatment)
        if estimate is not None and estimate["value"] is not None and found:
            yield Standing(name, estimate, found)


def remarks(estimates: Mapping[str, Plain]) -> list[str]:
    """What the estimates of the test images say of each other, and what to do about it; a sentence or two each.

    >>> remarks({"kl": {"value": 0.01}})[0]
    'kl is 0.01 nats: the posterior has collapsed, and the decoder ignores the latent.'
    """
    known = {name: estimate for name, estimate in estimates.items() if estimate["value"] is not None}
    said = []
    if "kl" in known and known["kl"]["value"] < COLLAPSED:
        said.append(f"kl is {known['kl']['value']:.2f} nats: the posterior has collapsed, and the decoder ignores the latent.")
    if {"nll", "effective_sample_size"} <= set(known):
        said.append(_of_weights(known))
    low, high = ACCEPTED
    said += [
        f"{name} is {e['value']:.2f}, and 0.65 is wanted: the steps of annealing are too "
        f"{'long' if e['value'] < low else 'short'}, so its nll is looser than it could be."
        for name, e in known.items()
        if name.startswith("acceptance/") and not low <= e["value"] <= high
    ]
    return said


def _of_weights(known: Mapping[str, Plain]) -> str:
    """How far the effective sample size lets the nll be trusted.

    The bias of log mean w of K weights is about -Var(w) / (2 K E(w)^2), which is (1 / ESS - 1 / K) / 2 ("Debiasing evidence
    approximations: on importance-weighted autoencoders and jackknife variational inference", Nowozin, 2018,
    https://openreview.net/forum?id=HyZoi-WRb).
    """
    size, samples = known["effective_sample_size"]["value"], known["nll"]["num_samples"]
    bias = max(0.0, (1 / max(size, 1.0) - 1 / max(samples, 1)) / 2)
    counted = f"effective_sample_size is {size:.1f} of {samples:,}"
    checked = _by_others(known)
    if size >= ENOUGH:
        more = checked or "Rare latents that no sample found may hide more; evaluation.parts=[ais] looks for it."
        return (
            f"{counted}: enough ({ENOUGH:g}) that no few samples carry the importance weights. The nll is too high by at "
            f"least {bias:.2f} nats. {more}"
        )
    measured = "".join(f" {sentence}" for sentence in (_fall(known), checked) if sentence)
    way = "" if checked else "; evaluation.parts=[ais] measures it in another way"
    return (
        f"{counted}, below {ENOUGH:g}: few samples carry the importance weights, and the nll is too high, by at least "
        f"{bias:.2f} nats.{measured} A larger evaluation.num_samples lowers it{way}."
    )


def _fall(known: Mapping[str, Plain]) -> str:
    """How much the nll fell with the last increase of K, where it was measured on the same images."""
    last = known["nll"]
    curve = [e for name, e in known.items() if name.startswith("nll/k_") and _of_the_same_images(e, last)]
    if not curve:
        return ""
    before = max(curve, key=lambda e: int(e["num_samples"]))
    return f"From K = {before['num_samples']:,} to {last['num_samples']:,} it fell by {before['value'] - last['value']:.2f}."


def _of_the_same_images(estimate: Plain, other: Plain) -> bool:
    return all(estimate.get(key) == other.get(key) for key in ("num_images", "seed"))


def _by_others(known: Mapping[str, Plain]) -> str:
    """How far the tightest other estimate is below importance sampling on the same images: the exact value, else annealing."""
    exact, same = known.get("nll_less_exact/importance"), known.get("nll/importance")
    annealed = [e["value"] for name in ANNEALED if (e := known.get(name)) and same and _of_the_same_images(e, same)]
    if exact is not None:
        images, distance, error = exact["num_images"], exact["value"], exact.get("standard_error")
        found = "the exact value is"
    elif same is not None and annealed:
        images, distance, error = same["num_images"], same["value"] - min(annealed), None
        found = "annealing finds"
    else:
        return ""
    known_to = "" if error is None else f" +- {error:.2f}"
    return f"On {images:,} images, {found} {abs(distance):.2f}{known_to} {'less' if distance > 0 else 'more'}."
