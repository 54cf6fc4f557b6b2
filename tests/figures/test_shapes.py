"""Images in colour, of another size, with classes that have names, with very many, and without labels: all are drawn as they are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal

from vae_lightning.abilities import Labels
from vae_lightning.figures.animation import Animation, training_manifold, training_reconstructions
from vae_lightning.figures.catalog import CATALOG, Subject
from vae_lightning.figures.recording import read_recording
from vae_lightning.figures.style import tiles
from vae_lightning.inference.svi import SVISettings

CLOTHES = ("trousers", "shirt", "shoe", "bag", "hat")
QUICK = SVISettings(max_steps=5)


class Blotches(nn.Module):
    """A model of images `(C, H, W)` whose decoder and encoder are a fixed linear map each."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int = 2, num_classes: int = 0) -> None:
        super().__init__()
        self.shape, self.latent_dim, self.num_classes = shape, latent_dim, num_classes
        source = torch.Generator().manual_seed(0)
        coarse = torch.randn(latent_dim, shape[0], 3, 3, generator=source)
        self.maps = nn.functional.interpolate(coarse, shape[1:], mode="bilinear").flatten(1) * 2

    def prior(self, y: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(self.latent_dim), 1.0), 1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> Distribution:
        return Independent(Normal((x.flatten(1) - 0.5) @ self.maps.mT / 200, 0.2), 1)

    def likelihood(self, z: Tensor, y: Tensor | None = None) -> Distribution:
        logits = (z @ self.maps).view(*z.shape[:-1], *self.shape)
        if self.num_classes:
            assert y is not None
            logits = logits + (y.view(-1, 1, 1, 1) - self.num_classes / 2) / self.num_classes
        return Independent(Bernoulli(logits=logits, validate_args=False), 3, validate_args=False)


def toy(shape: tuple[int, int, int], labels: Labels, classes: int, latent_dim: int = 2, num_classes: int = 0) -> Subject:
    model = Blotches(shape, latent_dim, num_classes)
    y = torch.arange(60) % max(1, classes)
    z = torch.randn(60, latent_dim, generator=torch.Generator().manual_seed(1)) + (y / max(1, classes)).unsqueeze(1) * 3
    return Subject(model, model.likelihood(z, y).mean, y, labels, num_classes, svi=QUICK)


def drawn(subject: Subject, names: list[str] | None = None) -> dict[str, Figure | Animation]:
    there = {name: CATALOG[name] for name in names or CATALOG if CATALOG[name].unfit(subject) is None}
    return {name: spec.draw(subject) for name, spec in there.items()}


NAMED = Labels(CLOTHES, "garment", 5)
NONE = Labels(count=0)


@pytest.mark.parametrize(
    ("subject", "undrawn"),
    [
        (toy((3, 16, 16), NAMED, 5, latent_dim=3, num_classes=5), set()),
        (toy((1, 12, 8), NAMED, 5), {"class_samples", "class_style_grid", "style_transfer"}),
        (toy((3, 10, 10), NONE, 0), {"class_samples", "class_style_grid", "style_transfer", "class_means", "chosen_class"}),
        (toy((3, 4, 8), Labels(), 30, latent_dim=3, num_classes=30), set()),
        (dataclasses.replace(toy((1, 9, 9), NAMED, 5), x=torch.rand(3, 1, 9, 9), y=torch.tensor([4, 4, 2]), label=4), None),
    ],
    ids=["five clothes in colour", "not square", "without labels", "thirty classes", "three images"],
)
def test_every_figure_that_fits_is_drawn(subject: Subject, undrawn: set[str] | None) -> None:
    there = drawn(subject)
    assert len(there) >= 13
    for figure in there.values():
        assert isinstance(figure, Figure | Animation)
    of_labels = {"class_samples", "class_style_grid", "style_transfer", "class_means", "chosen_class"}
    assert undrawn is None or of_labels - set(there) == undrawn


def test_figure_of_labels_says_that_there_are_none() -> None:
    subject = toy((3, 32, 32), NONE, 0)
    for name in ("class_means", "chosen_class"):
        assert CATALOG[name].unfit(subject) == "the images have no labels"


def test_colour_is_drawn_as_colour_and_grey_as_black_on_white() -> None:
    red = torch.zeros(2, 3, 4, 4)
    red[:, 0] = 1.5  # as a mean of a Gaussian may be
    sheet = tiles(red, 2)
    assert sheet.shape == (4, 4 + 2 + 4, 3)
    assert torch.equal(sheet[0, 0], torch.tensor([1.0, 0, 0]))
    assert torch.equal(sheet[0, 4], torch.ones(3)), "white between tiles"
    assert tiles(torch.zeros(2, 1, 4, 6), 1).shape == (10, 6)
    made = drawn(toy((3, 32, 32), NAMED, 5), ["reproductions"])["reproductions"]
    assert isinstance(made, Figure)
    assert made.axes[0].images[0].get_array().shape[-1] == 3


def test_classes_are_written_by_their_names() -> None:
    names = ["samples", "posterior_means", "interpolations", "class_samples"]
    names += ["class_style_grid", "style_transfer", "class_means", "chosen_class"]
    figures = drawn(dataclasses.replace(toy((3, 32, 32), NAMED, 5, num_classes=5), label=2), names)
    texts = {}
    for name, made in figures.items():
        assert isinstance(made, Figure)
        made.canvas.draw()
        texts[name] = " ".join(
            [t.get_text() for a in made.axes for t in [*a.get_xticklabels(), *a.get_yticklabels(), a.title]]
            + [a.get_ylabel() for a in made.axes]
        )
    for name in ("samples", "posterior_means", "class_samples", "class_style_grid", "style_transfer", "class_means"):
        assert all(garment in texts[name] for garment in CLOTHES), (name, texts[name])
    assert "garment" in texts["posterior_means"]
    assert "shirt to shoe, as shirt" in texts["interpolations"]
    assert texts["chosen_class"].startswith("garment shoe")


def test_images_without_labels_are_told_apart_by_their_places() -> None:
    figures = drawn(toy((3, 32, 32), NONE, 0), ["interpolations", "posterior_means", "reconstruction_pairs"])
    lines, cloud, pairs = figures.values()
    assert isinstance(lines, Figure)
    assert isinstance(cloud, Figure)
    assert isinstance(pairs, Figure)
    assert [t.get_text() for t in lines.axes[0].get_yticklabels()] == ["image 0 to 1", "image 2 to 3", "image 4 to 5"]
    assert len(cloud.axes) == 1, "no bar of classes"
    assert {axes.get_title() for axes in pairs.axes} == {""}


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_of_a_training_are_animated_in_their_colours(tmp_path: Path, channels: int) -> None:
    shape = (16, 12) if channels == 1 else (3, 16, 12)
    for number in range(2):
        pixels = np.zeros((100, *shape), np.uint8)
        if channels == 3:
            pixels[:, 0] = 255  # red
        z = np.random.default_rng(number).normal(size=(50, 2)).astype(np.float32)
        held = {"epoch": number, "reconstructions": pixels, "decoded": pixels, "z": z, "labels": np.zeros(50, int)}
        np.savez_compressed(tmp_path / f"step_{number:09d}.npz", **held)
    recording = read_recording(tmp_path)
    frame = training_reconstructions(recording).frames[0]
    assert ((frame == (255, 0, 0)).all(-1).sum() > 1000) == (channels == 3)
    assert len(training_manifold(recording, labels=NONE).frames) == 2
