r"""How much the latent says, and how: rate, distortion, information, and what each dimension has of it.

Averaged over images, $KL(q(z \mid x) \,\|\, p(z)) = I_q(x; z) + KL(q(z) \,\|\, p(z))$ with the aggregate posterior
$q(z) = \frac1N \sum_n q(z \mid x_n)$ ("ELBO surgery", Hoffman and Johnson, 2016,
http://approximateinference.org/accepted/HoffmanJohnson2016.pdf). The average is over the N images at hand, so the information is
about which of them it is, and at most log N.

Rate is the KL, distortion $-E \log p(x \mid z)$ ("Fixing a broken ELBO", Alemi et al., 2018, https://arxiv.org/abs/1711.00464).
"""

import dataclasses
import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.material import AT_ONCE, Material
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import METRICS, Metric
from vae_lightning.inference.chunks import chunks, over_chunks, rows_at_once
from vae_lightning.noise import standard_normal
from vae_lightning.objectives.bounds import active_units, kl_per_dimension
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["dimension_report", "information_report", "log_aggregate_posterior", "rate_distortion_report"]

RATE_DISTORTION, INFORMATION, DIMENSIONS = "rate and distortion", "information", "KL per dimension"
"""Headings of a report."""


def rate_distortion_report(bound: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """`rate` and `distortion` from the terms of the ELBO."""
    kl, log_likelihood = bound["kl"], bound["log_likelihood"]

    def term(of: Estimate, value: float, how: str) -> Estimate:
        return dataclasses.replace(of, value=value, estimator=how, section=RATE_DISTORTION)

    return {
        "rate": term(kl, kl.value, "mean of KL(q(z | x) || p(z))"),
        "distortion": term(log_likelihood, -log_likelihood.value, "mean of -log p(x | z), z from the posterior"),
    }


@torch.no_grad()
def dimension_report(model: LatentVariableModel, x: Tensor, y: Tensor | None, binarization: str) -> dict[str, Estimate]:
    """`active_units`, and `kl_per_dimension/<d>` where prior and posterior factorise."""
    started = time.perf_counter()
    posteriors = _posteriors(model, x, y)
    means = torch.cat([q.mean for q, _ in posteriors])
    try:
        each = torch.cat([kl_per_dimension(q, model.prior(labels)) for q, labels in posteriors])
    except NotImplementedError:
        each = means[:, :0]
    seconds = time.perf_counter() - started
    count = Estimate(
        float(active_units(means).sum()),
        math.nan,
        len(x),
        0,
        binarization,
        "dimensions whose posterior mean has a variance over images above 0.01",
        seconds=seconds,
        section=INFORMATION,
    )
    return {"active_units": count} | {
        f"kl_per_dimension/{d:02}": estimate(
            each[:, d],
            num_samples=0,
            binarization=binarization,
            estimator="mean of KL(q(z_d | x) || p(z_d))",
            seconds=seconds,
            section=DIMENSIONS,
        )
        for d in range(each.shape[-1])
    }


@torch.no_grad()
def information_report(
    model: LatentVariableModel, x: Tensor, y: Tensor | None, binarization: str, budget: Budget, seed: int = 0
) -> dict[str, Estimate]:
    """`mutual_information` and `aggregate_kl`, nats, whose sum is the rate by the same samples, one of each image's posterior.

    Raises:
        NotImplementedError: the prior depends on the label, so that there is no one prior for the aggregate.
    """
    if model.prior(y).batch_shape:
        raise NotImplementedError(
            "the prior depends on the label, and the aggregate posterior has no one prior to be compared with"
        )
    started = time.perf_counter()
    noise = standard_normal((len(x), model.latent_dim), model.prior(y).mean, seed, "information")
    posteriors = _posteriors(model, x, y)
    pairs = zip(posteriors, chunks(AT_ONCE, noise), strict=True)
    drawn = [(q, from_noise(q, epsilon.unsqueeze(0)).squeeze(0)) for (q, _), (epsilon,) in pairs]
    log_own = torch.cat([q.log_prob(z) for q, z in drawn]).double()
    z = torch.cat([z for _, z in drawn])
    log_aggregate = budget.run(lambda at_once: log_aggregate_posterior([q for q, _ in posteriors], z, at_once * x[0].numel()))
    log_prior = model.prior(y).log_prob(z).double()
    seconds = time.perf_counter() - started

    def information(values: Tensor, how: str) -> Estimate:
        return estimate(
            values, num_samples=1, binarization=binarization, estimator=how, seconds=seconds, section=INFORMATION,
            settings={"images in the aggregate": len(x), "upper limit of the information, log N": math.log(len(x))},
        )  # fmt: skip

    return {
        "mutual_information": information(
            log_own - log_aggregate, "mean of log q(z | x) - log q(z), q(z) the mean over these images"
        ),
        "aggregate_kl": information(log_aggregate - log_prior, "KL(q(z) || p(z)): mean of log q(z) - log p(z)"),
    }


def log_aggregate_posterior(posteriors: list[Distribution], z: Tensor, most_numbers: int) -> Tensor:
    """log q(z) `(N,)` float64 of latents `(N, D)`, q(z) being the mean of all `posteriors`, each of batch shape `(B,)`.

    Args:
        most_numbers: how many numbers to hold at once.

    Raises:
        NotImplementedError: they are none whose density at any latent is cheap.
    """
    if any(factors(q) is None for q in posteriors):
        raise NotImplementedError(
            "needs the density of every latent under every posterior, which only a factorised one has cheaply"
        )
    count = sum(q.batch_shape[0] for q in posteriors)

    def log_sum(latents: Tensor) -> Tensor:
        return torch.stack([q.log_prob(latents.unsqueeze(1)).double().logsumexp(-1) for q in posteriors]).logsumexp(0)

    return over_chunks(log_sum, z, size=rows_at_once(most_numbers, AT_ONCE * z.shape[-1])) - math.log(count)


def _posteriors(model: LatentVariableModel, x: Tensor, y: Tensor | None) -> list[tuple[Distribution, Tensor | None]]:
    return [(model.posterior(images, labels), labels) for images, labels in chunks(AT_ONCE, x, y)]


# ---- the parts of an evaluation

_ALEMI = "Alemi et al., 2018, https://arxiv.org/abs/1711.00464"
_HOFFMAN = "Hoffman and Johnson, 2016, http://approximateinference.org/accepted/HoffmanJohnson2016.pdf"
_RATE = Metric("rate", "The kl, as rate-distortion theory calls it: nats the latent costs", "nats", "low", _ALEMI)
_DISTORTION = Metric("distortion", "Minus the log_likelihood: nats the image costs once the latent is known", "nats", "low", _ALEMI)
_INFORMATION = Metric(
    "mutual_information",
    "I(x; z) of the images at hand and their posteriors, at most the log of their number",
    source=_HOFFMAN,
    symbol=r"E \log q(z | x) - \log q(z)",
)
_AGGREGATE = Metric(
    "aggregate_kl",
    "KL of the mean of all posteriors to the prior: what samples from the prior miss",
    direction="low",
    source=_HOFFMAN,
    symbol=r"KL(q(z) \| p(z))",
)


@part("rate_distortion", metrics=(_RATE, _DISTORTION), section=RATE_DISTORTION, place=30)
def rate_distortion(material: Material) -> dict[str, Estimate]:
    """What the latent costs, and what the image costs once the latent is known."""
    return rate_distortion_report(material.bound)


@part(
    "dimensions",
    metrics=(METRICS["active_units"], METRICS["kl_per_dimension"]),
    section=INFORMATION,
    further_sections=(DIMENSIONS,),
    place=31,
)
def dimensions(material: Material) -> dict[str, Estimate]:
    """How many latent dimensions are in use, and the KL of each."""
    return dimension_report(material.model, *material.labelled("test", material.counts.information), material.binarization)


@part("information", metrics=(_INFORMATION, _AGGREGATE), section=INFORMATION, place=32)
def information(material: Material) -> dict[str, Estimate]:
    """What the latent tells about the image, and how far all posteriors together are from the prior."""
    x, y = material.labelled("test", material.counts.information)
    return information_report(material.model, x, y, material.binarization, material.budget, material.settings.seed)
