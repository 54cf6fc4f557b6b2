"""A run's figures: those that were asked for, of its test images, the same bytes each time."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image

from vae_lightning import runs
from vae_lightning.commands import gallery as drawing
from vae_lightning.commands.gallery import draw, subject_of
from vae_lightning.commands.train import train
from vae_lightning.errors import ConfigurationError
from vae_lightning.figures.catalog import CATALOG, Subject

Compose = Callable[..., DictConfig]
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
    assert [drawn.path.suffix for drawn in gallery.drawn] == [".gif", ".gif"]


def test_unknown_figure_is_refused_before_anything_is_drawn(compose: Compose, tmp_path: Path) -> None:
    with (
        trained(compose, tmp_path) as subject,
        pytest.raises(ConfigurationError, match=r"evaluation\.figures=sample: unknown; did you mean samples"),
    ):
        draw(subject, ["learning_curves", "sample"], tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_figure_that_turns_out_not_to_fit_is_skipped_with_its_reason(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Subject) -> None:
        raise NotImplementedError("a Mixture does not factorise")

    entry = CATALOG["kl_per_dimension"]._replace(draw=refuse)
    monkeypatch.setitem(drawing.CATALOG, "kl_per_dimension", entry)
    with trained(compose, tmp_path) as subject:
        gallery = draw(subject, ["kl_per_dimension", "samples"], tmp_path / "figures")
    assert gallery.skipped == {"kl_per_dimension": "a Mixture does not factorise"}
    assert [drawn.name for drawn in gallery.drawn] == ["samples"]
