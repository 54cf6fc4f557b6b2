"""Batches of any data module are what a model expects, or are refused in one line."""

from typing import Any

import numpy as np
import pytest
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader

from vae_lightning.batches import CONTRACT, check_batch, check_labels
from vae_lightning.engine import install
from vae_lightning.errors import DataError
from vae_lightning.models import CVAE, M2, VAE
from vae_lightning.noise import Source, generator

X, Y = torch.rand(4, 1, 28, 28, generator=generator("batches")), torch.tensor([0, 1, 2, 3])
NET = {"name": "mlp", "hidden": [8]}


@pytest.mark.parametrize("batch", [(X, Y), [X, Y], (X.round(), 0 * Y), (X.double(), Y), (X * (1 + 1e-7), Y)])
def test_what_a_batch_must_be_is_taken_as_it_is(batch: Any) -> None:
    x, y = check_batch(batch, "train", batch[0].dtype)
    assert x is batch[0]
    assert y is batch[1]


def with_a_pixel(value: float) -> torch.Tensor:
    x = X.clone()
    x[1, 0, 3, 4] = value
    return x


WRONG: dict[str, tuple[Any, str]] = {
    "grey levels as floats": ((X * 255, Y), r"has x from \S+ to 25\S+ \(divide by 255\)"),
    "grey levels": (((X * 255).byte(), Y), r"has x of uint8 \(take x\.float\(\) / 255\)"),
    "integers": (((X * 255).long(), Y), r"has x of int64 \(take x\.float\(\)\)"),
    "double precision": ((X.double(), Y), r"has x of float64 \(take x\.float\(\)\)"),
    "normalised": (((X - 0.13) / 0.31, Y), r"has x from -0\.4\d* to 2\.\d+;"),
    "not a number": ((with_a_pixel(float("nan")), Y), "has x that are not finite"),
    "infinite": ((with_a_pixel(float("inf")), Y), "has x that are not finite"),
    "alone": (X, "is a Tensor"),
    "alone in a list": ([X], "is a list of 1"),
    "three": ((X, Y, Y), "is a tuple of 3"),
    "named": ({"x": X, "y": Y}, "is a dict of 2"),
    "arrays": ((X.numpy(), Y), "has a ndarray as x"),
    "no labels": ((X, None), "has a NoneType as y"),
    "float labels": ((X, Y.float()), "has y of float32"),
    "one-hot labels": ((X, torch.eye(4).long()), r"has y of shape \(4, 4\) for 4 images \(take y\.argmax\(1\)"),
    "labels one too few": ((X, Y[1:]), r"has y of shape \(3,\) for 4 images;"),
    "flat": ((X.flatten(1), Y), r"has x of shape \(4, 784\)"),
    "no channel": ((X[:, 0], Y), r"has x of shape \(4, 28, 28\)"),
    "two channels": ((X.expand(-1, 2, -1, -1), Y), r"has x of shape \(4, 2, 28, 28\)"),
    "no pixels": ((X[..., :0], Y), r"has x of shape \(4, 1, 28, 0\)"),
    "clips": ((X[:, None], Y), r"has x of shape \(4, 1, 1, 28, 28\)"),
    "empty": ((X[:0], Y[:0]), r"has x of shape \(0, 1, 28, 28\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_batch_must_not_be_is_said_in_one_line(kind: str) -> None:
    batch, words = WRONG[kind]
    with pytest.raises(DataError, match=rf"^data: the first val batch {words}") as refusal:
        check_batch(batch, "val")
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).endswith(CONTRACT)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 28, 28), (1, 28, 27)])
def test_images_of_another_shape_than_the_models_are_refused_with_both(shape: tuple[int, ...]) -> None:
    x = torch.rand(4, *shape)
    assert check_batch((x, Y), "train")[0] is x, "a model that says nothing takes any"
    assert check_batch((x, Y), "train", image_shape=list(shape))[0] is x
    with pytest.raises(DataError) as refusal:
        check_batch((x, Y), "test", image_shape=(1, 28, 28))
    said = f"data: the first test batch has images of shape {shape}, and the model is built for (1, 28, 28): build it with image_shape="
    assert str(refusal.value) == f"{said}{list(shape)}, or give it images of its shape"


