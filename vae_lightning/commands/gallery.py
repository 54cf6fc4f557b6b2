"""`draw(...)` draws the figures that fit a run into files, and gives what a report says of each."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from vae_lightning import runs
from vae_lightning.abilities import Labels, classes_of, labels_of, permutation_of, sorted_by_class
from vae_lightning.arguments import choose, prefixed
from vae_lightning.errors import ConfigurationError, DataError, StorageError, kind_of, one_line
from vae_lightning.figures.animation import NO_FRAMES, Animation
from vae_lightning.figures.catalog import FigureSpec, Subject, figure_named
from vae_lightning.figures.style import png, style
from vae_lightning.figures.subject import Projection
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.pixels import in_place
from vae_lightning.inference.svi import DEFAULT, ORIGINAL, QUICK, SVISettings
from vae_lightning.machine.files import replacing, write_bytes
from vae_lightning.noise import generator
from vae_lightning.plugins import is_path
from vae_lightning.runs import LoadedRun
from vae_lightning.runs.layout import ANIMATION
from vae_lightning.types import Estimate

__all__ = ["SVI", "Drawn", "Gallery", "check_label", "draw", "figures_named", "model_of_images", "subject_of"]

log = logging.getLogger(__name__)

SVI: dict[str, SVISettings] = {"default": DEFAULT, "quick": QUICK, "original": ORIGINAL}
"""Settings of the fit of q(z | seen part), by name."""
LABEL = 3
"""The class that figures of one class show by default, if there are so many classes."""


@dataclass(frozen=True)
class Drawn:
    """One figure that was drawn.

    >>> Drawn("samples", Path("samples.png"), "What the model draws.", 0.1).settings
    ()
    """

    name: str
    """The figure's name in the catalogue; for a user's figure, its import path."""
    path: Path
    """The file, PNG or GIF."""
    caption: str
    """What the figure shows, and what a good one looks like."""
    seconds: float
    """The time that drawing took."""
    settings: tuple[str, ...] = ()
    """Names of the settings of an evaluation that the figure depends on."""


@dataclass(frozen=True)
class Gallery:
    """The figures that were drawn of a run, and those that were not.

    >>> Gallery([], {"traversals": "the latent has no more than two dimensions"}).drawn
    []
    """

    drawn: list[Drawn]
    """The figures, in the order in which they were asked for."""
    skipped: dict[str, str]
    """Reasons why the other figures were not drawn, by name of the figure."""


def draw(
    subject: Subject,
    names: Sequence[str],
    folder: Path,
    track: Callable[[list[str]], Any] = iter,
    after_each: Callable[[Gallery], object] = lambda gallery: None,
) -> Gallery:
    """Draw the figures `names` that fit `subject` into `folder`, as PNG, or as GIF and, where there is an encoder, MP4.

    A file replaces an earlier one of the same name; other files stay.

    Args:
        track: iterates over the names, with a progress bar, say.
        after_each: called with what there is so far, after each figure.

    Raises:
        ConfigurationError: there is no figure of such a name.
        StorageError: a file could not be written.
    """
    specs = figures_named(names)
    drawn: list[Drawn] = []
    skipped: dict[str, str] = {}
    for name in track([spec.name for spec in specs.values()]):
        started = time.perf_counter()
        outcome = _drawn(specs[name], subject, folder)
        if isinstance(outcome, str):
            skipped[name] = outcome
            continue
        path, more = outcome
        caption = f"{specs[name].caption} {more}".strip()
        drawn.append(Drawn(name, path, caption, time.perf_counter() - started, specs[name].settings))
        after_each(Gallery(drawn, skipped))
    return Gallery(drawn, skipped)


def figures_named(names: Sequence[str]) -> dict[str, FigureSpec]:
    """The figures that `names` lists, by name, each once.

    Raises:
        ConfigurationError: there is no figure of such a name, or an import path names none.
    """
    return {name: figure_named(name) for name in names}


def _drawn(spec: FigureSpec, subject: Subject, folder: Path) -> tuple[Path, str] | str:
    """The file of the figure and an addition to its caption; or the reason why it could not be drawn."""
    try:
        if reason := spec.unfit(subject):
            return f"{reason}: train with callbacks.animation.frames=25" if reason == NO_FRAMES else reason
        with style():
            figure = spec.draw(_for_one_alone(subject)) if is_path(spec.name) else spec.draw(subject)
            if not isinstance(figure, Figure | Animation):
                return f"gave {kind_of(figure)}, and not a matplotlib Figure"
            return _save(figure, folder, spec.name), str(figure.get_label()) if isinstance(figure, Figure) else ""
    except (ConfigurationError, DataError, NotImplementedError) as error:
        return one_line(error)
    except StorageError:
        raise
    except (Exception, SystemExit) as error:  # one figure that fails must not cost the others, and the estimates, their page
        log.exception("%s could not be drawn", spec.name)
        return f"failed ({type(error).__name__}: {one_line(error, 200)})"
    finally:
        if isinstance(subject.model, nn.Module):
            subject.model.eval()  # whatever code of a user's own has left it in


def _for_one_alone(subject: Subject) -> Subject:
    """`subject` with images of its own: code that changes them in place changes no other figure."""
    return dataclasses.replace(subject, x=subject.x.clone(), y=subject.y.clone())


def _save(figure: Figure | Animation, folder: Path, name: str) -> Path:
    """Write `figure` into a file called `name`, which for a user's figure is an import path with dots."""
    if isinstance(figure, Animation):
        target, film = folder / f"{name}.gif", folder / f"{name}.mp4"
        write_bytes(target, figure.gif())
        film.unlink(missing_ok=True)  # an MP4 of an earlier evaluation must not stay beside the new GIF
        with suppress(ConfigurationError), replacing(film) as unfinished:  # without an encoder there is only the GIF
            figure.save_mp4(unfinished)
        return target
    target = folder / f"{name}.png"
    write_bytes(target, png(figure))
    return target


