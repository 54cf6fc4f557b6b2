"""Variational autoencoders on binarized MNIST, as PyTorch Lightning modules.

>>> from vae_lightning import VAE
>>> model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [128]})
>>> model.sample(3).shape
torch.Size([3, 1, 28, 28])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vae_lightning.machine import torchmetrics_in_part as _torchmetrics_in_part  # noqa: F401  (before whoever imports Lightning)
from vae_lightning.machine import torchvision_compat as _torchvision_compat  # noqa: F401  (before whoever imports torchvision)
from vae_lightning.version import __version__

if TYPE_CHECKING:
    from vae_lightning.data import FashionMNISTDataModule, KMNISTDataModule, MNISTDataModule
    from vae_lightning.models import CVAE, IWAE, VAE, BetaVAE, CapacityVAE, Classifier

__all__ = [
    "CVAE",
    "IWAE",
    "VAE",
    "BetaVAE",
    "CapacityVAE",
    "Classifier",
    "FashionMNISTDataModule",
    "KMNISTDataModule",
    "MNISTDataModule",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import torch and Lightning, which takes seconds, only when a name that needs them is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    room = "data" if name.endswith("DataModule") else "models"
    return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
