"""Run folders: where one is, what was written into it, its model and data, and going on with its training."""

from vae_lightning.runs.finding import find
from vae_lightning.runs.loading import LoadedRun, asked_with, history, load, provenance, record, write_json

__all__ = ["LoadedRun", "asked_with", "find", "history", "load", "provenance", "record", "write_json"]
