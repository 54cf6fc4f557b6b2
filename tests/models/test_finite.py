"""A loss, gradient or metric that is not finite stops training, and says where it began and on which images."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning import VAE
from vae_lightning.engine import install
from vae_lightning.errors import NotFiniteError
from vae_lightning.types import Terms

SMALL: dict[str, Any] = {"latent_dim": 2, "net": {"name": "mlp", "hidden": [8]}, "optimizer": {"name": "sgd", "lr": 1e-6}}


class Breaks(VAE):
    """Its loss, or its gradient alone, is no number from step 3 on."""

    of_loss = True

    def objective(self, terms: Terms) -> Tensor:
        zero = (terms.kl - terms.kl.detach()).abs()
        if self.of_loss:
            return terms.log_likelihood - terms.kl - torch.where(terms.step >= 3, math.nan, 0.0)
        return terms.log_likelihood - terms.kl - (zero + (terms.step < 3)).sqrt()


class BreaksGradient(Breaks):
    of_loss = False


class BreaksValidation(VAE):
    def terms(self, output: Any, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
        terms = super().terms(output, x, y, step)
        return terms if self.training else {**terms, "kl": terms["kl"] / 0}


class Loader(DataLoader[Any]):
    """Tells which images a batch holds, as `TensorLoader` does."""

    def image_numbers(self, batch_idx: int) -> Tensor:
        return torch.arange(4) + 4 * batch_idx


def fit(
    model: VAE,
    folder: Path,
    *,
    fast: bool = False,
    compile: str | bool = "auto",
    x: Tensor | None = None,
    val: Tensor | None = None,
    **arguments: Any,
) -> None:
    off = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": folder}
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, enable_checkpointing=False, num_sanity_val_steps=0, **off, **arguments)
    if fast:
        assert install(trainer, model, compile=compile) is None
    x = torch.rand(24, 1, 28, 28).round() if x is None else x
    trainer.fit(
        model,
        Loader(TensorDataset(x, torch.zeros(24, dtype=torch.long)), 4),
        DataLoader(TensorDataset(x if val is None else val, x[:, 0, 0, 0].long()), 12),
    )


@pytest.mark.usefixtures("graphs_quickly_traced")
@pytest.mark.parametrize("way", [{}, {"fast": True}, {"fast": True, "compile": True}])
@pytest.mark.parametrize("log_every_n_steps", [1, 50])
def test_loss_stops_training_before_the_step_it_is_of(tmp_path: Path, way: dict[str, bool], log_every_n_steps: int) -> None:
    model = Breaks(**SMALL)
    with pytest.raises(
        NotFiniteError, match=r"the loss of step 4 \(epoch 0\) is not finite.*loss of the images; try a smaller"
    ) as error:
        fit(model, tmp_path, **way, log_every_n_steps=log_every_n_steps)
    assert "\n" not in str(error.value)
    assert error.value.record["images"] == error.value.record["images_not_finite"] == [12, 13, 14, 15]
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("pixel", "said"),
    [
        (math.nan, "the first tensor that is not: the images; the data module gives pixels that are not numbers: mend the data"),
        (-3e38, "; the data module gives pixels from -3e+38 to 1, which must be from 0 to 1"),
    ],
)
def test_images_that_are_at_fault_are_said_to_be(tmp_path: Path, pixel: float, said: str) -> None:
    x = torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round()
    x[20] = pixel
    with pytest.raises(NotFiniteError) as error:
        fit(VAE(**SMALL), tmp_path, x=x)
    assert str(error.value).endswith(said)


@pytest.mark.parametrize(("every", "step"), [(1, 4), (5, 5), (50, 6)])
def test_gradient_stops_training_at_the_next_log_entry_or_before_validation(tmp_path: Path, every: int, step: int) -> None:
    class Slow(BreaksGradient):
        """Stays finite whatever the weights."""

        def terms(self, output: Any, x: Tensor, y: Tensor, step: Tensor) -> dict[str, Tensor]:
            terms = super().terms(output, x, y, step)
            return {name: term.nan_to_num(1.0) for name, term in terms.items()}

    with pytest.raises(NotFiniteError, match=rf"the gradient of step {step} \(epoch 0\) .*gradient of encoder") as error:
        fit(Slow(**SMALL), tmp_path, log_every_n_steps=every)
    assert error.value.record["step"] == step


def test_first_tensor_is_named_in_the_order_of_computation(tmp_path: Path) -> None:
    x = torch.rand(24, 1, 28, 28).round()
    x[4:] = math.nan
    with pytest.raises(NotFiniteError, match=r"the loss of step 2 .*the first tensor that is not: the images"):
        fit(VAE(**SMALL), tmp_path, x=x)
    model = VAE(**SMALL)
    with torch.no_grad():
        model.encoder.body[0].weight.fill_(1e38)
    with pytest.raises(NotFiniteError, match=r"the loss of step 1 .*the first tensor that is not: output of encoder\.body\.0"):
        fit(model, tmp_path)


def test_weights_that_were_lost_are_named(tmp_path: Path) -> None:
    model = VAE(**SMALL)
    with torch.no_grad():
        model.decoder.output_bias[3] = math.inf
    with pytest.raises(NotFiniteError, match=r"weights decoder\.body"):
        fit(model, tmp_path)


def test_metric_of_validation_stops_training(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"val/kl by step 6 \(epoch 0\) is not finite"):
        fit(BreaksValidation(**SMALL), tmp_path)


def test_validation_images_that_are_at_fault_are_said_to_be(tmp_path: Path) -> None:
    val = torch.rand(24, 1, 28, 28).round()
    val[20] = math.nan
    with pytest.raises(
        NotFiniteError, match=r"^val/loss, .*: val/loss; the data module gives pixels that are not numbers: mend the"
    ):
        fit(VAE(**SMALL), tmp_path, val=val)
