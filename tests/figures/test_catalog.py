"""Every figure of the catalogue fits what it says it fits and is told of in a caption, and a user's own is drawn by its path."""

import dataclasses
import inspect
import sys
import types
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
from vae_lightning.figures.catalog import CATALOG, FigureSpec, Subject, figure_named
from vae_lightning.figures.registry import declare, needs_labels
from vae_lightning.inference.svi import SVISettings
from vae_lightning.types import Estimate

TRAINING = {"training_reconstructions", "training_latents", "training_manifold"}
ONLY_TWO = {"latent_grid_10x10", "latent_grid_20x20", "latent_grid_quantiles", "isocontours"}
ONLY_MORE = {"traversals"}
ONLY_LABELS = {"class_samples", "class_style_grid", "style_transfer"}
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
        num_classes=model.num_classes,
        rates=rates,
        convergence=convergence,
        history=history,
        recording=folder,
        svi=SVISettings(max_steps=20),
        label=3,
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
    what = dataclasses.replace(subject(Painter(2, num_classes), x, y, tmp_path), label=classes[-1])
    refused = {}
    for name, entry in CATALOG.items():
        try:
            if entry.unfit(what) is None:
                entry.draw(what)
        except ConfigurationError as error:
            refused[name] = str(error)
    alone = {"interpolations", "interpolations_spherical"} if len(classes) == 1 else set()
    assert set(refused) == alone, refused


def test_class_that_is_not_there_is_named_by_its_key(x: Tensor, y: Tensor, tmp_path: Path) -> None:
    few = dataclasses.replace(subject(Painter(2, num_classes=3), x, y % 3, tmp_path), label=7)
    for name in ("chosen_class", "latent_grid_10x10", "latent_grid_quantiles"):
        with pytest.raises(ConfigurationError, match="label=7: must be"):
            CATALOG[name].draw(few)


def test_settings_that_a_figure_depends_on_are_those_of_an_evaluation() -> None:
    known = set(inspect.signature(Options).parameters)
    assert {setting for entry in CATALOG.values() for setting in entry.settings} <= known


SYSTEMS = {
    "kzky": ["reconstructions", "samples", "posterior_means", "traversals"],
    "fairuschin": ["posterior_means", "reconstruction_pairs"],
    "xwinxu": ["samples", "posterior_means", "interpolations", "isocontours", "completion"],
    "mingyukim": ["reproductions", "latent_grid_10x10", "latent_grid_20x20", "posterior_samples"],
    "asahi417_vae": ["reconstruction_pairs", "posterior_means", "class_means", "chosen_class"],
    "asahi417_vae model.latent_dim=2": ["posterior_means", "latent_grid_20x20"],
    "asahi417_cvae_cnn2": ["reconstruction_pairs", "posterior_means", "class_means", "chosen_class", "class_style_grid"],
    "asahi417_cvae_cnn3": ["reconstruction_pairs", "posterior_means", "class_means", "chosen_class", "style_transfer"],
    "asahi417_cvae_fc3 model.latent_dim=2": ["latent_grid_20x20", "posterior_means", "class_means", "chosen_class"],
    "asahi417_cnn": ["learning_curves", "confusion_matrix", "mistakes"],
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_figures_of_each_replaced_system_fit_its_preset(compose, system: str, x: Tensor, y: Tensor, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    cfg = compose(*f"experiment={system}".split())
    what = subject(hydra.utils.instantiate(cfg.model, _convert_="all"), x, y, tmp_path)
    for name in SYSTEMS[system]:
        assert CATALOG[name].unfit(what) is None, name
        assert isinstance(CATALOG[name].draw(what), Figure), name


def test_captions_say_what_one_sees_and_what_a_good_one_looks_like() -> None:
    for name, spec in CATALOG.items():
        assert "Good" in spec.caption, name
        assert 20 < len(spec.description) < 200, name
        assert spec.caption.startswith(spec.description[:-1]), name
        assert "the same" not in spec.caption.lower().partition(" ")[0], f"{name}: stands alone"
        assert "digit" not in spec.description, f"{name}: images may be of anything"


def test_a_new_figure_is_listed_in_its_section_by_its_declaration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(CATALOG)

    @declare("darkness", "images", needs_labels, settings=("seed",))
    def darkness(subject: Subject) -> Figure:
        """How dark the images are. Good: as dark as they should be."""
        return Figure()

    try:
        names = list(CATALOG)
        assert names.index("samples") < names.index("darkness") < names.index("kl_per_dimension")
        assert CATALOG["darkness"].description == "How dark the images are."
        assert CATALOG["darkness"].settings == ("seed",)
    finally:
        CATALOG.clear()
        CATALOG.update(before)


def mine(subject: Subject) -> Figure:
    """What I want to see."""
    return Figure()


OWN = FigureSpec(mine, needs=(needs_labels,), settings=("seed",))
NUMBER = 3


class NoFigure:
    """A class is no figure."""


def test_a_users_own_figure_goes_by_its_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("mypkg")
    for name, value in {"mine": mine, "OWN": OWN, "NUMBER": NUMBER, "NoFigure": NoFigure, "two": lambda a, b: a}.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "mypkg", module)
    plain, spec = figure_named("mypkg.mine"), figure_named("mypkg.OWN")
    assert (plain.name, plain.caption, plain.needs) == ("mypkg.mine", "What I want to see.", ())
    assert (spec.name, spec.caption, spec.settings) == ("mypkg.OWN", "What I want to see.", ("seed",))
    for name in ("NUMBER", "NoFigure", "two"):
        with pytest.raises(ConfigurationError, match=rf"figures=mypkg\.{name}: must be a function of one argument"):
            figure_named(f"mypkg.{name}")
    with pytest.raises(ConfigurationError, match="mypkg has no nothing"):
        figure_named("mypkg.nothing")
    with pytest.raises(ConfigurationError, match="figures=sample: unknown; did you mean samples"):
        figure_named("sample")
