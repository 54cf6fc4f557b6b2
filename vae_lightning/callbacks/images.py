"""Images in TensorBoard: what the model is shown, and means of p(x | z) that it decodes, from the same noise each time.

- `val/reconstructions`: validation images; below, what is decoded from the posterior means; below, from posterior samples.
- `val/traversals`: the posterior mean of the first validation image, with each of the ten latent dimensions of highest KL in turn
  going from -3 to 3.
- `prior/samples`: decoded samples of the prior.
- `prior/classes`, of a conditional model, in place of these: a sample of the prior a column, a class a row, at most fifty.
- `prior/latent_grid`, with two latent dimensions whose quantiles under the prior are known, in place of traversals: each image
  stands for an equal share of the prior.
"""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from vae_lightning.abilities import classes_of
from vae_lightning.arguments import require
from vae_lightning.callbacks.looking import fixed_images, undisturbed, unpermuted, writer_of
from vae_lightning.callbacks.progress import is_interrupted
from vae_lightning.distributions.sampling import from_noise
from vae_lightning.inference.latents import mean_images, quantile_mesh, traversals
from vae_lightning.noise import standard_normal
from vae_lightning.objectives.bounds import kl_per_dimension
from vae_lightning.types import LatentVariableModel

__all__ = ["Images"]

NUM_IMAGES, NUM_SAMPLES, GRID_ROWS, COLUMNS, MAX_UNITS, MAX_CLASSES = 16, 64, 15, 10, 10, 50
FRAME = 0.5
"""The grey level of the lines between images."""


class Images(Callback):
    """Writes images of a latent-variable model after validation, and at the end of training.

    Args:
        every_n_epochs: epochs from one writing to the next, beside the first epoch; 0: never.

    >>> Images(every_n_epochs=1).every_n_epochs
    1
    """

    def __init__(self, every_n_epochs: int = 5) -> None:
        require(every_n_epochs >= 0, "every_n_epochs", every_n_epochs, "at least 0 (0: never)")
        self.every_n_epochs = every_n_epochs
        self._images: tuple[Tensor, Tensor] | None = None
        self._drawn_epoch = self._drawn_step = -1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.every_n_epochs and writer_of(trainer) is not None and isinstance(pl_module, LatentVariableModel):
            self._images = fixed_images(trainer, "val", NUM_IMAGES)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        due = self.every_n_epochs and (epoch == 0 or (epoch + 1) % self.every_n_epochs == 0)
        if due and epoch != self._drawn_epoch and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._drawn_epoch = epoch
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._drawn_step != trainer.global_step and not is_interrupted(trainer):
            self._draw(trainer, pl_module)

    # ---- of a run that goes on, what has been drawn is not drawn again

    def state_dict(self) -> dict[str, Any]:
        return {"drawn_epoch": self._drawn_epoch, "drawn_step": self._drawn_step} if self.every_n_epochs else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn_epoch, self._drawn_step = (state_dict.get(key, -1) for key in ("drawn_epoch", "drawn_step"))

    def _draw(self, trainer: L.Trainer, model: L.LightningModule) -> None:
        writer = writer_of(trainer)
        if self._images is None or writer is None:
            return
        assert isinstance(model, LatentVariableModel)
        from torchvision.utils import make_grid  # half a second, which the first step need not wait for

        self._drawn_step = trainer.global_step
        with undisturbed(trainer, model):
            for tag, images, columns in _drawings(model, *self._images):
                grid = make_grid(unpermuted(trainer, images), columns, pad_value=FRAME)
                writer.add_image(tag, grid, trainer.global_step)


Drawing = tuple[str, Tensor, int]
"""Tag, images `(N, C, H, W)`, and how many make a row."""


def _drawings(model: LatentVariableModel, x: Tensor, y: Tensor) -> Iterator[Drawing]:
    classes = classes_of(model)
    yield _reconstructions(model, x, y)
    yield _classes(model, classes, x) if classes else _samples(model, x)
    grid = _latent_grid(model) if model.latent_dim == 2 and not classes else None
    yield _traversals(model, x, y) if grid is None else grid


def _reconstructions(model: LatentVariableModel, x: Tensor, y: Tensor) -> Drawing:
    posterior = model.posterior(x, y)
    z = from_noise(posterior, standard_normal(posterior.mean.shape, posterior.mean, "images", "reconstructions"))
    rows = [x, mean_images(model, posterior.mean, y), mean_images(model, z, y)]
    return "val/reconstructions", torch.cat(rows), len(x)


def _traversals(model: LatentVariableModel, x: Tensor, y: Tensor) -> Drawing:
    posterior, values = model.posterior(x, y), torch.linspace(-3, 3, 11)
    try:
        order = kl_per_dimension(posterior, model.prior(y)).mean(0).argsort(descending=True)
    except NotImplementedError:  # the KL of this posterior is no sum over dimensions
        order = torch.arange(model.latent_dim)
    z = traversals(posterior.mean[0], order[:MAX_UNITS], values).flatten(0, 1)
    return "val/traversals", mean_images(model, z, y[:1].expand(len(z))), len(values)


def _samples(model: LatentVariableModel, x: Tensor) -> Drawing:
    prior = model.prior()
    epsilon = standard_normal((NUM_SAMPLES, model.latent_dim), x, "images", "samples")
    return "prior/samples", mean_images(model, from_noise(prior, epsilon)), 8


def _classes(model: LatentVariableModel, classes: int, x: Tensor) -> Drawing:
    classes = min(classes, MAX_CLASSES)
    y = torch.arange(classes, device=x.device).repeat_interleave(COLUMNS)
    prior = model.prior(y)
    epsilon = standard_normal((COLUMNS, model.latent_dim), x, "images", "samples").repeat(classes, 1)
    return "prior/classes", mean_images(model, from_noise(prior, epsilon), y), COLUMNS


def _latent_grid(model: LatentVariableModel) -> Drawing | None:
    """None for a prior whose quantiles make no mesh."""
    try:
        z = quantile_mesh(model.prior(), GRID_ROWS)
    except NotImplementedError:
        return None
    return "prior/latent_grid", mean_images(model, z), GRID_ROWS
