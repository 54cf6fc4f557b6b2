"""The part of an evaluation that verifies a likelihood: a verdict a check, and one over all."""

from collections.abc import Sequence

from vae_lightning.evaluation.material import Material
from vae_lightning.evaluation.registry import part
from vae_lightning.evaluation.verification.subject import Subject
from vae_lightning.evaluation.verification.verdict import CHECKS, Verdict
from vae_lightning.glossary import Metric
from vae_lightning.types import Estimate

__all__ = ["FAILED", "NOT_APPLICABLE", "PASSED", "SECTION", "VERIFIED", "estimates_of", "verification", "verify"]

SECTION = "verification"
VERIFIED = "verified"
"""The name of the estimate that says what came of all checks."""
PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable"
"""The settings of that estimate, which hold names, and lines by name."""

_VERIFIED = Metric(
    VERIFIED,
    "Share of the checks that apply to the model and that its likelihood passed; below 1, its numbers are not to be believed",
    "share",
    "high",
)
_CHECK = Metric(
    SECTION,
    "How far what a check of the likelihood claims is off, in the unit that its estimator says; it passed if within the tolerance",
    "",
    forms=(f"{SECTION}/<check>",),
)


def verify(material: Material) -> list[Verdict]:
    """The verdict of every check on a model."""
    subject = Subject(material)
    return [check(subject) for check in CHECKS.values()]


@part("verification", metrics=(_VERIFIED, _CHECK), section=SECTION, place=14)
def verification(material: Material) -> dict[str, Estimate]:
    """Whether log p(x) is one: independence, normalisation, causality, order and mass, each failing check by name and size."""
    return estimates_of(verify(material), material)


def estimates_of(verdicts: Sequence[Verdict], material: Material) -> dict[str, Estimate]:
    """Verdicts as estimates of a report: a size a finding, and the share that passed."""
    images = len(Subject(material).x)
    applied = [verdict for verdict in verdicts if verdict.applies]
    passed = [verdict.name for verdict in applied if verdict.passed]
    outcome: dict[str, object] = {
        PASSED: passed,
        FAILED: {verdict.name: verdict.line for verdict in applied if not verdict.passed},
        NOT_APPLICABLE: {verdict.name: verdict.reason for verdict in verdicts if not verdict.applies},
    }
    share = len(passed) / max(1, len(applied))
    how = "share of the checks that passed, of those that make sense for this model"
    report = {VERIFIED: _estimate(share, images, material, how, outcome)}
    for verdict in applied:
        if verdict.finding is not None:
            found = verdict.finding
            said = {"tolerance": found.tolerance, "verdict": PASSED if found.passed else FAILED}
            how = f"{verdict.claim}; {verdict.unit or 'no unit'}; tolerance: {found.because}"
            seen = images if found.images is None else found.images
            report[f"{SECTION}/{verdict.name}"] = _estimate(found.size, seen, material, how, said)
    return report


def _estimate(value: float, images: int, material: Material, how: str, settings: dict[str, object]) -> Estimate:
    return Estimate(value, float("nan"), images, 0, material.binarization, how, settings, section=SECTION)
