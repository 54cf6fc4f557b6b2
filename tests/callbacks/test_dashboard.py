"""The Projector shows the test posteriors, the classifier's errors are those of its accuracy, and other modules are no trouble."""

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as L
import torch
from PIL import Image
from short_fits import Fit, small
from torchvision.transforms.functional import pil_to_tensor

from vae_lightning.callbacks import Dashboard, dashboard
from vae_lightning.callbacks.dashboard import CLASSIFIER_LAYOUT, LATENT_LAYOUT
from vae_lightning.figures import metrics
from vae_lightning.glossary import GLOSSARY
from vae_lightning.models import Classifier


@pytest.mark.parametrize("permute_pixels", [False, True])
def test_projector_holds_posterior_means_labels_and_images(fit: Fit, tmp_path: Path, permute_pixels: bool) -> None:
    model = small()
    _, data = fit(model, Dashboard(), test=True, permute_pixels=permute_pixels)
    x, y = data.evaluation_images("test", 1000)
    (folder,) = (tmp_path / "tb").glob("*/test_posterior_means")
    tensors = [[float(value) for value in line.split("\t")] for line in (folder / "tensors.tsv").read_text().splitlines()]
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(tensors), model.eval().encode(x), atol=1e-4, rtol=1e-4)
    header, *rows = (line.split("\t") for line in (folder / "metadata.tsv").read_text().splitlines())
    assert header == ["label", "kl"]
    assert [int(row[0]) for row in rows] == y.tolist()
    sprite = pil_to_tensor(Image.open(folder / "sprite.png"))[0] / 255
    assert torch.equal(sprite[28:56, 56:84], data.unpermute(x)[32 + 2, 0]), "32 images a row"


def test_classifiers_confusion_is_that_of_its_accuracy(fit: Fit, written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[torch.Tensor, torch.Tensor]] = []
    whole = metrics.confusion_matrix
    monkeypatch.setattr(metrics, "confusion_matrix", lambda *given: shown.append(given[:2]) or whole(*given))
    model = Classifier()
    fit(model, Dashboard(), test=True)
    ((labels, predicted),) = shown
    assert len(labels) == 300
    assert float((labels == predicted).float().mean()) == pytest.approx(model.evaluation_means["test/accuracy"])
    assert {f"test/precision_recall/{c}" for c in range(10)} <= set(written().tensors)
    assert written().images == ["test/confusion"]


def test_texts_layout_and_session_are_written_as_training_starts(fit: Fit, written: Any) -> None:
    fit(small(), Dashboard({"config": "as asked"}, {"latent_dim": 3}))
    assert written().text("config") == ["as asked"]
    (glossary,) = written().text("glossary")
    assert all(f"| {name} | {sentence} |" in glossary for name, sentence in GLOSSARY.items())
    assert {"custom_scalars__config__", "_hparams_/session_start_info"} <= set(written().events.summary_metadata)
    assert "_hparams_/session_end_info" not in written().events.summary_metadata, "it was not tested yet"


@pytest.mark.parametrize("layout", [LATENT_LAYOUT, CLASSIFIER_LAYOUT])
def test_layouts_have_charts(layout: dict[str, dict[str, list[Any]]]) -> None:
    assert all(kind == "Multiline" and tags for charts in layout.values() for kind, tags in charts.values())


def test_users_own_module_gets_texts_only(fit: Fit, written: Any) -> None:
    class Linear(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(784, 10)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

        def test_step(self, batch: Any, batch_idx: int) -> None: ...

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    fit(Linear(), Dashboard(), test=True)
    assert written().images == []
    assert written().text("glossary")


def test_chart_of_the_learning_rate_finds_it_with_a_schedule_and_without() -> None:
    _, (pattern,) = LATENT_LAYOUT["training"]["learning rate"]
    assert all(re.match(pattern, tag) for tag in ("lr", "lr-Adam", "lr-AdamW/pg1", "train/lr-Adam"))
    assert not any(re.match(pattern, tag) for tag in ("lrx", "train/lrx", "train/elbo"))


def test_images_that_are_not_square_get_a_border_for_the_projector() -> None:
    squares = dashboard._squares(torch.ones(2, 3, 4, 7))
    assert squares.shape == (2, 3, 7, 7)
    assert squares.sum() == 2 * 3 * 4 * 7
    assert torch.equal(dashboard._squares(torch.ones(2, 1, 5, 5)), torch.ones(2, 1, 5, 5))
