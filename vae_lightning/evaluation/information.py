r"""How much the latent says, and how: rate, distortion, information, and what each dimension has of it.

Averaged over images, $KL(q(z \mid x) \,\|\, p(z)) = I_q(x; z) + KL(q(z) \,\|\, p(z))$ with the aggregate posterior
$q(z) = \frac1N \sum_n q(z \mid x_n)$ ("ELBO surgery", Hoffman and Johnson, 2016,
http://approximateinference.org/accepted/HoffmanJohnson2016.pdf). The average is over the N images at hand, so the information is
about which of them it is, and at most log N.

Rate is the KL, distortion $-E \log p(x \mid z)$ ("Fixing a broken ELBO", Alemi et al., 2018, https://arxiv.org/abs/1711.00464).
"""

import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vae_lightning.distributions.sampling import from_noise
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.noise import standard_normal
from vae_lightning.objectives.bounds import active_units, kl_per_dimension
from vae_lightning.types import NUM_PIXELS, Estimate, LatentVariableModel

__all__ = ["dimension_report", "information_report", "log_aggregate_posterior", "rate_distortion_report"]

AT_ONCE = 500
"""Images whose posteriors are held at once."""


def rate_distortion_report(bound: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """`rate` and `distortion` from the terms of the ELBO."""
    kl, log_likelihood = bound["kl"], bound["log_likelihood"]

    def figure(of: Estimate, value: float, how: str) -> Estimate:
        return Estimate(
            value,
            of.standard_error,
            of.num_images,
            of.num_samples,
            of.binarization,
            how,
            seconds=of.seconds,
            section="rate and distortion",
        )

    return {
        "rate": figure(kl, kl.value, "mean of KL(q(z | x) || p(z))"),
        "distortion": figure(log_likelihood, -log_likelihood.value, "mean of -log p(x | z), z from the posterior"),
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
        section="information",
    )
    return {"active_units": count} | {
        f"kl_per_dimension/{d:02}": estimate(
            each[:, d],
            num_samples=0,
            binarization=binarization,
            estimator="mean of KL(q(z_d | x) || p(z_d))",
            seconds=seconds,
            section="KL per dimension",
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
    parts = zip(posteriors, noise.split(AT_ONCE), strict=True)
    drawn = [(q, from_noise(q, some.unsqueeze(0)).squeeze(0)) for (q, _), some in parts]
    log_own = torch.cat([q.log_prob(z) for q, z in drawn]).double()
    z = torch.cat([z for _, z in drawn])
    log_aggregate = budget.run(lambda at_once: log_aggregate_posterior([q for q, _ in posteriors], z, at_once))
    log_prior = model.prior(y).log_prob(z).double()
    seconds = time.perf_counter() - started

    def figure(values: Tensor, how: str) -> Estimate:
        return estimate(
            values, num_samples=1, binarization=binarization, estimator=how, seconds=seconds, section="information",
            settings={"images in the aggregate": len(x), "upper limit of the information, log N": math.log(len(x))},
        )  # fmt: skip

    return {
        "mutual_information": figure(log_own - log_aggregate, "mean of log q(z | x) - log q(z), q(z) the mean over these images"),
        "aggregate_kl": figure(log_aggregate - log_prior, "KL(q(z) || p(z)): mean of log q(z) - log p(z)"),
    }


def log_aggregate_posterior(posteriors: list[Distribution], z: Tensor, max_batch: int) -> Tensor:
    """log q(z) `(N,)` float64 of latents `(N, D)`, q(z) being the mean of all `posteriors`, each of batch shape `(B,)`.

    Raises:
        NotImplementedError: they are none whose density at any latent is cheap.
    """
    if not all(isinstance(q, Independent) for q in posteriors):
        raise NotImplementedError(
            "needs the density of every latent under every posterior, which only a factorised one has cheaply"
        )
    count = sum(q.batch_shape[0] for q in posteriors)
    rows = max(1, max_batch * NUM_PIXELS // (AT_ONCE * z.shape[-1]))
    parts = []
    for some in z.split(rows):
        over = torch.stack([q.log_prob(some.unsqueeze(1)).double().logsumexp(-1) for q in posteriors])
        parts.append(over.logsumexp(0))
    return torch.cat(parts) - math.log(count)


def _posteriors(model: LatentVariableModel, x: Tensor, y: Tensor | None) -> list[tuple[Distribution, Tensor | None]]:
    labels = [None] * len(x.split(AT_ONCE)) if y is None else list(y.split(AT_ONCE))
    return [(model.posterior(some, own), own) for some, own in zip(x.split(AT_ONCE), labels, strict=True)]
