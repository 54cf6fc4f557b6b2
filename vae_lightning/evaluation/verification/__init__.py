"""Verification: whether what is stated as log p(x) is one. A file holds the checks of a kind; the package registers them all."""

from vae_lightning.evaluation.verification import causality, independence, mass, normalisation, order, part

__all__ = ["causality", "independence", "mass", "normalisation", "order", "part"]
