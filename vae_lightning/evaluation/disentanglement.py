r"""Disentanglement: whether single latents stand for single factors of variation, of data whose factors are known.

Five metrics, whose definitions and sources are in `evaluation.factor_scores`, by the protocol of "Challenging common
assumptions in the unsupervised learning of disentangled representations", Locatello et al., 2019,
https://arxiv.org/abs/1811.12359, and of its code (https://github.com/google-research/disentanglement_lib). An image's
representation is its posterior mean; all values are from 0 to 1, higher is better.
"""

import dataclasses
import time
from collections.abc import Callable

import torch

from vae_lightning.evaluation import needs
from vae_lightning.evaluation.factor_codes import Codes, DisentanglementSettings, GroundTruth, Represent
from vae_lightning.evaluation.factor_scores import (
    Score,
    beta_vae_score,
    dci,
    factor_vae_score,
    mutual_information_gap,
    separated_attribute_predictability,
)
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.registry import part
from vae_lightning.glossary import Metric
from vae_lightning.noise import generator
from vae_lightning.types import Estimate

__all__ = ["disentanglement_report"]

SECTION = "disentanglement"


def disentanglement_report(
    represent: Represent,
    data: GroundTruth,
    binarization: str,
    settings: DisentanglementSettings | None = None,
    seed: int = 0,
) -> dict[str, Estimate]:
    """All scores of one representation, each a function of `seed` and itself alone.

    `mig`, `sap`, `dci_disentanglement`, `dci_completeness`, `dci_informativeness`, `factor_vae_score`, `beta_vae_score`.

    Args:
        represent: images `(B, C, H, W)` on the CPU to representations `(B, D)`, on any device: the posterior's mean.
        data: factors to images.
        binarization: how `data` binarizes them.

    Raises:
        ConfigurationError: the representation has fewer than two dimensions.
    """
    settings = settings or DisentanglementSettings()
    started = time.perf_counter()
    codes = Codes(represent, data, expected=settings.num_images)
    encoding = time.perf_counter() - started
    protocol = {**dataclasses.asdict(settings), "seed": seed, "representation": "posterior mean"}
    report = {}
    for names, metric in METRICS.items():
        started = time.perf_counter()
        scores = metric(codes, settings, generator(seed, "disentanglement", *names))
        seconds = encoding + time.perf_counter() - started
        for name, score in zip(names, (scores,) if isinstance(scores, Score) else scores, strict=True):
            count, how = ESTIMATORS[name](settings)
            report[name] = Estimate(*score, count, 0, binarization, how, protocol, seconds, section=SECTION)
    return report


METRICS: dict[tuple[str, ...], Callable[[Codes, DisentanglementSettings, torch.Generator], Score | tuple[Score, ...]]] = {
    ("mig",): mutual_information_gap,
    ("sap",): separated_attribute_predictability,
    ("dci_disentanglement", "dci_completeness", "dci_informativeness"): dci,
    ("factor_vae_score",): factor_vae_score,
    ("beta_vae_score",): beta_vae_score,
}
"""What computes the scores, by the names of the estimates that come out."""
ESTIMATORS: dict[str, Callable[[DisentanglementSettings], tuple[int, str]]] = {
    "mig": lambda s: (s.num_train, "mutual information gap, by histogram; error by bootstrap over images"),
    "sap": lambda s: (s.num_test, "gap of accuracies of linear classifiers; error by bootstrap over test images"),
    "dci_disentanglement": lambda s: (s.num_train, "each latent counts for one factor only; random forests, no error estimated"),
    "dci_completeness": lambda s: (s.num_train, "for each factor counts one latent only; random forests, no error estimated"),
    "dci_informativeness": lambda s: (s.num_test, "accuracy of random forests, mean over factors; error over test images"),
    "factor_vae_score": lambda s: (s.num_test * s.batch_size, "accuracy of a majority vote; error over test batches"),
    "beta_vae_score": lambda s: (2 * s.num_test * s.batch_size, "accuracy of logistic regression; error over test batches"),
}
"""How many images each estimate is of, and how it is estimated."""

_CHEN = "Chen et al., 2018, https://arxiv.org/abs/1802.04942"
_KUMAR = "Kumar, Sattigeri and Balakrishnan, 2018, https://arxiv.org/abs/1711.00848"
_EASTWOOD = "Eastwood and Williams, 2018, https://openreview.net/forum?id=By-7dz-AZ"
_DISTANT = "Accuracy of telling the fixed factor of a batch from"


@part(
    "disentanglement",
    needs=(needs.factors,),
    metrics=(
        Metric(
            "mig",
            "Mutual information gap: of each factor, between the two latents that know most of it; 0 to 1",
            "share",
            "high",
            _CHEN,
        ),
        Metric(
            "sap",
            "Separated attribute predictability: the gap between the two latents that predict a factor best",
            "share",
            "high",
            _KUMAR,
        ),
        Metric("dci_disentanglement", "How far each latent is important for one factor only; 0 to 1", "share", "high", _EASTWOOD),
        Metric("dci_completeness", "How far each factor is in one latent only; 0 to 1", "share", "high", _EASTWOOD),
        Metric(
            "dci_informativeness",
            "Accuracy with which random forests predict the factors from the latents",
            "share",
            "high",
            _EASTWOOD,
        ),
        Metric(
            "factor_vae_score",
            f"{_DISTANT} the latent that varies least",
            "share",
            "high",
            "Kim and Mnih, 2018, https://arxiv.org/abs/1802.05983",
        ),
        Metric(
            "beta_vae_score",
            f"{_DISTANT} mean differences of latents",
            "share",
            "high",
            "Higgins et al., 2017, https://openreview.net/forum?id=Sy2fzU9gl",
        ),
    ),
    section=SECTION,
    place=70,
    settings={"disentanglement": DisentanglementSettings},
)
def disentanglement(material: Material) -> dict[str, Estimate]:
    """Whether single latents stand for single factors of variation."""
    assert material.factors is not None, "needs.factors has seen to it"
    settings = material.settings.of(DisentanglementSettings)
    return disentanglement_report(material.represent, material.factors, material.binarization, settings, material.settings.seed)
