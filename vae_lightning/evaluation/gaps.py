r"""What inference loses: from log p(x) to the best Gaussian posterior of an image, and from there to the encoder's.

$\log p(x) - L[q] = \underbrace{\log p(x) - L[q^*]}_{\text{approximation gap}}
+ \underbrace{L[q^*] - L[q]}_{\text{amortisation gap}}$

with L the ELBO, q the encoder's posterior and q* the diagonal Gaussian fitted to the image by itself ("Inference suboptimality
in variational autoencoders", Cremer, Li and Duvenaud, 2018, https://arxiv.org/abs/1801.03558).
"""

import dataclasses
import time

import torch
from torch import Tensor

from vae_lightning.distributions import from_noise
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.evidence import Evidence
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.inference.svi import Start, SVISettings, stochastic_variational_inference
from vae_lightning.noise import standard_normal
from vae_lightning.objectives import elbo, kl, mean_log_likelihood
from vae_lightning.types import Draw, Estimate, LatentVariableModel

__all__ = ["amortised_elbo", "gap_report"]

SAMPLES = 500
"""Of the posterior, for either ELBO."""


def gap_report(evidence: Evidence, svi: SVISettings) -> dict[str, Estimate]:
    """`gap/elbo`, `gap/elbo_fitted`, `gap/log_marginal` and the two gaps between them, nats, over the images of `evidence`.

    The fit of an image is the better of two, one from its encoder's posterior and one from where `svi` starts.
    """
    started = time.perf_counter()
    model, x, y, budget = evidence.model, evidence.x, evidence.y, evidence.budget
    encoded = amortised_elbo(model, x, y, budget, evidence.seed)

    def fitted_from(start: Start) -> Tensor:
        settings = dataclasses.replace(svi, start=start, elbo_samples=SAMPLES)
        fit = budget.run(lambda at_once: stochastic_variational_inference(model, x, y, None, settings, None, at_once))
        return fit.elbo.double()

    # a fit ends a little below its start now and then, where that was as good as can be
    fitted = torch.maximum(fitted_from("encoder"), fitted_from(svi.start))
    log_marginal, estimator = evidence.best
    seconds = time.perf_counter() - started
    fitted_how = "ELBO of a diagonal Gaussian fitted to each image by SVI, the better of two fits"

    def figure(values: Tensor, how: str, num_samples: int = 0) -> Estimate:
        return estimate(
            values,
            num_samples=num_samples,
            binarization=evidence.binarization,
            estimator=how,
            settings=dataclasses.asdict(svi) | {"log_marginal": estimator},
            seconds=seconds,
            section="inference gaps",
        )

    return {
        "gap/log_marginal": figure(log_marginal, f"{evidence.given} by {estimator}"),
        "gap/elbo_fitted": figure(fitted, fitted_how, SAMPLES),
        "gap/elbo": figure(encoded, "ELBO of the encoder's posterior", SAMPLES),
        "gap/approximation": figure(log_marginal - fitted, "log_marginal less elbo_fitted, image by image"),
        "gap/amortisation": figure(fitted - encoded, "elbo_fitted less elbo, image by image"),
    }


@torch.no_grad()
def amortised_elbo(model: LatentVariableModel, x: Tensor, y: Tensor | None, budget: Budget, seed: int = 0) -> Tensor:
    """The ELBO of the encoder's posterior on `SAMPLES` samples, `(B,)` nats, float64."""

    def computed(at_once: int) -> Tensor:
        posterior, prior = model.posterior(x, y), model.prior(y)
        shape = (SAMPLES, *posterior.batch_shape, *posterior.event_shape)
        noise = standard_normal(shape, prior.mean, seed, "gaps", "posterior")
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for some in noise.split(max(1, at_once // len(x))):
            z = from_noise(posterior, some)
            draw = Draw(posterior, prior, z, model.likelihood(z, y))
            total += elbo(mean_log_likelihood(draw, x), kl(draw)).double() * len(some)
        return total / SAMPLES

    return budget.run(computed)
