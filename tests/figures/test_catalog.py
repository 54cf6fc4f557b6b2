"""Every figure of the catalogue fits what it says it fits, is told of in a caption, and is listed where users look."""

import dataclasses
import inspect
from pathlib import Path

import hydra
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor
from toys import Painter

from vae_lightning.commands.options import Options
from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.animation import Animation
from vae_lightning.figures.catalog import CATALOG, Subject
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.svi import SVISettings
from vae_lightning.types import Estimate

HELP = Path(__file__).resolve().parents[2] / "conf" / "hydra" / "evaluate.yaml"
TRAINING = {"training_reconstructions", "training_latents", "training_manifold"}
ONLY_TWO = {"latent_grid_10x10", "latent_grid_20x20", "latent_grid_quantiles", "isocontours"}
ONLY_MORE = {"traversals"}
ONLY_LABELS = {"class_style_grid", "style_transfer"}
ONLY_CLASSIFIER = {"confusion_matrix", "mistakes"}


class Guesser(torch.nn.Module):
    num_classes = 10

    def predict(self, x: Tensor) -> Tensor:
        return torch.eye(10)[torch.arange(len(x)) % 9]


def subject(model: torch.nn.Module, x: Tensor, y: Tensor, folder: Path) -> Subject:
    rates = {} if hasattr(model, "predict") else {"test": (5.0, 90.0)}
    convergence = {k: Estimate(90.0 + 5 / k, 0.2, 100, k, "none", "") for k in (1, 10) if rates}
    history = {"val/elbo": (torch.arange(3), -torch.arange(3.0))}
    return Subject(
        model,
        x,
        y,
        model.num_classes,
        rates,
        convergence,
        {},
        history,
        2,
        folder,
        observed_mask("top"),
        SVISettings(max_steps=20),
        4.0,
        "pca",
        3,
        0,
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


@pytest.mark.parametrize(("classes", "num_classes"), [((0, 1, 2), 0), ((7,), 0), ((0, 1, 2), 3)])
def test_figures_do_with_the_classes_that_there_are(classes: tuple[int, ...], num_classes: int, x: Tensor, tmp_path: Path) -> None:
    """Shapes have three classes, and somebody may look at the sevens alone."""
    y = torch.tensor([classes[i % len(classes)] for i in range(len(x))])
    what = dataclasses.replace(subject(Painter(2, num_classes), x, y, tmp_path), digit=classes[-1])
    refused = {}
    for name, entry in CATALOG.items():
        try:
            if entry.unfit(what) is None:
                entry.draw(what)
        except ConfigurationError as error:
            refused[name] = str(error)
    alone = {"interpolations", "interpolations_spherical"} if len(classes) == 1 else set()
    assert set(refused) == alone, refused


def test_digit_that_is_not_there_is_named_by_its_key(x: Tensor, y: Tensor, tmp_path: Path) -> None:
    few = dataclasses.replace(subject(Painter(2, num_classes=3), x, y % 3, tmp_path), digit=7)
    for name in ("chosen_digit", "latent_grid_10x10", "latent_grid_quantiles"):
        with pytest.raises(ConfigurationError, match=r"evaluation\.digit=7: must be"):
            CATALOG[name].draw(few)


def test_settings_that_a_figure_depends_on_are_those_of_an_evaluation() -> None:
    known = set(inspect.signature(Options).parameters)
    assert {setting for entry in CATALOG.values() for setting in entry.settings} <= known


SYSTEMS = {
    "kzky": ["reconstructions", "samples", "posterior_means", "traversals"],
    "fairuschin": ["posterior_means", "reconstruction_pairs"],
    "xwinxu": ["samples", "posterior_means", "interpolations", "isocontours", "completion"],
    "mingyukim": ["reproductions", "latent_grid_10x10", "latent_grid_20x20", "posterior_samples"],
    "asahi417_vae": ["reconstruction_pairs", "posterior_means", "class_means", "chosen_digit"],
    "asahi417_vae model.latent_dim=2": ["posterior_means", "latent_grid_20x20"],
    "asahi417_cvae_cnn2": ["reconstruction_pairs", "posterior_means", "class_means", "chosen_digit", "class_style_grid"],
    "asahi417_cvae_cnn3": ["reconstruction_pairs", "posterior_means", "class_means", "chosen_digit", "style_transfer"],
    "asahi417_cvae_fc3 model.latent_dim=2": ["latent_grid_20x20", "posterior_means", "class_means", "chosen_digit"],
    "asahi417_cnn": ["learning_curves", "confusion_matrix", "mistakes"],
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_figures_of_each_replaced_system_fit_its_preset(compose, system: str, x: Tensor, y: Tensor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cfg = compose(*f"experiment={system}".split())
    what = subject(hydra.utils.instantiate(cfg.model, _convert_="all"), x, y, tmp_path)
    for name in SYSTEMS[system]:
        assert CATALOG[name].unfit(what) is None, name
        assert isinstance(CATALOG[name].draw(what), Figure), name


def test_captions_say_what_a_good_one_looks_like_or_refer_to_one_that_does() -> None:
    for name, entry in CATALOG.items():
        assert "Good" in entry.caption or entry.caption.startswith("The same"), name


def test_help_lists_every_figure() -> None:
    text = HELP.read_text()
    listed = text[text.index("Figures:") : text.index("Everything:")].partition(":")[2]
    assert [name.strip() for name in listed.split(",")] == list(CATALOG)
