"""What `evaluation=full` adds to a report, part by part: what each needs, and the call that measures it."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vae_lightning.arguments import choose, require
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.disentanglement import disentanglement_report
from vae_lightning.evaluation.distances import FEWEST
from vae_lightning.evaluation.evidence import Evidence
from vae_lightning.evaluation.factor_codes import DisentanglementSettings, GroundTruth
from vae_lightning.evaluation.gaps import gap_report
from vae_lightning.evaluation.information import dimension_report, information_report, rate_distortion_report
from vae_lightning.evaluation.probes import probe_report
from vae_lightning.evaluation.samples import Judge, draw_samples, sample_report
from vae_lightning.evaluation.structured import structured_report
from vae_lightning.inference.ais import AISSettings
from vae_lightning.inference.svi import DEFAULT, SVISettings
from vae_lightning.noise import generator
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["PARTS", "ImageCounts", "Material", "Part", "PartSettings", "check_parts", "measure"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCounts:
    """How many images a part takes, at equal distances; see `conf/evaluation/default.yaml`."""

    estimators: int | None = 100
    """Of the estimators of log p(x) and of the inference gaps; as many are simulated for bidirectional Monte Carlo."""
    information: int | None = None
    """Of active units, KL per dimension, and mutual information; None: all."""
    structured: int | None = 100
    """Whose unseen quadrants are predicted."""
    samples: int | None = 10_000
    """Drawn, and as many real ones beside them."""
    probes: int | None = 10_000
    """Of the training split, which probes learn from."""

    def __post_init__(self) -> None:
        for name, count in dataclasses.asdict(self).items():
            least = FEWEST if name == "samples" else 2
            require(count is None or count >= least, f"evaluation.images.{name}", count, f"at least {least}, or null for all")


@dataclass(frozen=True)
class PartSettings:
    """How the parts measure."""

    num_samples: int = 1000
    """K of importance sampling."""
    images: ImageCounts = field(default_factory=ImageCounts)
    """How many images each part takes."""
    ais: AISSettings = field(default_factory=AISSettings)
    """How to anneal."""
    svi: SVISettings = DEFAULT
    """How a posterior is fitted to an image."""
    disentanglement: DisentanglementSettings = field(default_factory=DisentanglementSettings)
    """Numbers of the disentanglement metrics."""
    seed: int = 0
    """Of all noise."""


@dataclass(frozen=True)
class Material:
    """What there is to measure: a model, known by the protocol only, and its images."""

    model: LatentVariableModel
    """In evaluation mode."""
    images: Callable[[str, int | None], tuple[Tensor, Tensor]]
    """`(split, how many)` to images `(N, *event)` in [0, 1], on the model's device, and their labels `(N,)`."""
    bound: Mapping[str, Estimate]
    """The terms of the ELBO over the test images, which rate and distortion are."""
    binarization: str
    """How the images were binarized."""
    num_classes: int
    """Of a conditional model; 0 for others."""
    settings: PartSettings
    """How to measure."""
    budget: Budget
    """How much at once."""
    judge: Judge | None = None
    """The classifier that samples are shown to."""
    judge_name: str = ""
    """Its run, in words."""
    judge_binarization: str = ""
    """Of the images it was trained on."""
    factors: GroundTruth | None = None
    """The data set's factors of variation, if it has known ones."""

    def labelled(self, split: str, count: int | None) -> tuple[Tensor, Tensor | None]:
        """Images, and the labels that a conditional model is given."""
        x, y = self.images(split, count)
        return x, (y if self.num_classes else None)

    @cached_property
    def evidence(self) -> Evidence:
        """log p(x) of some test images by every estimator, each computed once."""
        x, y = self.labelled("test", self.settings.images.estimators)
        settings = self.settings
        return Evidence(self.model, x, y, self.binarization, settings.num_samples, settings.ais, self.budget, settings.seed)


class Part(NamedTuple):
    """One part of the full evaluation."""

    unfit: Callable[[Material], str | None]
    """Why it makes no sense for a material, or None."""
    measure: Callable[[Material], dict[str, Estimate]]
    """The figures by name."""


def check_parts(material: Material, names: Sequence[str]) -> None:
    """Refuse parts that were asked for by name and do not fit, before anything is computed.

    Raises:
        ConfigurationError: there is no part of such a name, or it does not fit; the line says why.
    """
    for name in names:
        reason = choose("evaluation.parts", name, PARTS).unfit(material)
        if reason is not None:
            raise ConfigurationError(f"evaluation.parts={name}: {reason}")


