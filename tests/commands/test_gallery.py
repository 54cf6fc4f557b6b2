"""A run's figures: those that were asked for, of its test images, the same bytes each time."""

import dataclasses
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import DictConfig
from PIL import Image

from vae_lightning import runs
from vae_lightning.commands.evaluate import evaluate
from vae_lightning.commands.gallery import check_label, draw, subject_of
from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.catalog import CATALOG, Subject

Compose = Callable[..., DictConfig]
CONF = Path(__file__).resolve().parents[2] / "conf"
SMALL = ("model.net.hidden=[32]", "model.latent_dim=2", "logger=csv")


@contextmanager
def trained(compose: Compose, folder: Path, *overrides: str) -> Iterator[Subject]:
    """The subject of a run of a few steps."""
    train(compose(*SMALL, *overrides))
    run = runs.load(*runs.find(str(folder / "run"), None))
    yield subject_of(run, run.model, {}, device=torch.device("cpu"))


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def test_figures_are_those_asked_for_and_the_same_bytes_each_time(compose: Compose, tmp_path: Path) -> None:
    names = ["learning_curves", "reconstructions", "samples", "posterior_samples", "latent_walk", "traversals"]
    with trained(compose, tmp_path) as subject:
        first, again = (draw(subject, names, tmp_path / folder) for folder in ("a", "b"))
    assert [drawn.name for drawn in first.drawn] == names[:-1]
    assert first.skipped == {"traversals": "the latent has no more than two dimensions"}
    for one, other in zip(first.drawn, again.drawn, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes(), one.name


def test_images_are_of_the_test_split(compose: Compose, tmp_path: Path) -> None:
    with trained(compose, tmp_path) as subject:
        data = runs.load(*runs.find(str(tmp_path / "run"), None)).data
        x, y = data.evaluation_images("test")  # type: ignore[attr-defined]
        assert torch.equal(subject.x, x)
        assert torch.equal(subject.y, y)
        assert len(x) == 10_000


def test_permuted_pixels_are_drawn_in_their_place(compose: Compose, tmp_path: Path) -> None:
    with trained(compose, tmp_path, "data.permute_pixels=true") as subject:
        run = runs.load(*runs.find(str(tmp_path / "run"), None))
        x, y = run.data.evaluation_images("test")  # type: ignore[attr-defined]
        # digits are in the middle; permuted, the border is as dark as the rest
        assert subject.x[..., :2, :].mean() < 0.01 < x[..., :2, :].mean()
        inside = subject.model.likelihood(subject.model.posterior(subject.x[:5]).mean).mean
        expected = run.data.unpermute(run.model.reconstruct(x[:5], y[:5]))  # type: ignore[attr-defined, operator]
        assert torch.allclose(inside, expected)


@pytest.mark.parametrize("model", ["m1", "m2"])
def test_permuted_pixels_are_classified_as_they_were_learned(compose: Compose, tmp_path: Path, model: str) -> None:
    overrides = (f"model={model}", "data.num_labels=100", "data.permute_pixels=true")
    with trained(compose, tmp_path, *overrides) as subject:
        run = runs.load(*runs.find(str(tmp_path / "run"), None))
        x, _ = run.data.evaluation_images("test")  # type: ignore[attr-defined]
        inside = subject.model.predict(subject.x[:5])
    assert torch.allclose(inside, run.model.predict(x[:5]))  # type: ignore[operator]


def test_figures_of_an_earlier_evaluation_stay_until_they_are_drawn_again(compose: Compose, tmp_path: Path) -> None:
    with trained(compose, tmp_path) as subject:
        draw(subject, ["samples", "learning_curves"], tmp_path / "figures")
        before = (tmp_path / "figures" / "learning_curves.png").read_bytes()
        seen: list[list[str]] = []
        again = dataclasses.replace(subject, seed=1)
        draw(
            again, ["samples", "posterior_means"], tmp_path / "figures", after_each=lambda g: seen.append([d.name for d in g.drawn])
        )
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"samples", "learning_curves", "posterior_means"}
    assert (tmp_path / "figures" / "learning_curves.png").read_bytes() == before
    assert seen == [["samples"], ["samples", "posterior_means"]]


def test_training_is_animated_where_frames_were_recorded(compose: Compose, tmp_path: Path) -> None:
    with trained(compose, tmp_path, "callbacks.animation.frames=3") as subject:
        gallery = draw(subject, ["training_reconstructions", "training_manifold"], tmp_path / "figures")
        without = draw(dataclasses.replace(subject, recording=tmp_path / "nowhere"), ["training_manifold"], tmp_path / "figures")
    assert [drawn.path.suffix for drawn in gallery.drawn] == [".gif", ".gif"]
    assert without.skipped["training_manifold"].endswith("recorded no frames: train with callbacks.animation.frames=25")