def subject_of(
    run: LoadedRun,
    model: torch.nn.Module,
    report: Mapping[str, Mapping[str, Estimate]],
    *,
    device: torch.device,
    mask: str = "top",
    svi: str = "default",
    extent: float = 4.0,
    projection: Projection = "pca",
    label: int | str | None = None,
    seed: int = 0,
) -> Subject:
    """The subject of the figures of `run`; if the run permutes pixels, test images have them in place again.

    Args:
        report: estimates by split and name.
        mask: a name in `inference.observed.MASKS`.
        svi: a name in `SVI`.
        label: the class, by name or number, that figures of one class show; None: 3, or the last class that there is.

    Raises:
        ConfigurationError: the data module has no images to draw, or no class is called `label`.
    """
    data: Any = run.data
    if not callable(getattr(data, "evaluation_images", None)):
        raise ConfigurationError(f"run={run.folder}: its data module is {kind_of(data)}, which has no evaluation_images")
    x, y = (tensor.to(device) for tensor in data.evaluation_images("test"))
    labels = labels_of(data, y)
    rates = {split: (e["kl"].value, -e["log_likelihood"].value) for split, e in report.items() if "kl" in e}
    if permutation := permutation_of(data):
        x = permutation.unpermute(x)
    if sorted_by_class(data):
        order = torch.randperm(len(y), generator=generator("order of test images")).to(device)
        x, y = x[order], y[order]
    return Subject(
        model=model_of_images(model, data),
        x=x,
        y=y,
        labels=dataclasses.replace(labels, names=tuple(name.replace("$", r"\$") for name in labels.names)),  # which are no formulas
        num_classes=classes_of(model),
        rates=rates,
        convergence=_convergence(report.get("test", {})),
        estimates={
            name.removeprefix("nll/"): estimate
            for name, estimate in report.get("test", {}).items()
            if name.startswith("nll/") and not name.startswith("nll/k_")
        },
        history=runs.history(run.folder),
        step=run.step,
        recording=run.folder / ANIMATION,
        observed=observed_mask(mask, (1, *x.shape[-2:])),
        svi=choose("evaluation.svi", svi, SVI),
        extent=extent,
        projection=projection,
        label=_chosen_label(label, labels, y),
        seed=seed,
    )


def check_label(label: int | str | None, data: Any) -> None:
    """Refuse `evaluation.label=label` where the images of `data` have no such class.

    Raises:
        ConfigurationError: there is no such class.
    """
    if label is not None:
        _, y = data.evaluation_images("test")
        _chosen_label(label, labels_of(data, y), y)


def _chosen_label(label: int | str | None, labels: Labels, y: Tensor) -> int:
    """The class that `evaluation.label` asks for; if it is null, 3, or the last class that has images.

    Args:
        y: the labels of the test images, `(N,)`.

    Raises:
        ConfigurationError: there is no such class.
    """
    if label is not None:
        with prefixed("evaluation", ["label"]):
            return labels.number(label)
    classes = y.unique().tolist()
    return LABEL if LABEL in classes else classes[-1]


def model_of_images(model: Any, data: Any) -> Any:
    """`model`, trained on `data`, as a model of images whose pixels are in place, also if `data` permute them."""
    permutation = permutation_of(data)
    return in_place(model, *permutation) if permutation else model


def _convergence(report: Mapping[str, Estimate]) -> dict[int, Estimate]:
    """The nll by K, ascending."""
    curve = {e.num_samples: e for name, e in report.items() if name == "nll" or name.startswith("nll/k_")}
    return dict(sorted(curve.items()))
