"""Averaged weights: a model beside the one that is trained, which follows it more slowly and so with less noise.

Lightning's `EMAWeightAveraging` has to see every batch, for which training would take a slower loop, and puts the average in the
place of the weights in validation and in all checkpoints.
"""

from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from vae_lightning.arguments import require
from vae_lightning.distributions.likelihoods import full_precision

__all__ = ["AveragedWeights"]

FILENAME = "averaged.ckpt"


class AveragedWeights(Callback):
    """Writes `dirpath`/`filename`, the weights at the end of each epoch averaged with exponentially falling shares.

    Training, best.ckpt and last.ckpt are of the weights themselves, which a learning rate that falls to 0 makes as good; averages
    replace that fall where the rate stays high ("Acceleration of stochastic approximation by averaging", Polyak and Juditsky, 1992,
    https://doi.org/10.1137/0330046). The average is written after each whole epoch, and is evaluated beside the other by
    `python evaluate.py ckpt_path=<run>/checkpoints/averaged.ckpt to=<folder>`. Buffers, such as BatchNorm's statistics, are
    those of the last step.

    Args:
        dirpath: folder of the file.
        decay: what the share of an epoch is multiplied by with each epoch after it, from 0, the last epoch alone, to below 1.
        filename: of the file; another for each of several averages of one training.

    >>> AveragedWeights("checkpoints", decay=0.9).path.name
    'averaged.ckpt'
    """

    sees_every_batch: ClassVar[bool] = False  # but always the last one of an epoch

    def __init__(self, dirpath: str, decay: float = 0.9, filename: str = FILENAME) -> None:
        require(0 <= decay < 1, "decay", decay, "at least 0 and below 1")
        fine = filename.endswith(".ckpt") and Path(filename).name == filename and not filename.startswith(("best", "last"))
        require(fine, "filename", filename, "the name of a file, <name>.ckpt, that does not begin with best or last")
        self.path, self.decay = Path(dirpath, filename), decay
        self._sums: dict[str, Tensor] = {}
        self._shares, self._epochs = 0.0, 0

    @property
    def state_key(self) -> str:
        """What a checkpoint knows the callback by: several of them have different files."""
        return super().state_key if self.path.name == FILENAME else f"{super().state_key}, {self.path.name}"

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # before the validation that ends the epoch, after which last.ckpt is written
        if not trainer.is_last_batch or trainer.current_epoch < self._epochs:
            return
        self._epochs = trainer.current_epoch + 1
        self._shares = self.decay * self._shares + 1
        for name, parameter in pl_module.named_parameters():
            weights = full_precision(parameter.detach())
            before = self._sums.get(name, torch.zeros_like(weights)).to(weights.device)
            self._sums[name] = self.decay * before + weights

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch != self._epochs - 1 or getattr(trainer, "fast_dev_run", False):
            return  # an epoch that training ended in the middle of
        own = {name: weights.detach().clone() for name, weights in pl_module.named_parameters()}
        _put(pl_module, {name: total / self._shares for name, total in self._sums.items()})
        try:
            trainer.save_checkpoint(self.path, weights_only=True)
        finally:
            _put(pl_module, own)

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "shares": self._shares, "epochs": self._epochs} if self._sums else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            self._sums, self._shares, self._epochs = dict(state_dict["sums"]), state_dict["shares"], state_dict["epochs"]


@torch.no_grad()
def _put(model: torch.nn.Module, values: dict[str, Tensor]) -> None:
    for name, weights in model.named_parameters():
        weights.copy_(values[name])
