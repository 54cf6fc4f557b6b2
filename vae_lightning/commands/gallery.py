"""`draw(...)`: a loaded run to the figures that fit it, as files and as what a report says of them."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from vae_lightning import runs
from vae_lightning.arguments import choose
from vae_lightning.data import MNISTDataModule
from vae_lightning.errors import ConfigurationError, DataError
from vae_lightning.figures.animation import Animation
from vae_lightning.figures.catalog import CATALOG, Subject
from vae_lightning.figures.latents import Projection
from vae_lightning.figures.style import png, style
from vae_lightning.inference.latents import classes_of
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.pixels import in_place
from vae_lightning.inference.svi import DEFAULT, ORIGINAL, SVISettings
from vae_lightning.machine.files import write_bytes
from vae_lightning.noise import generator
from vae_lightning.runs import LoadedRun
from vae_lightning.runs.layout import ANIMATION
from vae_lightning.types import Estimate

__all__ = ["SVI", "Drawn", "Gallery", "draw", "model_of_images", "subject_of"]

log = logging.getLogger(__name__)

SVI: dict[str, SVISettings] = {"default": DEFAULT, "original": ORIGINAL}
"""How q(z | seen part) may be fitted, by name."""
DIGIT = 3
"""The class where a figure shows one and nobody said which."""


@dataclass(frozen=True)
class Drawn:
    """One figure that was drawn."""

    name: str
    """That in the catalogue."""
    path: Path
    """The PNG or GIF."""
    caption: str
    """What one sees, and what a good one looks like."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True)
class Gallery:
    """What came of drawing a run."""

    drawn: list[Drawn]
    """In the catalogue's order."""
    skipped: dict[str, str]
    """Why each of the others was not drawn, by its name."""


def draw(
    subject: Subject,
    names: Sequence[str],
    folder: Path,
    track: Callable[[list[str]], Any] = iter,
    after_each: Callable[[Gallery], object] = lambda gallery: None,
) -> Gallery:
    """Draw the figures `names` that fit `subject` into `folder`, as PNG, or as GIF and, where there is an encoder, MP4.

    Each takes the place of an earlier one of its name; others that are there stay.

    Args:
        track: goes through a list, showing a progress bar if it likes.
        after_each: is told what there is so far after each figure that was drawn.

    Raises:
        ConfigurationError: there is no figure of such a name.
        StorageError: a file could not be written.
    """
    for name in names:
        choose("evaluation.figures", name, CATALOG)
    drawn: list[Drawn] = []
    skipped: dict[str, str] = {}
    for name in track(list(names)):
        entry, started = CATALOG[name], time.perf_counter()
        reason = entry.unfit(subject)
        if reason is None:
            try:
                with style():
                    figure = entry.draw(subject)
                    path = _save(figure, folder / name)
            except (ConfigurationError, DataError, NotImplementedError) as error:
                reason = str(error)
            except Exception as error:  # one figure that fails must not cost the others, and the metrics, their page
                log.exception("%s could not be drawn", name)
                reason = f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        if reason is None:
            own = figure.get_label() if isinstance(figure, Figure) else ""
            drawn.append(Drawn(name, path, f"{entry.caption} {own}".strip(), time.perf_counter() - started))
            after_each(Gallery(drawn, skipped))
        else:
            skipped[name] = reason
    return Gallery(drawn, skipped)


def _save(figure: Figure | Animation, path: Path) -> Path:
    if isinstance(figure, Animation):
        target = path.with_suffix(".gif")
        write_bytes(target, figure.gif())
        unfinished = path.with_name(f".{path.name}.unfinished.mp4")
        path.with_suffix(".mp4").unlink(missing_ok=True)  # or, without an encoder, it would be of another evaluation than the GIF
        with suppress(ConfigurationError):  # there is no encoder, and the GIF has to do
            figure.save_mp4(unfinished)
            unfinished.replace(path.with_suffix(".mp4"))
        return target
    target = path.with_suffix(".png")
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
    digit: int | None = None,
    seed: int = 0,
) -> Subject:
    """What there is to draw of `run`, whose test images are drawn with their pixels in place, also if it permutes them.

    Args:
        report: estimates by split and name.
        mask: a name in `inference.observed.MASKS`.
        svi: a name in `SVI`.
        digit: where one has to be chosen; None: 3, or the last class that there is.
    """
    data = run.data
    if not isinstance(data, MNISTDataModule):
        raise ConfigurationError(f"run={run.folder}: its data module is a {type(data).__name__}, which has no evaluation_images")
    x, y = (tensor.to(device) for tensor in data.evaluation_images("test"))
    rates = {split: (e["kl"].value, -e["log_likelihood"].value) for split, e in report.items() if "kl" in e}
    x = data.unpermute(x)
    if data.sorted_by_class:
        order = torch.randperm(len(y), generator=generator("order of test images")).to(device)
        x, y = x[order], y[order]
    classes = y.unique().tolist()
    return Subject(
        model=model_of_images(model, data),
        x=x,
        y=y,
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
        mask=observed_mask(mask),
        svi=choose("evaluation.svi", svi, SVI),
        extent=extent,
        projection=projection,
        digit=(DIGIT if DIGIT in classes else classes[-1]) if digit is None else digit,
        seed=seed,
    )


def model_of_images(model: Any, data: MNISTDataModule) -> Any:
    """`model` for images whose pixels are in place, also if those of `data`, which it was trained on, are permuted."""
    return in_place(model, data.permute, data.unpermute) if data.permute_pixels else model


def _convergence(report: Mapping[str, Estimate]) -> dict[int, Estimate]:
    """The nll by K, ascending."""
    curve = {e.num_samples: e for name, e in report.items() if name == "nll" or name.startswith("nll/k_")}
    return dict(sorted(curve.items()))
