"""Normalisation: probabilities sum to one and densities integrate to one, of pixels, of the prior and of the posterior.

A likelihood without its normaliser, a mean over pixels in place of the sum, or a wrong log-determinant of a flow make numbers that
look like log p(x) and are none.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Distribution

from vae_lightning.distributions.densities import Integral, integral_by_grid, integral_by_sampling, is_one_to_one, transported
from vae_lightning.distributions.factors import factors
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.distributions.totals import (
    is_binary,
    log_total_of_independent_pixels,
    log_total_of_patterns,
    log_totals_of_pixels,
    pixels_are_independent,
    places,
)
from vae_lightning.evaluation.verification.subject import CHANCE, Subject
from vae_lightning.evaluation.verification.verdict import DEVIATIONS, ROUNDINGS, Finding, NotApplicableError, as_far_as_known, check
from vae_lightning.noise import standard_normal

__all__ = ["log_determinants", "patterns", "pixels", "posterior", "prior"]

IMAGES = 4
"""Images of which latents are drawn, for each of which p(x | z) is summed."""
PATTERNS = 1024
"""Patterns of a few pixels, at most, and half of them at least if pixels are binary."""
MOST_IMAGES = 4096
"""Images that are summed one by one, at most."""
POINTS = (128, 256, 512, 1024)
"""Points along a dimension of a grid: the first that are enough."""
EXACT = 1e-4
"""How exact a grid must be to tell: how far the sum over a coarser one is away."""
NATS = 10
"""Nats of a density a dimension, about, where its mass is: rounding moves the density by so many units."""
DRAWS = 4096
"""Samples of importance sampling."""
DENSITIES = 3
"""Images whose posteriors are integrated."""


@check("normalisation/pixels", "p(x | z) sums to one over all images: what log_prob says of each value of each pixel")
def pixels(subject: Subject) -> Finding:
    """The likelihood is normalised as a whole."""
    worst: list[Finding] = []
    for image, likelihood in _likelihoods(subject):
        x = subject.x[image]
        binary = is_binary(likelihood)
        values, log_weights = places(likelihood, x, binary)
        totals = log_totals_of_pixels(likelihood, values, log_weights)
        if totals is not None:
            coarse = _every_second(likelihood, values, log_weights)
            slack = (totals - coarse).abs().max() if coarse is not None else torch.zeros(())
            size, pixel = totals.abs().flatten().max(0)
            worst.append(_total(subject, size, slack, 1 + values.numel() ** 0.5, f"pixel {int(pixel)} of image {image}"))
            continue
        worst.append(_whole(subject, likelihood, image, binary))
    return _worst(worst, len(worst))


@check(
    "normalisation/patterns",
    "p(x | z) sums, over all patterns of a few pixels with the rest fixed, to the probability of the rest",
)
def patterns(subject: Subject) -> Finding:
    """The sum over patterns of whole images is what the other pixels cost."""
    worst: list[Finding] = []
    for image, likelihood in _likelihoods(subject):
        x = subject.x[image]
        each = factors(likelihood)
        if each is None:
            raise NotApplicableError(f"{_dependent(likelihood)}, so that what the rest costs is not known")
        values, log_weights = places(likelihood, x, is_binary(likelihood))
        number = max(1, int(torch.tensor(float(PATTERNS)).log() / torch.tensor(float(len(values))).log() + 1e-6))
        chosen = torch.linspace(0, x.numel() - 1, min(number, x.numel()) + 2).long()[1:-1].unique().tolist()
        own = each.log_prob(x).reshape(-1)
        rest = own.double().sum() - own[chosen].double().sum()
        total = log_total_of_patterns(likelihood, x, chosen, values, log_weights)
        coarse = _coarse_total(likelihood, x, chosen, values, log_weights)
        size = (total.double() - rest).abs().max()
        where = f"{len(values) ** len(chosen):,} patterns of {len(chosen)} pixels of image {image}"
        worst.append(_total(subject, size, (total - coarse).abs().max(), float(own.abs().sum()) + x.numel(), where))
    return _worst(worst, len(worst))


@check("normalisation/prior", "p(z) integrates to one", "")
def prior(subject: Subject) -> Finding:
    """The prior is normalised."""
    y = None if subject.y is None else subject.y[:DENSITIES]
    density = subject.model.prior(y)
    with as_far_as_known():
        return replace(_integral(subject, density, "prior"), images=0 if y is None else len(y))


@check("normalisation/posterior", "q(z | x) integrates to one", "")
def posterior(subject: Subject) -> Finding:
    """The posterior is normalised."""
    density = _posterior(subject)
    with as_far_as_known():
        return replace(_integral(subject, density, "posterior"), images=len(subject.x[:DENSITIES]))


@check("normalisation/log_determinant", "log q(z | x) of a sample is the density of its noise less the log-determinant from there")
def log_determinants(subject: Subject) -> Finding:
    """Densities of samples are those of the change of variables, prior and posterior alike."""
    y = None if subject.y is None else subject.y[:DENSITIES]
    found = []
    for name, density in (("q(z | x)", _posterior(subject)), ("p(z)", subject.model.prior(y))):
        if is_one_to_one(density):
            with as_far_as_known():
                found += _changes(subject, density, name)
    if not found:
        raise NotApplicableError("noise and samples are not known to be one to one")
    return _worst(found, len(subject.x[:DENSITIES]))


def _worst(findings: Sequence[Finding], images: int) -> Finding:
    """The finding that is the most tolerances off, of so many images."""
    return replace(max(findings, key=lambda finding: finding.size / max(finding.tolerance, 1e-300)), images=images)


# ---- likelihoods


def _likelihoods(subject: Subject) -> list[tuple[int, Distribution]]:
    """Some images' numbers, each with p(x | z) of a latent of its own posterior, batch shape `(1,)`."""
    likelihoods = []
    noise = subject.source("latents").normal("posterior", 1, subject.model.latent_dim)[0]
    for image in torch.linspace(0, len(subject.x) - 1, IMAGES).long().unique().tolist():
        y = None if subject.y is None else subject.y[image : image + 1]
        q = subject.model.posterior(subject.x[image : image + 1], y)
        z = from_noise(q, noise[image : image + 1].to(q.mean))
        likelihoods.append((image, subject.model.likelihood(z, y)))
    return likelihoods


