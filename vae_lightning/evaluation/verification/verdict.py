"""A check of a likelihood: what it holds, how far that is off, how far it may be off, and why so far.

A check is a function of a `Subject` that gives a `Finding`, or raises `NotApplicableError` where it makes no sense for a model.
`check` puts it into `CHECKS`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from vae_lightning.errors import ConfigurationError, DataError, one_line

if TYPE_CHECKING:
    from vae_lightning.evaluation.verification.subject import Subject

__all__ = [
    "CHECKS",
    "DEVIATIONS",
    "ROUNDINGS",
    "Check",
    "Finding",
    "NotApplicableError",
    "Verdict",
    "as_far_as_known",
    "check",
    "deviations",
]

DEVIATIONS = 4.5
"""Standard errors beyond which a difference is no chance: one in 300,000 differences is, of some dozens in a verification."""
ROUNDINGS = 64
"""Units of rounding of each number in a sum beyond which a difference is no rounding.

A number that comes out of a net of some hundreds of products a layer carries some tens of units, as they add up like a random walk.
"""


class NotApplicableError(Exception):
    """A check makes no sense for a model; the message is the reason.

    >>> str(NotApplicableError("the images have no labels"))
    'the images have no labels'
    """


def deviations(count: int) -> float:
    """Standard errors of the mean of `count` numbers beyond which it is no chance, where the error is estimated from them as well.

    It is the quantile of Student's t distribution that is as seldom exceeded as `DEVIATIONS` by a normal one.

    >>> round(deviations(20), 1), round(deviations(10_000), 1)
    (6.1, 4.5)

    Raises:
        NotApplicableError: a single number says nothing of its error.
    """
    from scipy.special import ndtr, stdtrit

    if count < 2:
        raise NotApplicableError("tells nothing: a single image says nothing of the error of its mean")
    return -float(stdtrit(count - 1, ndtr(-DEVIATIONS)))


@contextmanager
def as_far_as_known() -> Iterator[None]:
    """A block in which a density without a function that is needed, of which torch says so, makes a check not applicable."""
    try:
        yield
    except NotImplementedError as error:
        raise NotApplicableError(one_line(error, 200) or "the density has no function that is needed") from error


@dataclass(frozen=True)
class Finding:
    """How far something that is claimed is off.

    >>> Finding(0.3, 0.001, "float32 rounding", "image 3").passed, Finding(float("nan"), 1.0, "").passed
    (False, False)
    """

    size: float
    """What was found, in the check's unit; the larger, the worse."""
    tolerance: float
    """The largest size that passes."""
    because: str
    """What the tolerance comes from."""
    where: str = ""
    """Which image, pixel or dimension the size is of."""
    images: int | None = None
    """How many images were looked at; None: all that the verification takes."""

    @property
    def passed(self) -> bool:
        """Whether the size is within the tolerance; a size that is not a number is not."""
        return self.size <= self.tolerance


@dataclass(frozen=True)
class Verdict:
    """What came of a check: a finding, or a reason why there is none.

    >>> Verdict("order/kl", "The KL is a mean.", "nats", reason="the posterior has no density").applies
    False
    """

    name: str
    """The check's name: `independence/log_p`."""
    claim: str
    """What is held, as a clause."""
    unit: str
    """The unit of the size."""
    finding: Finding | None = None
    """What was found; None if the check makes no sense, or failed with an error."""
    reason: str = ""
    """Why the check makes no sense for this model."""
    error: str = ""
    """The error that the check failed with."""

    @property
    def applies(self) -> bool:
        """Whether the check makes sense for this model."""
        return not self.reason

    @property
    def passed(self) -> bool:
        """Whether the claim holds; a check that makes no sense has not passed."""
        return self.finding is not None and self.finding.passed

    @property
    def line(self) -> str:
        """What was found, in a line."""
        if self.finding is None:
            return self.reason or f"could not be computed: {self.error}"
        found = self.finding
        size = f"{found.size:.4g}{f' {self.unit}' if self.unit else ''}{f', {found.where}' if found.where else ''}"
        return f"not so that {self.claim}: {size}, more than {found.tolerance:.4g} ({found.because})" if not found.passed else size


@dataclass(frozen=True)
class Check:
    """A check by its name.

    >>> fine = Check("sums/one", "all is well", "nats", lambda subject: Finding(0.0, 1.0, "none"))
    >>> fine(None).passed
    True
    """

    name: str
    """`<group>/<name>`."""
    claim: str
    """What is held, as a clause that goes on from "so that"."""
    unit: str
    """The unit of the size."""
    examine: "Callable[[Subject], Finding]"
    """Gives the finding, or raises `NotApplicableError`."""

    def __call__(self, subject: "Subject") -> Verdict:
        """The verdict on a model: a check that fails with an error of the model's has failed."""
        try:
            with torch.no_grad():
                return Verdict(self.name, self.claim, self.unit, self.examine(subject))
        except NotApplicableError as error:
            return Verdict(self.name, self.claim, self.unit, reason=one_line(error, 200) or type(error).__name__)
        except (ConfigurationError, DataError):
            raise
        except Exception as error:  # a model that cannot be given one image alone must not cost the other verdicts
            return Verdict(self.name, self.claim, self.unit, error=f"{type(error).__name__}: {one_line(error, 200)}")


CHECKS: dict[str, Check] = {}
"""Every check by name."""


def check(name: str, claim: str, unit: str = "nats") -> "Callable[[Callable[[Subject], Finding]], Check]":
    """Register the decorated function as a check; see `Check` for the arguments."""

    def register(examine: "Callable[[Subject], Finding]") -> Check:
        CHECKS[name] = Check(name, claim, unit, examine)
        return CHECKS[name]

    return register
