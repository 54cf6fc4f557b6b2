"""The first batch of each split is checked, also of a model and data that are none of this project's."""

from typing import Any

import pytest
import pytorch_lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vae_lightning.callbacks import FirstBatch
from vae_lightning.errors import DataError

RIGHT = (torch.rand(8, 1, 4, 4), torch.arange(8) % 2)


class Model(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None: ...

    def test_step(self, batch: Any, batch_idx: int) -> None: ...

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(L.LightningDataModule):
    image_shape, num_classes, label_names = (1, 4, 4), 2, ("a", "b")

    def __init__(self, **splits: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.splits = dict.fromkeys(("train", "val", "test"), RIGHT) | splits

    def evaluation_images(self, split: str, num_images: int | None = None) -> tuple[Tensor, Tensor]:
        return self.splits[split]

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*self.splits["train"]), batch_size=4)

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*self.splits["val"]), batch_size=4)

    def test_dataloader(self) -> Any:
        return DataLoader(TensorDataset(*self.splits["test"]), batch_size=4)


def run(data: L.LightningDataModule) -> FirstBatch:
    callback = FirstBatch()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=1, num_sanity_val_steps=0, callbacks=[callback], accelerator="cpu", **quiet)  # type: ignore[arg-type]
    trainer.fit(Model(), datamodule=data)
    trainer.test(Model(), datamodule=data, verbose=False)
    return callback


def test_right_batches_are_looked_at_once_a_split() -> None:
    assert run(Data()).seen == {"train", "val", "test"}


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((255 * RIGHT[0], RIGHT[1]), "has x from .* to .*divide by 255"),
        ((RIGHT[0][:, :, :3], RIGHT[1]), r"\(1, 3, 4\).*\(1, 4, 4\)"),
        ((RIGHT[0] * torch.nan, RIGHT[1]), "not finite"),
        ((RIGHT[0], RIGHT[1].float()), "has y of float32"),
        ((RIGHT[0], RIGHT[1] + 1), "labels: found 1 to 2"),
    ],
)
def test_wrong_batch_is_one_line(split: str, batch: tuple[Tensor, Tensor], said: str) -> None:
    with pytest.raises(DataError, match=said) as refusal:
        run(Data(**{split: batch}))
    assert "\n" not in str(refusal.value)


def test_data_that_promise_nothing_are_left_alone() -> None:
    class Other(Data):
        evaluation_images = property()  # type: ignore[assignment]

    assert run(Other(train=(255 * RIGHT[0], RIGHT[1]))).seen == set()
