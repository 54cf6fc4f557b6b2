"""`draw(...)`: a loaded run to the figures that fit it, as files and as what a report says of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
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
from vae_lightning.inference.observed import observed_mask
from vae_lightning.inference.svi import DEFAULT, ORIGINAL, SVISettings
from vae_lightning.runs import LoadedRun
from vae_lightning.types import Estimate

__all__ = ["SVI", "Drawn", "Gallery", "draw", "subject_of"]

SVI: dict[str, SVISettings] = {"default": DEFAULT, "original": ORIGINAL}
"""How q(z | seen part) may be fitted, by name."""


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


def draw(subject: Subject, names: Sequence[str], folder: Path, track: Callable[[list[str]], Any] = iter) -> Gallery:
    """Draw the figures `names` that fit `subject` into `folder`, as PNG, or as GIF and, where there is an encoder, MP4.

    Args:
        track: goes through a list, showing a progress bar if it likes.

    Raises:
        ConfigurationError: there is no figure of such a name.
        StorageError: a file could not be written.
    """
    for name in names:
        choose("evaluation.figures", name, CATALOG)
    drawn, skipped = [], {}
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
        if reason is None:
            own = figure.get_label() if isinstance(figure, Figure) else ""
            drawn.append(Drawn(name, path, f"{entry.caption} {own}".strip(), time.perf_counter() - started))
        else:
            skipped[name] = reason
    return Gallery(drawn, skipped)


def _save(figure: Figure | Animation, path: Path) -> Path:
    if isinstance(figure, Animation):
        target = path.with_suffix(".gif")
        runs.write_bytes(target, figure.gif())
        if find_spec("imageio_ffmpeg"):
            figure.save_mp4(path.with_suffix(".mp4"))
        return target
    target = path.with_suffix(".png")
    runs.write_bytes(target, png(figure))
    return target


@contextmanager
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
    digit: int = 3,
    seed: int = 0,
) -> Iterator[Subject]:
    """What there is to draw of `run`, whose test images are drawn with their pixels in place, also if it permutes them.

    Args:
        report: estimates by split and name.
        mask: a name in `inference.observed.MASKS`.
        svi: a name in `SVI`.
    """
    data = run.data
    if not isinstance(data, MNISTDataModule):
        raise ConfigurationError(f"run={run.folder}: its data module is a {type(data).__name__}, which has no evaluation_images")
    x, y = (tensor.to(device) for tensor in data.evaluation_images("test"))
    rates = {split: (e["kl"].value, -e["log_likelihood"].value) for split, e in report.items() if "kl" in e}
    with _pixels_in_place(model, data):
        yield Subject(
            model=model,
            x=data.unpermute(x),
            y=y,
            num_classes=getattr(model, "num_classes", 0),
            rates=rates,
            history=runs.history(run.folder),
            best_step=run.step,
            recording=run.folder / "animation",
            mask=observed_mask(mask),
            svi=choose("evaluation.svi", svi, SVI),
            extent=extent,
            projection=projection,
            digit=digit,
            seed=seed,
        )


@contextmanager
def _pixels_in_place(model: Any, data: MNISTDataModule) -> Iterator[None]:
    """A model of permuted pixels takes and gives images whose pixels are in place."""
    hooks = []
    if data.permute_pixels:
        takes = model.encoder if hasattr(model, "encoder") else model.net
        hooks.append(takes.register_forward_pre_hook(lambda _, arguments: (data.permute(arguments[0]), *arguments[1:])))
        if hasattr(model, "decoder"):
            hooks.append(model.decoder.register_forward_hook(lambda _, __, images: data.unpermute(images)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