def measure(material: Material, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Estimate] | str]]:
    """The figures of each part in `names`, or why there are none, as soon as they are there."""
    for name in names:
        part, started = PARTS[name], time.perf_counter()
        reason = part.unfit(material)
        if reason is not None:
            yield name, reason
            continue
        try:
            found = part.measure(material)
        except (ConfigurationError, DataError, NotImplementedError) as error:
            yield name, str(error)
        except Exception as error:  # hours of other parts must not be lost with one that fails
            log.exception("%s could not be measured", name)
            yield name, f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        else:
            seconds = time.perf_counter() - started
            yield name, {key: e if e.seconds == e.seconds else dataclasses.replace(e, seconds=seconds) for key, e in found.items()}


# ---- what the parts need


def _fits(material: Material) -> str | None:
    return None


def _few_dimensions(material: Material) -> str | None:
    size = material.model.latent_dim
    return None if size <= 2 else f"needs a latent of at most two dimensions, and this model's has {size}"


def _gaussian_posterior(material: Material) -> str | None:
    x, y = material.labelled("test", 2)
    with torch.no_grad():
        q = material.model.posterior(x, y)
    diagonal = isinstance(q, Independent) and isinstance(q.base_dist, Normal)
    return None if diagonal else f"compares the encoder with diagonal Gaussians, and its posterior is a {type(q).__name__}"


def _unconditional(material: Material) -> str | None:
    return "the posterior of a conditional model is told the label, which probes would read back" if material.num_classes else None


def _judge(material: Material) -> str | None:
    return None if material.judge else "needs a classifier: evaluation.classifier=<run of one>, trained by experiment=classifier"


def _factors(material: Material) -> str | None:
    if material.factors is None:
        return "the data set has no known factors of variation: data=shapes2d has"
    return "the posterior of a conditional model is told one of the factors" if material.num_classes else None


# ---- the parts


def _dimensions(m: Material) -> dict[str, Estimate]:
    return dimension_report(m.model, *m.labelled("test", m.settings.images.information), m.binarization)


def _information(m: Material) -> dict[str, Estimate]:
    x, y = m.labelled("test", m.settings.images.information)
    return information_report(m.model, x, y, m.binarization, m.budget, m.settings.seed)


def _structured(m: Material) -> dict[str, Estimate]:
    x, y = m.labelled("test", m.settings.images.structured)
    settings = m.settings
    return structured_report(m.model, x, y, m.binarization, settings.svi, settings.num_samples, m.budget, settings.seed)


def _samples(m: Material) -> dict[str, Estimate]:
    assert m.judge is not None
    real, real_labels = m.images("test", m.settings.images.samples)
    reference, _ = m.images("train", len(real))
    source = generator(m.settings.seed, "samples", device=real.device)
    y = real_labels if m.num_classes else None
    return sample_report(
        draw_samples(m.model, len(real), y, source),
        y,
        real,
        real_labels,
        reference,
        m.judge,
        binarization=m.binarization,
        settings={"classifier": m.judge_name, "judged_by": m.judge_binarization},
        seed=m.settings.seed,
    )


def _probes(m: Material) -> dict[str, Estimate]:
    (seen, seen_labels), (test, test_labels) = m.images("train", m.settings.images.probes), m.images("test", None)
    return probe_report(_means(m)(seen), seen_labels, _means(m)(test), test_labels, m.binarization)


def _disentanglement(m: Material) -> dict[str, Estimate]:
    assert m.factors is not None
    return disentanglement_report(_means(m), m.factors, m.binarization, m.settings.disentanglement, m.settings.seed)


def _means(m: Material) -> Callable[[Tensor], Tensor]:
    """Posterior means `(N, D)` of images."""

    device = m.model.prior(None).mean.device

    @torch.no_grad()
    def represent(x: Tensor) -> Tensor:
        return torch.cat([m.model.posterior(some.to(device), None).mean for some in x.split(500)])

    return represent


PARTS: dict[str, Part] = {
    "importance": Part(_fits, lambda m: m.evidence.importance_report()),
    "ais": Part(_fits, lambda m: m.evidence.ais_report()),
    "quadrature": Part(_few_dimensions, lambda m: m.evidence.quadrature_report()),
    "bdmc": Part(_fits, lambda m: m.evidence.bidirectional_report(len(m.evidence.x), m.num_classes)),
    "gaps": Part(_gaussian_posterior, lambda m: gap_report(m.evidence, m.settings.svi)),
    "rate_distortion": Part(_fits, lambda m: rate_distortion_report(m.bound)),
    "dimensions": Part(_fits, _dimensions),
    "information": Part(_fits, _information),
    "structured": Part(_fits, _structured),
    "samples": Part(_judge, _samples),
    "probes": Part(_unconditional, _probes),
    "disentanglement": Part(_factors, _disentanglement),
}
"""By name, in the order in which they are measured."""