def _total(subject: Subject, size: Tensor, slack: Tensor, scale: float, where: str) -> Finding:
    """The finding of the logarithm of a total; `slack` is what quadrature misses, which must be little to tell anything."""
    error = float(slack)
    if not error <= 100 * EXACT:
        raise NotApplicableError(f"the quadrature over a pixel's values is off by {error:.2g}, which tells nothing")
    allowed = ROUNDINGS * subject.unit * scale + error
    because = f"{ROUNDINGS} units of rounding in each number that is summed" + (
        ", and the error of the quadrature" if error else ""
    )
    return Finding(float(size), allowed, because, where)


def _halved(values: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor] | None:
    """Every second point of a quadrature; None of levels, which have all the same weight."""
    if not bool((log_weights != log_weights[0]).any()):
        return None
    return values[::2], log_weights[::2] + torch.tensor(2.0).log().to(log_weights)


def _every_second(likelihood: Distribution, values: Tensor, log_weights: Tensor) -> Tensor | None:
    halved = _halved(values, log_weights)
    return None if halved is None else log_totals_of_pixels(likelihood, *halved)


def _coarse_total(likelihood: Distribution, x: Tensor, chosen: list[int], values: Tensor, log_weights: Tensor) -> Tensor:
    halved = _halved(values, log_weights) or (values, log_weights)
    return log_total_of_patterns(likelihood, x, chosen, *halved)


def _whole(subject: Subject, likelihood: Distribution, image: int, binary: bool) -> Finding:
    """The total of a likelihood that does not say whether its pixels are independent."""
    x = subject.x[image]
    values, log_weights = places(likelihood, x, binary)
    scale = float(likelihood.log_prob(x).abs()) + x.numel()
    if len(values) ** x.numel() <= MOST_IMAGES:
        total = log_total_of_patterns(likelihood, x, range(x.numel()), values, log_weights)
        return _total(subject, total.abs().max(), torch.zeros(()), scale, f"all {len(values) ** x.numel():,} images")
    negative = subject.x.amin() + subject.x.amax() - x
    if not pixels_are_independent(likelihood, x, negative, ROUNDINGS * subject.unit * scale):
        raise NotApplicableError(f"{_dependent(likelihood)}, and there are too many images to sum over")
    if _halved(values, log_weights) is not None:
        raise NotApplicableError(f"{_dependent(likelihood)}, and a density of so many pixels takes too long to integrate")
    total = log_total_of_independent_pixels(likelihood, x, binary)
    return _total(subject, total.abs().max(), torch.zeros(()), scale * x.numel() ** 0.5, f"image {image}")


def _dependent(likelihood: Distribution) -> str:
    return f"{type(likelihood).__name__} does not say that pixels are independent given z"


# ---- latents


def _posterior(subject: Subject) -> Distribution:
    return subject.model.posterior(subject.x[:DENSITIES], None if subject.y is None else subject.y[:DENSITIES])


def _noise(subject: Subject, density: Distribution, draws: int, purpose: str) -> Tensor:
    shape = (draws, *density.batch_shape, subject.model.latent_dim)
    return standard_normal(shape, density.mean, subject.material.settings.seed, "verification", purpose)


def _integral(subject: Subject, density: Distribution, purpose: str) -> Finding:
    dimensions = subject.model.latent_dim
    if dimensions <= 2:
        for points in POINTS:
            found = integral_by_grid(density, points)
            if bool((found.error <= EXACT).all()):
                rounding = ROUNDINGS * subject.unit * NATS * dimensions
                return _of_integral(found, 1.0, rounding, f"by a grid of {points}^{dimensions} points")
    found = integral_by_sampling(density, _noise(subject, density, DRAWS, purpose))
    scale = float(density.mean.abs().add(1).div(density.stddev).sum(-1).max())
    return _of_integral(found, DEVIATIONS, ROUNDINGS * subject.unit * scale, f"by {DRAWS:,} samples")


def _of_integral(found: Integral, errors: float, rounding: float, how: str) -> Finding:
    off = (found.value - 1).abs()
    allowed = errors * found.error + rounding
    worst = int((off / allowed.clamp(min=1e-300)).nan_to_num(nan=torch.inf).argmax())
    because = f"{CHANCE} and rounding" if errors > 1 else "the error of the grid, and rounding"
    where = f"an integral of {float(found.value[worst]):.6g} {how}"
    return Finding(float(off[worst]), float(allowed[worst]), because, where)


def _changes(subject: Subject, density: Distribution, name: str) -> list[Finding]:
    """The findings of the density of samples as it is known with the sample, and as it is computed of any point."""
    noise = _noise(subject, density, 8, "log-determinant")
    z, expected = transported(density, noise)
    fresh = from_noise(density, noise)
    # rounding of z moves its noise by so many units, and the log density by that times the noise
    scale = expected.abs() + (1 + noise.abs() * (1 + z.abs()) / density.stddev).double().sum(-1)
    densities = {"of the sample": density.log_prob(fresh), "of the point": density.log_prob(z.clone())}
    return [
        subject.rounded((found.double() - expected).abs().flatten(), scale.flatten(), f"{name}, {how}, number {{}}")
        for how, found in densities.items()
    ]