def test_unknown_figure_is_refused_before_anything_is_drawn(compose: Compose, tmp_path: Path) -> None:
    with (
        trained(compose, tmp_path) as subject,
        pytest.raises(ConfigurationError, match=r"^figures=sample: unknown; did you mean samples"),
    ):
        draw(subject, ["learning_curves", "sample"], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_figure_that_turns_out_not_to_fit_is_skipped_with_its_reason(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Subject) -> None:
        raise NotImplementedError("a Mixture does not factorise")

    monkeypatch.setitem(CATALOG, "kl_per_dimension", dataclasses.replace(CATALOG["kl_per_dimension"], draw=refuse))
    with trained(compose, tmp_path) as subject:
        gallery = draw(subject, ["kl_per_dimension", "samples"], tmp_path / "figures")
    assert gallery.skipped == {"kl_per_dimension": "a Mixture does not factorise"}
    assert [drawn.name for drawn in gallery.drawn] == ["samples"]


def brightness(subject: Subject) -> Figure:
    """The mean image. Good: one can tell what it is of."""
    made = Figure()
    made.subplots().imshow(subject.x.mean(0).movedim(0, -1))
    return made


def breaks(subject: Subject) -> Figure:
    raise KeyError("nothing here")


def wordless(subject: Subject) -> Figure:
    raise NotImplementedError


def gives_axes(subject: Subject) -> Any:
    return Figure().subplots()


def wipes(subject: Subject) -> Figure:
    subject.x.zero_()
    subject.model.train()
    return Figure()


def leaves(subject: Subject) -> Figure:
    raise SystemExit(3)


@pytest.fixture
def mypkg(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of a user's own figures."""
    module = types.ModuleType("mypkg")
    for function in (brightness, breaks, wordless, gives_axes, wipes, leaves):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "mypkg", module)


@pytest.mark.usefixtures("mypkg")
def test_a_users_own_figures_are_drawn_and_what_fails_in_one_costs_only_that(tmp_path: Path) -> None:
    subject = Subject(model=None, x=torch.rand(4, 3, 8, 8), y=torch.zeros(4, dtype=torch.int64))
    names = ["mypkg.breaks", "mypkg.wordless", "mypkg.gives_axes", "mypkg.brightness", "mypkg.brightness"]
    gallery = draw(subject, names, tmp_path)
    (drawn,) = gallery.drawn
    assert (drawn.name, drawn.path, drawn.caption) == (
        "mypkg.brightness",
        tmp_path / "mypkg.brightness.png",
        "The mean image. Good: one can tell what it is of.",
    )
    assert drawn.path.read_bytes().startswith(b"\x89PNG")
    assert gallery.skipped == {
        "mypkg.breaks": "failed (KeyError: 'nothing here')",
        "mypkg.wordless": "NotImplementedError",
        "mypkg.gives_axes": "gave an Axes, and not a matplotlib Figure",
    }


@pytest.mark.usefixtures("mypkg")
def test_what_a_users_own_figure_changes_is_as_it_was_for_the_next_one(tmp_path: Path) -> None:
    subject = Subject(model=torch.nn.Linear(1, 1).eval(), x=torch.rand(4, 3, 8, 8), y=torch.zeros(4, dtype=torch.int64))
    draw(subject, ["mypkg.brightness"], tmp_path / "alone")
    gallery = draw(subject, ["mypkg.wipes", "mypkg.leaves", "mypkg.brightness"], tmp_path / "beside")
    assert gallery.skipped == {"mypkg.leaves": "failed (SystemExit: 3)"}
    alone, beside = (tmp_path / folder / "mypkg.brightness.png" for folder in ("alone", "beside"))
    assert beside.read_bytes() == alone.read_bytes()
    assert not subject.model.training


@pytest.mark.usefixtures("mypkg")
def test_a_users_own_figure_is_in_the_report_with_its_caption(compose: Compose, tmp_path: Path) -> None:
    train(compose(*SMALL))
    few = ("evaluation.num_samples=1", "evaluation.num_images=10", "evaluation.train_images=10", "gpus=0")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("evaluate", [f"run={tmp_path}/run", "evaluation.figures=[mypkg.brightness,samples]", *few])
    found = evaluate(cfg)
    assert list(found.report["figures"]) == ["mypkg.brightness", "samples"]
    assert found.report["figures"]["mypkg.brightness"]["file"] == "figures/mypkg.brightness.png"
    assert "one can tell what it is of" in (found.folder / "report.html").read_text()


def test_label_is_a_class_by_name_or_number_and_another_is_named() -> None:
    class Clothes:
        num_classes, label_names = 3, ("shirt", "shoe", "hat")

        def evaluation_images(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(3, 3, 4, 4), torch.arange(3)

    for label in ("shoe", 1, None):
        check_label(label, Clothes())
    for label in ("sock", 3, -1):
        wanted = rf"evaluation\.label={label}: must be one of shirt, shoe, hat, or its number from 0 to 2"
        with pytest.raises(ConfigurationError, match=wanted):
            check_label(label, Clothes())
    without = type("Without", (Clothes,), {"num_classes": 0, "label_names": ()})()
    with pytest.raises(ConfigurationError, match=r"evaluation\.label=1: the images have no labels"):
        check_label(1, without)
