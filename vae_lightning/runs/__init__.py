"""Run folders: find a run, read what its training wrote, load its model and data, go on with its training."""

from vae_lightning.runs.finding import find
from vae_lightning.runs.history import asked_with, from_the_start, history, per_image, record
from vae_lightning.runs.loading import LoadedRun, load
from vae_lightning.runs.provenance import provenance

__all__ = ["LoadedRun", "asked_with", "find", "from_the_start", "history", "load", "per_image", "provenance", "record"]
