r"""log p(x), or log p(x | y), of the same images by every estimator there is, so that they can be held against each other.

Importance sampling and annealed importance sampling give lower bounds in expectation, quadrature the exact value.
Bidirectional Monte Carlo says how far annealing may be off, on images that the model itself has drawn.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from vae_lightning.evaluation import needs
from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.metrics import estimate, timed
from vae_lightning.evaluation.registry import part
from vae_lightning.evaluation.sanity import SIMULATED
from vae_lightning.glossary import Metric
from vae_lightning.inference.ais import (
    AISEstimate,
    AISSettings,
    BidirectionalBounds,
    annealed_importance_sampling,
    bidirectional_monte_carlo,
)
from vae_lightning.inference.importance import importance_sampling
from vae_lightning.inference.quadrature import Quadrature, quadrature
from vae_lightning.inference.weights import ImportanceEstimate
from vae_lightning.noise import Source, generator
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["Evidence", "Simulated"]

SECTION = "estimators of log p(x), on the same images"
BIDIRECTIONAL = "bidirectional Monte Carlo"


@dataclass(frozen=True)
class Evidence:
    """The log-likelihood of some images, by each estimator when it is first asked for.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    >>> evidence = Evidence(model, torch.zeros(3, 1, 28, 28), None, "none", 10, AISSettings(), Budget())
    >>> evidence.by_importance[0].log_marginal.shape
    torch.Size([3])
    """

    model: LatentVariableModel
    x: Tensor
    """Images `(B, *event)`."""
    y: Tensor | None
    """Labels `(B,)` of a conditional model, all of whose estimates are of log p(x | y); None for others."""
    binarization: str
    """How the images were binarized."""
    num_samples: int
    """K of importance sampling."""
    ais: AISSettings
    """How to anneal."""
    budget: Budget
    """How much at once."""
    seed: int = 0
    """Seed of all noise."""

    @classmethod
    def of(cls, material: Material) -> "Evidence":
        """The evidence of as many test images as estimators take; `material.shared(Evidence.of)` computes it once for all parts."""
        x, y = material.labelled("test", material.counts.estimators)
        settings, ais = material.settings, material.settings.of(AISSettings)
        return cls(material.model, x, y, material.binarization, settings.num_samples, ais, material.budget, settings.seed)

    @property
    def given(self) -> str:
        """What the estimates are of, in words."""
        return "log p(x)" if self.y is None else "log p(x | y)"

    @property
    def of_annealing(self) -> dict[str, Any]:
        """The settings of annealing; where it starts is said in words."""
        return {key: value for key, value in dataclasses.asdict(self.ais).items() if key != "start"}

    # ---- the estimates, each with the seconds it took

    @cached_property
    def by_importance(self) -> tuple[ImportanceEstimate, float]:
        """Importance sampling from the posterior."""
        source = Source.of(self.x, self.seed, "evidence", "importance")
        return timed(
            lambda: self.budget.run(
                lambda at_once: importance_sampling(self.model, self.x, self.y, self.num_samples, source, at_once)
            )
        )

    @cached_property
    def by_ais(self) -> tuple[AISEstimate, float]:
        """Annealing from the prior."""
        return self._anneal("prior")

    @cached_property
    def by_ais_from_encoder(self) -> tuple[AISEstimate, float]:
        """Annealing from the posterior."""
        return self._anneal("encoder")

    @cached_property
    def by_quadrature(self) -> tuple[Quadrature, float]:
        """The exact value, of at most two latent dimensions."""
        # finer than by default, as others are measured against it
        extent = self._extent()
        return timed(
            lambda: self.budget.run(
                lambda at_once: quadrature(self.model, self.x, self.y, extent=extent, points=128, max_batch=at_once)
            )
        )

    @torch.no_grad()
    def _extent(self) -> float:
        """Half the side of a square that holds prior and posteriors, which a learned prior may have put anywhere."""
        reach = [
            (q.mean.abs() + 7 * q.stddev).max().item() for q in (self.model.prior(self.y), self.model.posterior(self.x, self.y))
        ]
        return max(6.0, *reach)

    @property
    def best(self) -> tuple[Tensor, str]:
        """log p(x) `(B,)` and its estimator in words: exact if that can be, else the highest mean, as all are lower bounds."""
        if self.model.latent_dim <= 2:
            return self.by_quadrature[0].log_evidence, "quadrature"
        chains = f"{self.ais.num_chains:,} chains of {self.ais.num_distributions:,} distributions"
        bounds = {
            f"importance sampling, K = {self.num_samples:,}": self.by_importance[0].log_marginal,
            f"annealed importance sampling, {chains}": self.by_ais[0].log_marginal,
            f"annealed importance sampling from the posterior, {chains}": self.by_ais_from_encoder[0].log_marginal,
        }
        name = max(bounds, key=lambda key: bounds[key].mean().item())
        return bounds[name], f"the highest of three lower bounds, {name}"

    # ---- as estimates of a report

    def importance_report(self) -> dict[str, Estimate]:
        """`nll/importance`."""
        result, seconds = self.by_importance
        how = f"-{self.given} by importance sampling from the posterior"
        return {
            "nll/importance": self._estimate(-result.log_marginal, how, self.num_samples, seconds),
            **self._distance("importance", result.log_marginal, {"num_samples": self.num_samples}),
        }

    def ais_report(self) -> dict[str, Estimate]:
        """`nll/ais` and `nll/ais_from_encoder`, with the acceptance rate of their Hamiltonian steps."""
        report: dict[str, Estimate] = {}
        for name, (result, seconds), start in (
            ("ais", self.by_ais, "the prior"),
            ("ais_from_encoder", self.by_ais_from_encoder, "the posterior q(z | x)"),
        ):
            chains = self.ais.num_chains
            how = f"-{self.given} by annealed importance sampling with HMC from {start}"
            estimates = {
                f"nll/{name}": self._estimate(-result.log_marginal, how, chains, seconds),
                f"effective_sample_size/{name}": self._estimate(
                    result.effective_sample_size, "(sum w)^2 / sum w^2 of the chains' weights", chains, seconds
                ),
                f"acceptance/{name}": self._estimate(
                    result.acceptance, "mean probability with which a Hamiltonian trajectory is accepted", chains, seconds
                ),
            }
            report |= {key: dataclasses.replace(entry, settings=self.of_annealing) for key, entry in estimates.items()}
            report |= self._distance(name, result.log_marginal, self.of_annealing)
        return report

    def quadrature_report(self) -> dict[str, Estimate]:
        """`nll/quadrature`, the exact value."""
        result, seconds = self.by_quadrature
        how = f"-{self.given} by quadrature over a grid of latents; exact"
        exact = self._estimate(-result.log_evidence, how, 0, seconds)
        return {"nll/quadrature": dataclasses.replace(exact, settings={"worst error of an image, nats": float(result.error.max())})}

    def simulate(self, num_images: int, num_classes: int) -> "Simulated":
        """Bounds on both sides for `num_images` images drawn from the model, of each of `num_classes` labels in turn."""
        y = torch.arange(num_images, device=self.x.device) % num_classes if num_classes else None
        settings = dataclasses.replace(self.ais, start="prior")
        result, seconds = timed(
            lambda: self.budget.run(
                lambda at_once: bidirectional_monte_carlo(
                    self.model, num_images, y, settings=settings, source=self._source("bdmc"), max_batch=at_once
                )
            )
        )
        return Simulated(self, y, result, seconds)

    def bidirectional_report(self, num_images: int, num_classes: int) -> dict[str, Estimate]:
        """`bdmc/lower`, `bdmc/upper` and `bdmc/gap` of images simulated from the model."""
        return self.simulate(num_images, num_classes).report

    # ---- inside

    def _anneal(self, start: Literal["prior", "encoder"]) -> tuple[AISEstimate, float]:
        settings = dataclasses.replace(self.ais, start=start)
        return timed(
            lambda: self.budget.run(
                lambda at_once: annealed_importance_sampling(
                    self.model, self.x, self.y, settings=settings, source=self._source("ais", start), max_batch=at_once
                )
            )
        )

    def _distance(self, name: str, log_marginal: Tensor, settings: dict[str, Any]) -> dict[str, Estimate]:
        """How far a bound is from the exact value, image by image, where there is one; `settings` are those of the bound."""
        if self.model.latent_dim > 2:
            return {}
        exact = self.by_quadrature[0].log_evidence
        how = f"nll/{name} less nll/quadrature, image by image"
        distance = self._estimate(exact - log_marginal, how, 0, self.by_quadrature[1])
        return {f"nll_less_exact/{name}": dataclasses.replace(distance, settings=settings)}

    def _estimate(self, values: Tensor, how: str, num_samples: int, seconds: float) -> Estimate:
        return estimate(
            values,
            num_samples=num_samples,
            binarization=self.binarization,
            estimator=how,
            seconds=seconds,
            section=SECTION,
        )

    def _source(self, *purpose: str) -> torch.Generator:
        return generator(self.seed, "evidence", *purpose)


@dataclass(frozen=True)
class Simulated:
    """Images drawn from a model, of which bidirectional Monte Carlo bounds log p(x) on both sides.

    >>> from vae_lightning import VAE
    >>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).eval()
    >>> few = AISSettings(num_chains=2, num_distributions=3, leapfrog_steps=2)
    >>> evidence = Evidence(model, torch.zeros(3, 1, 28, 28), None, "none", 10, few, Budget())
    >>> evidence.simulate(4, 0).by_importance.shape
    torch.Size([4])
    """

    evidence: Evidence
    """How the images are estimated."""
    y: Tensor | None
    """Labels `(B,)` of a conditional model; None for others."""
    bounds: BidirectionalBounds
    """The images and their bounds."""
    seconds: float
    """The time that took."""

    @classmethod
    def of(cls, material: Material) -> "Simulated":
        """As many simulated images as estimators take; `material.shared(Simulated.of)` computes them once for all parts."""
        evidence = material.shared(Evidence.of)
        return evidence.simulate(len(evidence.x), material.num_classes)

    @cached_property
    def by_importance(self) -> Tensor:
        """log p(x) of the images by importance sampling from the posterior, `(B,)` nats, float64."""
        evidence, x = self.evidence, self.bounds.x
        source = Source.of(x, evidence.seed, "evidence", "importance of simulated")
        return evidence.budget.run(
            lambda at_once: importance_sampling(evidence.model, x, self.y, evidence.num_samples, source, at_once)
        ).log_marginal

    @property
    def report(self) -> dict[str, Estimate]:
        """`bdmc/lower`, `bdmc/upper` and `bdmc/gap`."""
        what = f"{self.evidence.given} of images simulated from the model, by bidirectional Monte Carlo"
        bounds = {
            "lower": (self.bounds.lower, f"lower bound of {what}: AIS from the prior"),
            "upper": (self.bounds.upper, f"upper bound of {what}: AIS backwards from the z that made the image"),
            "gap": (self.bounds.gap, "upper less lower bound: how far AIS may be off on such images"),
        }
        return {
            f"bdmc/{name}": estimate(
                values,
                num_samples=self.evidence.ais.num_chains,
                binarization=SIMULATED,
                estimator=how,
                settings=self.evidence.of_annealing,
                seconds=self.seconds,
                section=BIDIRECTIONAL,
            )
            for name, (values, how) in bounds.items()
        }


# ---- the parts of an evaluation

_NLL = Metric(
    "nll",
    "-log p(x), by the estimator named beside it: an upper bound in expectation unless that is exact",
    direction="low",
    source="Burda, Grosse and Salakhutdinov, 2016, https://arxiv.org/abs/1509.00519",
    symbol=r"-\log p(x)",
    forms=("nll", "nll/k_<K>", "nll/importance", "nll/ais", "nll/ais_from_encoder", "nll/quadrature"),
)
_COUNT = Metric(
    "effective_sample_size",
    "How many of the importance samples, or chains, count; below 10, the nll is too high by 0.05 nats or more",
    "count",
    "high",
    symbol=r"(\sum w)^2 / \sum w^2",
    forms=("effective_sample_size", "effective_sample_size/k_<K>", "effective_sample_size/<estimator>"),
)
_DISTANCE = Metric(
    "nll_less_exact",
    "How far an estimate of -log p(x) is above the exact value by quadrature, image by image",
    direction="low",
    forms=("nll_less_exact/<estimator>",),
)
_ACCEPTANCE = Metric(
    "acceptance",
    "Mean acceptance probability of the Hamiltonian trajectories of annealed importance sampling; 0.65 is wanted",
    "share",
    source="Neal, 2011, https://arxiv.org/abs/1206.1901",
    forms=("acceptance/<estimator>",),
)
_BIDIRECTIONAL = Metric(
    "bdmc",
    "Lower and upper bound of log p(x) of images simulated from the model, and their gap: how far AIS may be off",
    source="Grosse, Ghahramani and Adams, 2015, https://arxiv.org/abs/1511.02543",
    forms=("bdmc/lower", "bdmc/upper", "bdmc/gap"),
)


@part("importance", metrics=(_NLL, _DISTANCE), section=SECTION, place=10)
def importance(material: Material) -> dict[str, Estimate]:
    """log p(x) by importance sampling from the posterior."""
    return material.shared(Evidence.of).importance_report()


@part("ais", metrics=(_NLL, _COUNT, _ACCEPTANCE, _DISTANCE), section=SECTION, place=11, settings={"ais": AISSettings})
def ais(material: Material) -> dict[str, Estimate]:
    """log p(x) by annealed importance sampling from the prior and from the posterior."""
    return material.shared(Evidence.of).ais_report()


@part("quadrature", needs=(needs.plane,), metrics=(_NLL,), section=SECTION, place=12)
def by_quadrature(material: Material) -> dict[str, Estimate]:
    """log p(x) exactly, by quadrature, for at most two latent dimensions."""
    return material.shared(Evidence.of).quadrature_report()


@part("bdmc", metrics=(_BIDIRECTIONAL,), section=BIDIRECTIONAL, place=13)
def bidirectional(material: Material) -> dict[str, Estimate]:
    """How far annealing may be off, on images that the model itself drew."""
    return material.shared(Simulated.of).report
