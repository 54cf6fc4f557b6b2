"""Callbacks: what happens beside training and does not change what is learned."""

from vae_lightning.callbacks.animation import FrameRecorder
from vae_lightning.callbacks.averaging import AveragedWeights
from vae_lightning.callbacks.checkpoint import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from vae_lightning.callbacks.dashboard import Dashboard
from vae_lightning.callbacks.diagnostics import LatentDiagnostics
from vae_lightning.callbacks.first_batch import FirstBatch
from vae_lightning.callbacks.histograms import Histograms
from vae_lightning.callbacks.images import Images
from vae_lightning.callbacks.process_group import LeavesItsGroup
from vae_lightning.callbacks.progress import StopOnInterrupt, Timing
from vae_lightning.callbacks.pruning import Pruning
from vae_lightning.callbacks.spawned import BringsBack
from vae_lightning.callbacks.summary import Summary
from vae_lightning.callbacks.value_recorder import ValueRecorder
from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

__all__ = [
    "AtomicCheckpointIO",
    "AveragedWeights",
    "BestCheckpoint",
    "BringsBack",
    "Dashboard",
    "FirstBatch",
    "FrameRecorder",
    "Histograms",
    "Images",
    "LastCheckpoint",
    "LatentDiagnostics",
    "LeavesItsGroup",
    "Pruning",
    "StopOnInterrupt",
    "Summary",
    "Timing",
    "ValueRecorder",
]
