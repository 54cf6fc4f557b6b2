"""The stamp of a report: whether the likelihoods of its weights were verified, and which checks failed.

`evaluation.verification` measures; the stamp is of the last verification of these weights that the report holds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vae_lightning.evaluation.verification.part import FAILED, NOT_APPLICABLE, PASSED, SECTION, VERIFIED
from vae_lightning.reports.merging import with_others

__all__ = ["Stamp", "stamp_of"]


@dataclass(frozen=True)
class Stamp:
    """What came of a verification.

    >>> Stamp(["order/kl"], {"mass/noise": "3 nats"}, {}, images=20).line
    'not verified: mass/noise failed (1 of 2 checks, of 20 images)'
    """

    passed: list[str]
    """Names of the checks that passed."""
    failed: dict[str, str]
    """What was found, in a line, by the name of the check that failed."""
    not_applicable: dict[str, str]
    """Why a check makes no sense for the model, by its name."""
    images: int
    """How many images were looked at."""
    measured: str = ""
    """The time of the evaluation."""
    sizes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The estimate of a check by its name."""

    @property
    def verified(self) -> bool:
        """Whether all checks passed that make sense, at least one."""
        return bool(self.passed) and not self.failed

    @property
    def line(self) -> str:
        """The stamp in a line."""
        count = len(self.passed) + len(self.failed)
        if self.verified:
            beside = f"; {len(self.not_applicable)} others do not apply" if self.not_applicable else ""
            return f"verified: {count} checks of {self.images} images passed{beside}"
        if not count:
            return "not verified: no check applies"
        return f"not verified: {', '.join(self.failed)} failed ({len(self.failed)} of {count} checks, of {self.images} images)"

    @property
    def plain(self) -> dict[str, Any]:
        """The stamp as `report.json` holds it."""
        content = {name: value for name, value in asdict(self).items() if name != "sizes"}
        return {"verified": self.verified, "line": self.line, **content}


def stamp_of(report: Mapping[str, Any]) -> Stamp | None:
    """The stamp of the content of a `report.json`; None if it holds no verification.

    A report may be somebody else's, so what is not of the kind that it should be is left out.
    """
    held = with_others(report, "test")
    last = max(held.get(VERIFIED, []), key=lambda row: str(row.get("measured", "")), default=None)
    if last is None:
        return None
    settings, measured = last["settings"], str(last.get("measured", ""))
    names = settings.get(PASSED)
    rows = {
        name.removeprefix(f"{SECTION}/"): row
        for name, rows in held.items()
        if name.startswith(f"{SECTION}/")
        for row in rows
        if str(row.get("measured", "")) == measured
    }
    passed = [str(name) for name in names] if isinstance(names, list) else []
    return Stamp(passed, _lines(settings.get(FAILED)), _lines(settings.get(NOT_APPLICABLE)), last["num_images"], measured, rows)


def _lines(content: object) -> dict[str, str]:
    return {str(name): str(line) for name, line in content.items()} if isinstance(content, Mapping) else {}