def test_images_of_another_shape_are_refused_in_a_training() -> None:
    model = VAE(2, NET)
    model.image_shape = (1, 28, 28)
    wide = DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 1, 28, 30), torch.zeros(8, dtype=torch.int64)), 4)
    trainer = L.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    with pytest.raises(
        DataError, match=r"first train batch has images of shape \(1, 28, 30\), and the model is built for \(1, 28, 28\)"
    ):
        trainer.fit(model, wide)


def test_labels_are_of_the_classes() -> None:
    check_labels(Y, 0, 4)
    check_labels(Y - 1, -1, 3)
    for y, lowest in ((Y, 0), (Y - 2, -1)):
        with pytest.raises(DataError, match="but the model knows 0 to 2"):
            check_labels(y, lowest, 3)


# ---- in a training


class Rows:
    """A data set of `count` images, of which those from `bad` on are wrong."""

    def __init__(self, count: int, bad: int, kind: str) -> None:
        self.count, self.bad, self.kind = count, bad, kind

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        wrong = place >= self.bad
        x = np.float32(200) if wrong and self.kind == "x" else np.float32(0.5)
        return torch.full((1, 28, 28), x), 10 if wrong and self.kind == "y" else 3


def fit(model: L.LightningModule, train: Rows, val: Rows, *, fast: bool = False) -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_epochs=1, enable_checkpointing=False, num_sanity_val_steps=0, **quiet)
    if fast:
        assert install(trainer, model) is None
    trainer.fit(model, DataLoader(train, 4), DataLoader(val, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("fast", [False, True])
def test_first_batches_of_training_and_of_validation_are_looked_at(fast: bool) -> None:
    right, wrong = Rows(8, 8, "x"), Rows(8, 0, "x")
    with pytest.raises(DataError, match="data: the first train batch has x from 200 to 200"):
        fit(VAE(2, NET), wrong, right, fast=fast)
    with pytest.raises(DataError, match="data: the first val batch has x from 200 to 200"):
        fit(VAE(2, NET), right, wrong, fast=fast)
    model = VAE(2, NET)
    fit(model, right, right, fast=fast)
    with pytest.raises(DataError, match="data: the first train batch"):
        fit(model, wrong, right, fast=fast)
    with pytest.raises(DataError, match="data: the first test batch"):
        L.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu").test(model, DataLoader(wrong, 4))  # type: ignore[arg-type]


@pytest.mark.parametrize("fast", [False, True])
def test_labels_of_every_batch_are_looked_at_on_the_cpu(fast: bool) -> None:
    with pytest.raises(DataError, match="labels: found 10 to 10, but the model knows 0 to 9"):
        fit(CVAE(latent_dim=2, net=NET), Rows(12, 8, "y"), Rows(4, 4, "y"), fast=fast)
    fit(VAE(2, NET), Rows(12, 8, "y"), Rows(4, 4, "y"), fast=fast)


def test_a_label_of_no_class_makes_every_figure_of_it_nan() -> None:
    model = CVAE(latent_dim=2, net=NET)
    y = torch.tensor([3, 10, -1, 0])
    terms = model.terms(model(X, y, model.draw_noise(X, Source.of(X, 0))), X, y, torch.tensor(0.0))
    assert terms["loss"].isnan().tolist() == [False, True, True, False]
    indicator = M2(num_classes=4, latent_dim=2, net=NET, classifier="classifier_mlp")._indicator(torch.tensor([3, 4, -2]))
    assert indicator[:, 0].tolist() == [0, 0, 0, 1]
    assert indicator[:, 1:].isnan().all()
