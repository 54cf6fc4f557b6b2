"""Models as LightningModules. A new one is a file here, only if it computes something new, and a file in conf/model."""

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)
from vae_lightning.models.classifier import Classifier
from vae_lightning.models.semi_supervised import M1, M2
from vae_lightning.models.vae import VAE
from vae_lightning.models.variants import CVAE, IWAE, BetaVAE, CapacityVAE

__all__ = ["CVAE", "IWAE", "M1", "M2", "VAE", "BetaVAE", "CapacityVAE", "Classifier"]
