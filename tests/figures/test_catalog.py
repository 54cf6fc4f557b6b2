"""Every figure of the catalogue fits what it says it fits, is told of in a caption, and is listed where users look."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from toys import Painter

from vae_lightning.figures.animation import Animation
from vae_lightning.figures.catalog import CATALOG, Subject
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.svi import SVISettings

HELP = Path(__file__).resolve().parents[2] / "conf" / "hydra" / "evaluate.yaml"
TRAINING = {"training_reconstructions", "training_latents", "training_manifold"}
ONLY_TWO = {"latent_grid_10x10", "latent_grid_20x20", "latent_grid_quantiles", "isocontours"}
ONLY_MORE = {"traversals", "interpolations_spherical"}
ONLY_LABELS = {"class_style_grid", "style_transfer"}
ONLY_CLASSIFIER = {"confusion_matrix", "mistakes"}


class Guesser(torch.nn.Module):
    num_classes = 10

    def predict(self, x: Tensor) -> Tensor:
        return torch.eye(10)[torch.arange(len(x)) % 9]


def subject(model: torch.nn.Module, x: Tensor, y: Tensor, folder: Path) -> Subject:
    rates = {"test": (5.0, 90.0)} if isinstance(model, Painter) else {}
    history = {"val/elbo": (torch.arange(3), -torch.arange(3.0))}
    return Subject(
        model, x, y, model.num_classes, rates, history, 2, folder, observed_mask("top"), SVISettings(max_steps=20), 4.0, 3, 0
    )


@pytest.mark.parametrize(
    ("model", "left_out"),
    [
        (Painter(), ONLY_MORE | ONLY_LABELS | ONLY_CLASSIFIER),
        (Painter(4, num_classes=10), ONLY_TWO | ONLY_CLASSIFIER),
        (Painter(2, num_classes=10), ONLY_MORE | ONLY_CLASSIFIER),
        (Guesser(), set(CATALOG) - ONLY_CLASSIFIER - {"learning_curves"}),
    ],
    ids=["plane", "conditional", "conditional plane", "classifier"],
)
def test_what_fits_is_drawn_and_what_does_not_says_why(
    model: torch.nn.Module, left_out: set[str], x: Tensor, y: Tensor, tmp_path: Path
) -> None:
    what = subject(model, x, y, tmp_path)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    reasons = {name: entry.unfit(what) for name, entry in CATALOG.items()}
    assert {name for name, reason in reasons.items() if reason} == left_out | TRAINING
    for name in CATALOG:
        if reasons[name] is None:
            assert isinstance(CATALOG[name].draw(what), Figure | Animation), name
    assert torch.equal(before, torch.get_rng_state()), "a figure drew from the global generator"


def test_captions_say_what_a_good_one_looks_like_or_refer_to_one_that_does() -> None:
    for name, entry in CATALOG.items():
        assert "Good" in entry.caption or entry.caption.startswith("The same"), name


def test_help_lists_every_figure() -> None:
    text = HELP.read_text()
    listed = text[text.index("Figures:") : text.index("Everything:")].partition(":")[2]
    assert [name.strip() for name in listed.split(",")] == list(CATALOG)
