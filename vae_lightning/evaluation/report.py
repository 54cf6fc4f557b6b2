"""The report: one model over one data set, every figure an `Estimate`."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_lightning.distributions import from_noise
from vae_lightning.evaluation.metrics import PerImage, estimate, importance_nll, marginal_nll, per_image
from vae_lightning.inference.importance import LogLikelihood
from vae_lightning.noise import standard_normal
from vae_lightning.objectives import elbo, kl, mean_log_likelihood
from vae_lightning.types import Draw, Estimate, LatentVariableModel

__all__ = ["Settings", "classifier_report", "latent_variable_report", "marginal_estimate", "to_json"]

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Settings:
    """How to evaluate; see `conf/evaluation/default.yaml`."""

    num_samples: int = 1000
    """K of the importance-weighted nll."""
    max_batch: int = 4000
    """How many decoded images to hold at once, which bounds the memory."""
    elbo_samples: int = 1
    """K of elbo and log_likelihood; as in training's own evaluation."""
    seed: int = 0
    """Fixes the noise; 0 is what training's own evaluation uses."""


@torch.no_grad()
def latent_variable_report(
    model: LatentVariableModel,
    batches: Batches,
    split: str,
    binarization: str,
    settings: Settings,
    num_classes: int = 0,
) -> dict[str, Estimate]:
    """`elbo`, `log_likelihood`, `kl` and `nll` over `batches` of `(x, y)`, nats per image.

    `num_classes` is that of a conditional model, whose figures are of p(x | y); 0 for others.
    """
    given = "log p(x | y)" if num_classes else "log p(x)"
    bound = per_image(batches, lambda x, y, number: _elbo_terms(model, x, y, settings, split, number))
    log_likelihood, samples, at_once = LogLikelihood(model), settings.num_samples, settings.max_batch
    weighted = per_image(
        batches,
        lambda x, y, number: importance_nll(
            model, x, y, samples, at_once, settings.seed, split, number, log_likelihood=log_likelihood
        ),
    )

    def figure(values: Tensor, samples: int, estimator: str) -> Estimate:
        return estimate(values, num_samples=samples, binarization=binarization, estimator=estimator)

    return {
        "elbo": figure(bound["elbo"], settings.elbo_samples, f"lower bound of {given}: log_likelihood - kl"),
        "log_likelihood": figure(bound["log_likelihood"], settings.elbo_samples, "mean of log p(x | z), z from the posterior"),
        "kl": figure(bound["kl"], 0, "KL(posterior || prior) in closed form"),
        "nll": figure(weighted["nll"], settings.num_samples, f"-{given} by importance sampling from the posterior"),
        "effective_sample_size": figure(
            weighted["effective_sample_size"], settings.num_samples, "(sum w)^2 / sum w^2 of the importance weights"
        ),
    }


@torch.no_grad()
def marginal_estimate(
    model: LatentVariableModel, batches: Batches, split: str, binarization: str, settings: Settings, num_classes: int
) -> Estimate:
    """-log p(x) of a conditional model over `batches`, its labels summed over."""
    log_likelihood, samples, at_once = LogLikelihood(model), settings.num_samples, settings.max_batch
    summed = per_image(
        batches,
        lambda x, y, number: marginal_nll(
            model, x, num_classes, samples, at_once, settings.seed, split, number, log_likelihood=log_likelihood
        ),
    )
    return estimate(
        summed["nll_marginal"],
        num_samples=settings.num_samples,
        binarization=binarization,
        estimator="-log p(x): importance sampling of each p(x | y), summed over equally likely labels",
    )


def _elbo_terms(model: LatentVariableModel, x: Tensor, y: Tensor, settings: Settings, split: str, number: int) -> PerImage:
    """The very computation of training's own evaluation, noise included."""
    posterior = model.posterior(x, y)
    shape = (settings.elbo_samples, *posterior.mean.shape)
    epsilon = standard_normal(shape, x, settings.seed, split, number, "posterior")
    z = from_noise(posterior, epsilon)
    draw = Draw(posterior, model.prior(y), z, model.likelihood(z, y))
    log_likelihood, divergence = mean_log_likelihood(draw, x), kl(draw)
    return {"elbo": elbo(log_likelihood, divergence), "log_likelihood": log_likelihood, "kl": divergence}


@torch.no_grad()
def classifier_report(logits: Callable[[Tensor], Tensor], batches: Batches, binarization: str) -> dict[str, Estimate]:
    """`accuracy` of a classifier over `batches` of `(x, y)`."""
    hits = per_image(batches, lambda x, y, _: {"accuracy": (logits(x).argmax(-1) == y).double()})
    return {
        "accuracy": estimate(
            hits["accuracy"], num_samples=0, binarization=binarization, estimator="share of images whose class is right"
        )
    }


def to_json(checkpoint: str, splits: dict[str, dict[str, Estimate]]) -> dict[str, Any]:
    """The form of `report.json`, which other programs read."""
    figures = {split: {name: dataclasses.asdict(e) for name, e in report.items()} for split, report in splits.items()}
    return {"checkpoint": checkpoint, **figures}
