"""What every evaluation measures: one model over one data set, every number an `Estimate`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.metrics import PerImage, estimate, importance_nll, marginal_nll, per_image, timed
from vae_lightning.evaluation.registry import SECTIONS
from vae_lightning.glossary import Metric, define
from vae_lightning.inference.elbo import bound_at
from vae_lightning.inference.importance import ImportanceSampler, Precision
from vae_lightning.noise import Source, key_of
from vae_lightning.objectives.bounds import kl_is_closed
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["Settings", "classifier_report", "latent_variable_report", "marginal_report"]

Batches = Iterable[tuple[Tensor, Tensor]]
SECTION, CONVERGENCE, CLASSES = SECTIONS

define(
    Metric("nll_marginal", "-log p(x) of a conditional model, its labels summed out as equally likely", direction="low"),
    Metric("variational_gap", "-nll less elbo, image by image: how far the bound is below log p(x), by this many samples"),
    Metric("nll_of_class", "-log p(x given y) of the images of one class", direction="low", forms=("nll_of_class/<y>",)),
    Metric(
        "bayes_accuracy",
        "Share of images whose label is the likeliest by Bayes' rule from p(x given y) of a conditional model",
        "share",
        "high",
    ),
)


@dataclass(frozen=True)
class Settings:
    """How to evaluate; see `conf/evaluation/default.yaml`.

    >>> Settings(num_samples=5000, convergence=(1, 10, 100)).elbo_samples
    1
    """

    num_samples: int = 1000
    """K of the importance-weighted nll."""
    elbo_samples: int = 1
    """K of elbo and log_likelihood, as in training's own evaluation."""
    seed: int = 0
    """Fixes the noise; 0 is what training's own evaluation uses."""
    convergence: Sequence[int] = ()
    """Smaller K at which the nll is stated too."""
    per_class: bool = False
    """Whether the nll is stated of the images of each class too."""
    precision: Precision = "float32"
    """The precision of the decoder's products in importance sampling."""

    @property
    def of_weights(self) -> dict[str, str]:
        """The settings that estimates by importance sampling state: what is not as by default."""
        return {} if self.precision == "float32" else {"precision": self.precision}


@torch.no_grad()
def latent_variable_report(
    model: LatentVariableModel,
    batches: Batches,
    split: str,
    binarization: str,
    settings: Settings,
    num_classes: int = 0,
    budget: Budget | None = None,
) -> dict[str, Estimate]:
    """`elbo`, `log_likelihood`, `kl`, `nll` and `variational_gap` over `batches` of `(x, y)`, nats per image.

    Args:
        num_classes: that of a conditional model, whose estimates are of p(x | y); 0 for others.
        budget: how much to compute at once, if it is shared with others.
    """
    quantity = "log p(x | y)" if num_classes else "log p(x)"
    bound, elbos = _bound_report(model, batches, split, binarization, settings, quantity)
    weighted, nlls = _nll_report(model, batches, split, binarization, settings, quantity, budget or Budget())
    gap = estimate(
        -nlls.double() - elbos.double(),
        num_samples=settings.num_samples,
        binarization=binarization,
        estimator=f"-nll less elbo, image by image: a lower bound of the KL from the posterior to the exact one, {quantity} - elbo",
        seconds=bound["elbo"].seconds + weighted["nll"].seconds,
        section=SECTION,
        settings=settings.of_weights,
    )
    return bound | {"nll": weighted.pop("nll"), "variational_gap": gap} | weighted


def _bound_report(
    model: LatentVariableModel, batches: Batches, split: str, binarization: str, settings: Settings, quantity: str
) -> tuple[dict[str, Estimate], Tensor]:
    """The estimates, and the elbo of each image `(N,)`."""
    closed, key = [], key_of(split, settings.seed)

    def bounded(x: Tensor, y: Tensor, places: Tensor) -> PerImage:
        # the very samples of training's own evaluation
        posterior, prior = model.posterior(x, y), model.prior(y)
        epsilon = Source(key.to(x.device), places).normal("posterior", settings.elbo_samples, model.latent_dim)
        z = from_noise(posterior, epsilon.to(prior.mean))
        closed.append(kl_is_closed(posterior, prior))
        terms = bound_at(model, posterior, z, x, y)
        return {"elbo": terms.elbo, "log_likelihood": terms.log_likelihood, "kl": terms.kl}

    bound, seconds = timed(lambda: per_image(batches, bounded))
    samples, exact = settings.elbo_samples, all(closed)
    how = {
        "elbo": f"lower bound of {quantity}: log_likelihood - kl",
        "log_likelihood": "mean of log p(x | z), z from the posterior",
        "kl": "KL(posterior || prior) "
        + ("in closed form" if exact else "as the mean of log q(z | x) - log p(z), z from the posterior"),
    }
    report = {
        name: estimate(
            values,
            num_samples=0 if name == "kl" and exact else samples,
            binarization=binarization,
            estimator=how[name],
            seconds=seconds,
            section=SECTION,
        )
        for name, values in bound.items()
    }
    return report, bound["elbo"]


