r"""Order: ELBO $\le$ bound of K samples $\le \log p(x) \le$ upper bound, image by image.

Images differ from each other by far more than bounds from what they bound: an error of the difference of two means, taken as if
they were of different images, hides a wrong sign. So each comparison is of the same images, and where it can be of the same
samples.
"""

import torch
from torch import Tensor

from vae_lightning.evaluation.evidence import Evidence, Simulated
from vae_lightning.evaluation.verification.subject import CHANCE, ROUNDED, Subject, log_mean, worst_deviation
from vae_lightning.evaluation.verification.verdict import (
    DEVIATIONS,
    Finding,
    NotApplicableError,
    as_far_as_known,
    check,
    deviations,
)
from vae_lightning.types import Estimate

__all__ = ["ais_below_exact", "bracket", "elbo_below_bound", "importance_below_exact", "importance_in_bracket", "kl", "reported"]


@check("order/kl", "KL(q(z | x) || p(z)) is the mean of log q(z | x) - log p(z) over samples, image by image")
def kl(subject: Subject) -> Finding:
    """The closed form of the KL is what it is a closed form of."""
    if not subject.weighed.is_closed:
        raise NotApplicableError("the KL has no closed form: it is that mean")
    difference, error = subject.weighed.kl_deviation
    return worst_deviation(difference.abs(), error, slack=ROUNDED)


@check("order/elbo", "the ELBO is at most the bound of K samples, image by image")
def elbo_below_bound(subject: Subject) -> Finding:
    """The ELBO is below the importance-weighted bound, by the same samples, or by others where the KL is a mean over samples."""
    weighed = subject.weighed
    if weighed.is_closed:
        return worst_deviation(weighed.elbo - weighed.bound, weighed.kl_deviation[1], slack=ROUNDED)
    # of the same samples, a mean of logarithms is below the logarithm of the mean whatever is wrong
    first, second = weighed.log_weights.tensor_split(2)
    bound, error = log_mean(second)
    spread = first.std(0) / len(first) ** 0.5 if len(first) > 1 else torch.full_like(bound, torch.inf)
    return worst_deviation(first.mean(0) - bound, (spread.square() + error.square()).sqrt(), slack=ROUNDED)


@check("order/reported", "the elbo of this report is at most -nll, by the mean of the differences of each image")
def reported(subject: Subject) -> Finding:
    """What the report states of all images is in order."""
    gap: Estimate | None = subject.material.bound.get("variational_gap")
    if gap is None:
        raise NotApplicableError("there is no variational_gap to look at")
    allowed = deviations(gap.num_images) * gap.standard_error + ROUNDED
    return Finding(-gap.value, allowed, CHANCE, f"mean of {gap.num_images:,} images", gap.num_images)


@check("order/exact", "importance sampling is at most log p(x) by quadrature, image by image")
def importance_below_exact(subject: Subject) -> Finding:
    """The bound of K samples is below the exact value."""
    evidence = _with_exact(subject)
    estimate, exact = evidence.by_importance[0], evidence.by_quadrature[0]
    relative = (1 / estimate.effective_sample_size - 1 / evidence.num_samples).clamp(min=0).sqrt()
    return worst_deviation(estimate.log_marginal - exact.log_evidence, relative + exact.error / DEVIATIONS, slack=ROUNDED)


@check(
    "order/ais_exact",
    "annealed importance sampling is at most log p(x) by quadrature, by the mean of the differences of each image",
)
def ais_below_exact(subject: Subject) -> Finding:
    """Annealing is below the exact value; a few chains know too little of their error to tell of a single image."""
    evidence = _with_exact(subject)
    exact = evidence.by_quadrature[0]
    return _mean_below(evidence.by_ais[0].log_marginal - exact.log_evidence - exact.error)


@check("order/bracket", "annealing from the prior is at most annealing backwards, on images that the model drew")
def bracket(subject: Subject) -> Finding:
    """The two ends of bidirectional Monte Carlo are in order."""
    bounds = _simulated(subject).bounds
    return _mean_below(bounds.lower - bounds.upper)


@check(
    "order/importance_bracket",
    "importance sampling is at most the upper bound by annealing backwards, on images that the model drew",
)
def importance_in_bracket(subject: Subject) -> Finding:
    """Importance sampling stays below the upper end of the bracket, where the exact posterior is known."""
    simulated = _simulated(subject)
    return _mean_below(simulated.by_importance - simulated.bounds.upper)


def _simulated(subject: Subject) -> Simulated:
    with as_far_as_known():  # of a likelihood that cannot be sampled from
        return subject.material.shared(Simulated.of)


def _with_exact(subject: Subject) -> Evidence:
    if subject.model.latent_dim > 2:
        raise NotApplicableError(f"quadrature takes at most two latent dimensions, and this model has {subject.model.latent_dim}")
    return subject.material.shared(Evidence.of)


def _mean_below(difference: Tensor) -> Finding:
    """The finding of paired differences `(N,)` whose mean should be at most 0."""
    allowed = deviations(len(difference)) * float(difference.double().std()) / len(difference) ** 0.5 + ROUNDED
    where = f"mean of {len(difference)} images"
    return Finding(float(difference.double().mean()), allowed, CHANCE, where, len(difference))
