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
from torch.distributions import Distribution

from vae_lightning.evaluation import needs
from vae_lightning.evaluation.evidence import Evidence
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.inference.elbo import mean_elbo
from vae_lightning.inference.svi import Start, SVISettings, stochastic_variational_inference
from vae_lightning.noise import standard_normal
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["elbo_of", "gap_report"]

SAMPLES = 500
"""Samples of the posterior, for either ELBO."""
SECTION = "inference gaps"


def gap_report(evidence: Evidence, svi: SVISettings) -> dict[str, Estimate]:
    """`gap/elbo`, `gap/elbo_fitted`, `gap/log_marginal` and the two gaps between them, nats, over the images of `evidence`.

    The fit of an image is the better of two, one from its encoder's posterior and one from where `svi` starts.
    """
    started = time.perf_counter()
    model, x, y, budget = evidence.model, evidence.x, evidence.y, evidence.budget

    def fitted_from(start: Start) -> Distribution:
        settings = dataclasses.replace(svi, start=start)
        return budget.run(lambda at_once: stochastic_variational_inference(model, x, y, None, settings, None, at_once)).posterior

    def bound(posterior: Distribution, purpose: str) -> Tensor:
        return budget.run(lambda at_once: elbo_of(model, posterior, x, y, (evidence.seed, "gaps", purpose), at_once))

    # other noise to choose the better fit by than to state its ELBO with, or the choice would flatter it
    fits = [fitted_from("encoder"), fitted_from(svi.start)]
    first_is_better = bound(fits[0], "choice") > bound(fits[1], "choice")
    fitted = torch.where(first_is_better, bound(fits[0], "elbo"), bound(fits[1], "elbo"))
    with torch.no_grad():
        encoded = bound(model.posterior(x, y), "elbo")
    log_marginal, estimator = evidence.best
    seconds = time.perf_counter() - started
    fitted_how = "ELBO of a diagonal Gaussian fitted to each image by SVI, the better of two fits"

    def gap(values: Tensor, how: str, num_samples: int = 0) -> Estimate:
        return estimate(
            values,
            num_samples=num_samples,
            binarization=evidence.binarization,
            estimator=how,
            settings=dataclasses.asdict(svi) | {"log_marginal": estimator},
            seconds=seconds,
            section=SECTION,
        )

    return {
        "gap/log_marginal": gap(log_marginal, f"{evidence.given} by {estimator}"),
        "gap/elbo_fitted": gap(fitted, fitted_how, SAMPLES),
        "gap/elbo": gap(encoded, "ELBO of the encoder's posterior", SAMPLES),
        "gap/approximation": gap(log_marginal - fitted, "log_marginal less elbo_fitted, image by image"),
        "gap/amortisation": gap(fitted - encoded, "elbo_fitted less elbo, image by image"),
    }


@torch.no_grad()
def elbo_of(
    model: LatentVariableModel,
    posterior: Distribution,
    x: Tensor,
    y: Tensor | None,
    key: tuple[int | str, ...],
    max_batch: int,
) -> Tensor:
    """The ELBO of `posterior` on `SAMPLES` samples an image, `(B,)` nats, float64, with noise that `key` fixes."""
    shape = (SAMPLES, *posterior.batch_shape, *posterior.event_shape)
    noise = standard_normal(shape, model.prior(y).mean, *key)
    return mean_elbo(model, posterior, noise, x, y, max_batch=max_batch)


@part(
    "gaps",
    needs=(needs.gaussian_posterior,),
    metrics=(
        Metric(
            "gap",
            "log p(x), the ELBO of the best Gaussian of each image, that of the encoder, and the gaps between them",
            source="Cremer, Li and Duvenaud, 2018, https://arxiv.org/abs/1801.03558",
            forms=("gap/log_marginal", "gap/elbo_fitted", "gap/elbo", "gap/approximation", "gap/amortisation"),
        ),
    ),
    section=SECTION,
    place=20,
)
def gaps(material: Material) -> dict[str, Estimate]:
    """What inference loses to the best Gaussian posterior of each image, and from there to the encoder's."""
    return gap_report(material.shared(Evidence.of), material.settings.svi)
