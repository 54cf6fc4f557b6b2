"""Histograms of weights and latents in TensorBoard: an option, as they take more time and disk than all else that is logged."""

import pytorch_lightning as L
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.callbacks.looking import fixed_images, undisturbed, writer_of
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.noise import standard_normal
from vae_lightning.types import LatentVariableModel

__all__ = ["Histograms"]

NUM_IMAGES = 500
"""Validation images whose posteriors are shown."""


class Histograms(Callback):
    """Writes histograms after validation: `weights/<parameter>`, `latents/mean`, `latents/stddev`, `latents/sample`.

    The latents are those of the posteriors of 500 validation images: all means, all standard deviations, and one sample of each
    posterior. The samples together should look like the prior.

    Args:
        every_n_epochs: epochs from one writing to the next; 0: never.

    >>> Histograms(every_n_epochs=-1)
    Traceback (most recent call last):
    ...
    vae_lightning.errors.ConfigurationError: every_n_epochs=-1: must be at least 0 (0: never)
    """

    def __init__(self, every_n_epochs: int = 0) -> None:
        require(every_n_epochs >= 0, "every_n_epochs", every_n_epochs, "at least 0 (0: never)")
        self.every_n_epochs = every_n_epochs
        self._images: tuple[Tensor, Tensor] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.every_n_epochs and isinstance(pl_module, LatentVariableModel):
            self._images = fixed_images(trainer, "val", NUM_IMAGES)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        writer = writer_of(trainer)
        if not due or writer is None or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        values = {f"weights/{name}": parameter.detach() for name, parameter in pl_module.named_parameters()}
        if self._images is not None:
            values |= self._latents(trainer, pl_module, *self._images)
        for tag, tensor in values.items():
            if not tensor.isfinite().all():  # a histogram has finite edges
                continue
            writer.add_histogram(tag, tensor.float(), trainer.global_step)

    def _latents(self, trainer: L.Trainer, model: L.LightningModule, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        assert isinstance(model, LatentVariableModel)
        with undisturbed(trainer, model):
            posterior = model.posterior(x, y)
            mean, stddev = posterior.mean, posterior.stddev
            sample = from_noise(posterior, standard_normal(mean.shape, mean, "histograms", "posterior"))
        return {"latents/mean": mean, "latents/stddev": stddev, "latents/sample": sample}
