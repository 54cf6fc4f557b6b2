r"""log p(x), or log p(x | y), of the same images by every estimator there is, so that they can be held against each other.

Importance sampling and annealed importance sampling give lower bounds in expectation, quadrature the exact value.
Bidirectional Monte Carlo says how far annealing may be off, on images that the model itself made.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from vae_lightning.evaluation.budget import Budget
from vae_lightning.evaluation.metrics import estimate
from vae_lightning.evaluation.sanity import SIMULATED
from vae_lightning.inference.ais import AISEstimate, AISSettings, annealed_importance_sampling, bidirectional_monte_carlo
from vae_lightning.inference.importance import ImportanceEstimate, importance_sampling
from vae_lightning.inference.quadrature import Quadrature, quadrature
from vae_lightning.noise import generator
from vae_lightning.types import Estimate, LatentVariableModel

__all__ = ["Evidence"]

T = TypeVar("T")
SECTION = "estimators of log p(x), on the same images"


@dataclass(frozen=True)
class Evidence:
    """The log-likelihood of some images, by each estimator when it is first asked for."""

    model: LatentVariableModel
    x: Tensor
    """Images `(B, *event)`."""
    y: Tensor | None
    """Labels `(B,)` of a conditional model, all of whose figures are of log p(x | y); None for others."""
    binarization: str
    """Of the images."""
    num_samples: int
    """K of importance sampling."""
    ais: AISSettings
    """How to anneal."""
    budget: Budget
    """How much at once."""
    seed: int = 0
    """Of all noise."""

    @property
    def given(self) -> str:
        """What the figures are of, in words."""
        return "log p(x)" if self.y is None else "log p(x | y)"

    # ---- the estimates, each with the seconds it took

    @cached_property
    def by_importance(self) -> tuple[ImportanceEstimate, float]:
        """Importance sampling from the posterior."""
        return _timed(
            lambda: self.budget.run(
                lambda at_once: importance_sampling(
                    self.model, self.x, self.y, self.num_samples, self._source("importance", device=self.x.device), at_once
                )
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
        return _timed(
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

    # ---- as figures of a report

    def importance_report(self) -> dict[str, Estimate]:
        """`nll/importance`."""
        found, seconds = self.by_importance
        how = f"-{self.given} by importance sampling from the posterior"
        return {
            "nll/importance": self._figure(-found.log_marginal, how, self.num_samples, seconds),
            **self._distance("importance", found.log_marginal, {"num_samples": self.num_samples}),
        }

    def ais_report(self) -> dict[str, Estimate]:
        """`nll/ais` and `nll/ais_from_encoder`, with the acceptance rate of their Hamiltonian steps."""
        report: dict[str, Estimate] = {}
        for name, (found, seconds), start in (
            ("ais", self.by_ais, "the prior"),
            ("ais_from_encoder", self.by_ais_from_encoder, "the posterior q(z | x)"),
        ):
            chains = self.ais.num_chains
            how = f"-{self.given} by annealed importance sampling with HMC from {start}"
            figures = {
                f"nll/{name}": self._figure(-found.log_marginal, how, chains, seconds),
                f"effective_sample_size/{name}": self._figure(
                    found.effective_sample_size, "(sum w)^2 / sum w^2 of the chains' weights", chains, seconds
                ),
                f"acceptance/{name}": self._figure(
                    found.acceptance, "mean probability with which a Hamiltonian trajectory is accepted", chains, seconds
                ),
            }
            report |= {key: dataclasses.replace(figure, settings=self._told) for key, figure in figures.items()}
            report |= self._distance(name, found.log_marginal, self._told)
        return report

    def quadrature_report(self) -> dict[str, Estimate]:
        """`nll/quadrature`, the exact value."""
        found, seconds = self.by_quadrature
        how = f"-{self.given} by quadrature over a grid of latents; exact"
        figure = self._figure(-found.log_evidence, how, 0, seconds)
        return {"nll/quadrature": dataclasses.replace(figure, settings={"worst error of an image, nats": float(found.error.max())})}

    def bidirectional_report(self, num_images: int, num_classes: int) -> dict[str, Estimate]:
        """`bdmc/lower`, `bdmc/upper` and `bdmc/gap` of images simulated from the model."""
        y = torch.arange(num_images, device=self.x.device) % num_classes if num_classes else None
        settings = dataclasses.replace(self.ais, start="prior")
        found, seconds = _timed(
            lambda: self.budget.run(
                lambda at_once: bidirectional_monte_carlo(
                    self.model, num_images, y, settings=settings, source=self._source("bdmc"), max_batch=at_once
                )
            )
        )
        what = f"{self.given} of images simulated from the model, by bidirectional Monte Carlo"
        bounds = {
            "lower": (found.lower, f"lower bound of {what}: AIS from the prior"),
            "upper": (found.upper, f"upper bound of {what}: AIS backwards from the z that made the image"),
            "gap": (found.gap, "upper less lower bound: how far AIS may be off on such images"),
        }
        return {
            f"bdmc/{name}": estimate(
                values,
                num_samples=self.ais.num_chains,
                binarization=SIMULATED,
                estimator=how,
                settings=self._told,
                seconds=seconds,
                section="bidirectional Monte Carlo",
            )
            for name, (values, how) in bounds.items()
        }

    # ---- inside

    @property
    def _told(self) -> dict[str, Any]:
        """The settings of annealing; where it starts is said in words."""
        return {key: value for key, value in dataclasses.asdict(self.ais).items() if key != "start"}

    def _anneal(self, start: Literal["prior", "encoder"]) -> tuple[AISEstimate, float]:
        settings = dataclasses.replace(self.ais, start=start)
        return _timed(
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
        figure = self._figure(exact - log_marginal, how, 0, self.by_quadrature[1])
        return {f"nll_less_exact/{name}": dataclasses.replace(figure, settings=settings)}

    def _figure(self, values: Tensor, how: str, num_samples: int, seconds: float) -> Estimate:
        return estimate(
            values,
            num_samples=num_samples,
            binarization=self.binarization,
            estimator=how,
            seconds=seconds,
            section=SECTION,
        )

    def _source(self, *purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        return generator(self.seed, "evidence", *purpose, device=device)


def _timed(compute: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return compute(), time.perf_counter() - started
