"""Verification: whether what is stated as log p(x) is one. A file holds the checks of a kind; the package registers them all."""

# the order in which they are imported is that of a report
from vae_lightning.evaluation.verification import independence, normalisation, causality, order, mass  # noqa: F401, I001
from vae_lightning.evaluation.verification.part import verification, verify
from vae_lightning.evaluation.verification.subject import Subject
from vae_lightning.evaluation.verification.verdict import Check, Finding, NotApplicableError, Verdict, check

__all__ = ["Check", "Finding", "NotApplicableError", "Subject", "Verdict", "check", "verification", "verify"]
