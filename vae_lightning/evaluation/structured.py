r"""Structured prediction: the unseen quadrants of an image, given the others.

$-\log p(x_U \mid x_O, y) = \log p(x_O \mid y) - \log p(x \mid y)$ with O the observed and U the unseen pixels ("Learning structured
output representation using deep conditional generative models", Sohn, Lee and Yan, 2015,
https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models).

Any latent-variable model whose pixels are independent given z can predict unseen pixels without having been trained for it. A
posterior is fitted to the observed pixels of each image, and the importance samples of either term come from that posterior. As a
part of a digit may belong to several digits, and a fit finds only one of them, the samples come from an equal mixture of two fits
with different starts and the prior.
"""

import dataclasses
import time

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.inference.observed import log_joint, observed_mask
from vae_lightning.inference.svi import Start, SVISettings, stochastic_variational_inference
from vae_lightning.inference.weights import importance_weighted
from vae_lightning.noise import Source, generator
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["QUADRANTS", "observed_log_marginal", "structured_report"]

SECTION = "structured prediction"
QUADRANTS = {1: ("bottom_left",), 2: ("bottom_left", "top_left"), 3: ("bottom_left", "top_left", "bottom_right")}
"""The observed quadrants, by how many are observed."""


def structured_report(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None,
    binarization: str,
    svi: SVISettings,
    num_samples: int,
    budget: Budget,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The estimates `nll_unseen/given_<n>_quadrants`: -log p(unseen pixels | observed pixels) with n = 1, 2, 3, nats per image.

    Args:
        x: images `(B, C, H, W)`.
        y: labels `(B,)` of a conditional model, of which both terms are conditional on y; None for other models.
        num_samples: K, importance samples of each term, from an equal mixture of two fitted posteriors and the prior.

    Raises:
        NotImplementedError: the model's pixels are not independent given z.
    """

    def log_marginal(mask: Tensor | None) -> Tensor:
        return budget.run(lambda at_once: observed_log_marginal(model, x, y, mask, svi, num_samples, seed, at_once))

    whole, report = log_marginal(None), {}
    for count, names in QUADRANTS.items():
        started = time.perf_counter()
        seen = log_marginal(torch.stack([observed_mask(name, x.shape[1:]) for name in names]).any(0).to(x.device))
        report[f"nll_unseen/given_{count}_quadrants"] = estimate(
            seen - whole,
            num_samples=num_samples,
            binarization=binarization,
            estimator="log p(observed) - log p(x), each by importance sampling from two fitted posteriors and the prior",
            settings={"observed": list(names), **dataclasses.asdict(svi)},
            seconds=time.perf_counter() - started,
            section=SECTION,
        )
    return report


def observed_log_marginal(
    model: LatentVariableModel,
    x: Tensor,
    y: Tensor | None,
    mask: Tensor | None,
    svi: SVISettings,
    num_samples: int,
    seed: int = 0,
    max_batch: int = 4000,
) -> Tensor:
    """log p(observed pixels | y) of each image, `(B,)` nats float64, by importance sampling.

    The samples come from an equal mixture of posteriors fitted to the observed pixels and the prior.

    Args:
        mask: bool, `(C, H, W)` or `(B, C, H, W)`, True where observed; None: everywhere.
    """

    def fitted_from(start: Start) -> Distribution:
        settings, source = dataclasses.replace(svi, start=start), generator(seed, "structured", "fit", start, device=x.device)
        return stochastic_variational_inference(model, x, y, mask, settings, source, max_batch).posterior

    proposal = _together([fitted_from("encoder"), fitted_from(svi.start), model.prior(y)], len(x))
    source = Source.of(x, seed, "structured", "importance")
    (estimated,) = importance_weighted(
        proposal, lambda z: log_joint(model, z, x, y, mask, max_batch), [num_samples], source, max_batch, x.dtype
    )
    return estimated.log_marginal


def _together(parts: list[Distribution], count: int) -> Distribution:
    """The equal mixture, batch shape `(count,)`, of Gaussians with the means and standard deviations of `parts`."""
    loc = torch.stack([part.mean.expand(count, -1) for part in parts], 1)
    scale = torch.stack([part.stddev.expand(count, -1) for part in parts], 1)
    shares = Categorical(logits=loc.new_zeros(count, len(parts)))
    return MixtureSameFamily(
        shares, Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False), validate_args=False
    )


@part(
    "structured",
    metrics=(
        Metric(
            "nll_unseen",
            "-log p(unseen quadrants given the observed ones), of any model, by masked inference",
            direction="low",
            source=(
                "Sohn, Lee and Yan, 2015, "
                "https://papers.nips.cc/paper/5775-learning-structured-output-representation-using-deep-conditional-generative-models"
            ),
            symbol=r"-\log p(x_U | x_O)",
            forms=("nll_unseen/given_<n>_quadrants",),
        ),
    ),
    section=SECTION,
    place=40,
)
def structured(material: Material) -> dict[str, Estimate]:
    """How well the unseen quadrants of an image are predicted from the others."""
    x, y = material.labelled("test", material.counts.structured)
    settings = material.settings
    return structured_report(
        material.model, x, y, material.binarization, settings.svi, settings.num_samples, material.budget, settings.seed
    )
