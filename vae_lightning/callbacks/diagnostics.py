"""Whether the latents are in use: the KL of each dimension, active units, and a warning when the posterior collapses.

A collapsed posterior is the prior whatever the image: the latents say nothing, and the decoder does without them ("Don't blame
the ELBO! A linear VAE perspective on posterior collapse", Lucas et al., 2019, https://arxiv.org/abs/1911.02469).
"""

import logging
from typing import Any

import pytorch_lightning as L
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from vae_lightning.callbacks.looking import fixed_images, undisturbed, writer_of
from vae_lightning.objectives.bounds import active_units, kl_per_dimension
from vae_lightning.types import LatentVariableModel

__all__ = ["LatentDiagnostics"]

log = logging.getLogger(__name__)

NUM_IMAGES = 500
"""Validation images that the diagnostics are computed from."""
MAX_DIMENSIONS = 64
"""Latent dimensions whose KL is logged, at most: the first ones."""
NO_KL = 0.1
"""Nats over all dimensions together below which a posterior counts as equal to the prior."""
ADVICE = "try kl_warmup_steps=10000 of the model, a smaller beta or a smaller learning rate"


class LatentDiagnostics(Callback):
    """Logs `val/kl_per_dimension/<d>` and `val/active_units`, and warns once if the posterior collapses.

    Both are over the same 500 validation images after each validation. The posterior has collapsed where its KL is below
    0.1 nats at two validations in a row, or where fewer than half of the most units seen active, and at least two fewer, are
    still active while less than half of the most KL seen is left: at a high learning rate all means move at first, whether their
    units carry anything or not.

    >>> LatentDiagnostics().warned
    False
    """

    def __init__(self) -> None:
        self.warned = False
        self._most = 0
        self._most_kl = 0.0
        self._without_kl = 0
        self._images: tuple[Tensor, Tensor] | None = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._images = fixed_images(trainer, "val", NUM_IMAGES) if isinstance(pl_module, LatentVariableModel) else None

    def state_dict(self) -> dict[str, Any]:
        return {"most": self._most, "most_kl": self._most_kl, "without_kl": self._without_kl, "warned": self.warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._most, self._without_kl, self.warned = (state_dict[key] for key in ("most", "without_kl", "warned"))
        self._most_kl = state_dict.get("most_kl", 0.0)  # which older checkpoints lack

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # all processes would compute the same, so the first one does
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or self._images is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, LatentVariableModel)
        x, y = self._images
        with undisturbed(trainer, pl_module):
            posterior = pl_module.posterior(x, y)
            active = int(active_units(posterior.mean).sum())
            try:
                divergences = kl_per_dimension(posterior, pl_module.prior(y)).mean(0).tolist()
            except NotImplementedError:  # the KL of this posterior is no sum over dimensions
                divergences = []
        metrics = {f"val/kl_per_dimension/{d:02d}": value for d, value in enumerate(divergences[:MAX_DIMENSIONS])}
        # not by Lightning's log(): metrics.json holds means over the whole split, and these are of some images
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "val/active_units": active}, step=trainer.global_step)
        if not self.warned:
            self._judge(trainer, sum(divergences) if divergences else None, active)

    def _judge(self, trainer: L.Trainer, divergence: float | None, active: int) -> None:
        self._most, self._most_kl = max(self._most, active), max(self._most_kl, divergence or 0.0)
        self._without_kl = self._without_kl + 1 if divergence is not None and divergence < NO_KL else 0
        if self._without_kl >= 2:
            seen = f"KL {divergence:.2f} nats over all latent dimensions"
        elif active < self._most / 2 and active <= self._most - 2 and not (divergence or 0.0) > self._most_kl / 2:
            seen = f"{active} active units, and there have been {self._most}"
        else:
            return
        self.warned = True
        message = f"the posterior collapses: {seen} (epoch {trainer.current_epoch}, step {trainer.global_step}); {ADVICE}"
        log.warning(message)
        if writer := writer_of(trainer):
            writer.add_text("warning/posterior_collapse", message, trainer.global_step)