def _nll_report(
    model: LatentVariableModel,
    batches: Batches,
    split: str,
    binarization: str,
    settings: Settings,
    quantity: str,
    budget: Budget,
) -> tuple[dict[str, Estimate], Tensor]:
    """The estimates, and the nll of each image `(N,)`."""
    sampler, samples, also = ImportanceSampler(model, settings.precision), settings.num_samples, settings.convergence

    def weigh(x: Tensor, y: Tensor, places: Tensor) -> PerImage:
        key = (settings.seed, split)
        weighted = budget.run(lambda at_once: importance_nll(sampler, x, y, places, samples, at_once, *key, also=also))
        return {**weighted, "y": y}

    weighted, seconds = timed(lambda: per_image(batches, weigh))
    y = weighted.pop("y")

    def weighted_estimate(values: Tensor, count: int, how: str, section: str) -> Estimate:
        return estimate(
            values,
            num_samples=count,
            binarization=binarization,
            estimator=how,
            settings=settings.of_weights,
            seconds=seconds,
            section=section,
        )

    how = {
        "nll": f"-{quantity} by importance sampling from the posterior",
        "effective_sample_size": "(sum w)^2 / sum w^2 of the importance weights",
    }
    report = {name: weighted_estimate(weighted[name], samples, how[name], SECTION) for name in how}
    for name in [name for name in weighted if name not in how]:
        kind, _, count = name.partition("/k_")
        report[name] = weighted_estimate(weighted[name], int(count), how[kind], CONVERGENCE)
    for label in y.unique().tolist() if settings.per_class else ():
        of_class = weighted["nll"][y == label]
        report[f"nll_of_class/{label}"] = weighted_estimate(of_class, samples, f"{how['nll']}, y = {label}", CLASSES)
    return report, weighted["nll"]


@torch.no_grad()
def marginal_report(
    model: LatentVariableModel,
    batches: Batches,
    split: str,
    binarization: str,
    settings: Settings,
    num_classes: int,
    budget: Budget | None = None,
) -> dict[str, Estimate]:
    """`nll_marginal`, -log p(x) of a conditional model with its labels summed over, and `bayes_accuracy` of the likeliest label."""
    budget = budget or Budget()
    sampler = ImportanceSampler(model, settings.precision)

    def summed(x: Tensor, y: Tensor, places: Tensor) -> PerImage:
        key = (settings.seed, split)
        marginal = budget.run(lambda at_once: marginal_nll(sampler, x, places, num_classes, settings.num_samples, at_once, *key))
        return {"nll_marginal": marginal["nll_marginal"], "hit": marginal["label"] == y}

    summed_over, seconds = timed(lambda: per_image(batches, summed))
    estimators = {
        "nll_marginal": "-log p(x): importance sampling of each p(x | y), summed over equally likely labels",
        "bayes_accuracy": "share of images whose label is the likeliest by Bayes' rule from these p(x | y)",
    }
    return {
        name: estimate(
            values,
            num_samples=settings.num_samples,
            binarization=binarization,
            estimator=estimators[name],
            settings=settings.of_weights,
            seconds=seconds,
            section=SECTION,
        )
        for name, values in (("nll_marginal", summed_over["nll_marginal"]), ("bayes_accuracy", summed_over["hit"]))
    }


@torch.no_grad()
def classifier_report(scores: Callable[[Tensor], Tensor], batches: Batches, binarization: str) -> dict[str, Estimate]:
    """`accuracy` over `batches` of `(x, y)` of a classifier, `scores` being its logits or probabilities `(B, num_classes)`."""
    hits = per_image(batches, lambda x, y, _: {"accuracy": (scores(x).argmax(-1) == y).double()})
    return {
        "accuracy": estimate(
            hits["accuracy"],
            num_samples=0,
            binarization=binarization,
            estimator="share of images whose class is right",
            section=SECTION,
        )
    }
