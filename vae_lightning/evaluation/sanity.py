"""Find estimates in a report that cannot be right, and estimates that must not be compared."""

import math
from collections.abc import Mapping

from vae_lightning.types import Estimate

__all__ = ["SIMULATED", "warnings_of"]

DEVIATIONS = 3.0
"""Standard errors beyond which a difference counts as an error; by chance, one right report in 700 has such a difference."""
SIMULATED = "simulated"
"""The binarization of estimates from images that the model itself has drawn."""

_CLAIM = "a claim to be verified, as few go lower: {how}; then look for test images in training"
_STAMPED = "see the stamp of this report, and what it names if it says not verified"
_UNSTAMPED = "evaluation.parts=[verification], which evaluation=full holds, puts a stamp on this report"
_TOO_GOOD = {"threshold": "thresholded images cost less than those drawn at random, so compare it with no published number"}


def warnings_of(
    splits: Mapping[str, Mapping[str, Estimate]], nll_floor: float | None = None, binary: bool = True, grey: bool = False
) -> list[str]:
    """Warnings about estimates, one line each.

    Args:
        splits: estimates by split and name; those of samples have their classifier's binarization in `settings["judged_by"]`.
        nll_floor: nats that no nll should be below; None where no such number is known, as for densities and most data sets.
        binary: whether the likelihood is one of binary images, and not of grey levels.
        grey: whether the images have other pixels than 0 and 1.
    """
    bounds = [report["elbo"] for report in splits.values() if "elbo" in report]
    warnings = []
    if binary and grey and bounds:
        warnings.append(
            "grey levels are no outcomes of a distribution of binary images: elbo and nll bound those of dynamically binarized "
            "images, and are the likelihood of no data set; train with data.binarization=dynamic, or a likelihood of grey levels"
        )
    if not binary and any(bound.binarization != "none" for bound in bounds):
        warnings.append(
            "elbo and nll are of a distribution of grey levels, taken at black and white: no bound and no likelihood of binary "
            "images; train with data.binarization=none"
        )
    for split, report in splits.items():
        lost = [name for name, estimate in report.items() if not math.isfinite(estimate.value)]
        if lost:
            warnings.append(f"{split}: not finite: {', '.join(lost)}")
        if nll_floor is not None:
            claim = _CLAIM.format(how=_STAMPED if "verified" in splits.get("test", {}) else _UNSTAMPED)
            warnings += [
                f"{split}/{name} is {estimate.value:.2f} nats, below {nll_floor:g}: {_TOO_GOOD.get(estimate.binarization, claim)}"
                for name, estimate in report.items()
                if name.partition("/")[0] in ("nll", "nll_marginal") and estimate.value < nll_floor
            ]
        warnings += _bound_above_likelihood(split, report)
    binarizations = {e.binarization for report in splits.values() for e in report.values()} - {SIMULATED}
    if len(binarizations) > 1:
        warnings.append(
            f"estimates of several binarizations in one report, which do not compare: {', '.join(sorted(binarizations))}"
        )
    samples = [e for report in splits.values() for e in report.values() if e.section == "samples"]
    for binarization, judge in dict.fromkeys((e.binarization, e.settings.get("judged_by")) for e in samples):
        if binarization != judge:
            warnings.append(
                f"samples are of binarization {binarization}, but the classifier that judges them was trained on {judge}: train "
                f"one on images of binarization {binarization}"
            )
    return warnings


def _bound_above_likelihood(split: str, report: Mapping[str, Estimate]) -> list[str]:
    """An ELBO is below log p(x) in expectation, and an importance-weighted estimate, of one sample too, is not below the ELBO.

    Both are of the same images, which differ from each other by far more than from their bound: only the difference of each
    image has an error that is small enough to see anything.
    """
    gap = report.get("variational_gap")
    if gap is None or not gap.value < -DEVIATIONS * gap.standard_error:
        return []
    return [
        f"{split}/elbo, a lower bound of log p(x), is {-gap.value:.2f} nats above -{split}/nll, image by image (standard error "
        f"{gap.standard_error:.2f}): one of them is wrong"
    ]
