"""Callbacks: what happens beside training and does not change what is learned."""

from vae_lightning import torchvision_compat  # noqa: F401  (before anything that imports Lightning)
from vae_lightning.callbacks.animation import FrameRecorder
from vae_lightning.callbacks.checkpoint import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from vae_lightning.callbacks.progress import StopOnInterrupt, Timing

__all__ = ["AtomicCheckpointIO", "BestCheckpoint", "FrameRecorder", "LastCheckpoint", "StopOnInterrupt", "Timing"]
