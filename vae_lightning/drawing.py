"""`draw(...)`: a loaded run to the figures that fit it, as files and as what a report says of them."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from vae_lightning.inference.svi import DEFAULT, ORIGINAL, SVISettings
from vae_lightning.models import M2
from vae_lightning.noise import generator
from vae_lightning.runs import LoadedRun
from vae_lightning.storage import write_bytes
from vae_lightning.types import Estimate

__all__ = ["SVI", "Drawn", "Gallery", "draw", "pixels_in_place", "subject_of"]

log = logging.getLogger(__name__)

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
    for name in CATALOG:  # of an earlier evaluation, perhaps of other weights
        for path in folder.glob(f"{name}.*"):
            path.unlink()
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
            except Exception as error:  # one figure that fails must not cost the others, and the metrics, their page
                log.exception("%s could not be drawn", name)
                reason = f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        if reason is None:
            own = figure.get_label() if isinstance(figure, Figure) else ""
            drawn.append(Drawn(name, path, f"{entry.caption} {own}".strip(), time.perf_counter() - started))
        else:
            skipped[name] = reason
    return Gallery(drawn, skipped)


def _save(figure: Figure | Animation, path: Path) -> Path:
    if isinstance(figure, Animation):
        target = path.with_suffix(".gif")
        write_bytes(target, figure.gif())
        unfinished = path.with_name(f".{path.name}.unfinished.mp4")
        with suppress(ConfigurationError):  # there is no encoder, and the GIF has to do
            figure.save_mp4(unfinished)
            unfinished.replace(path.with_suffix(".mp4"))
        return target
    target = path.with_suffix(".png")
    write_bytes(target, png(figure))
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
    x = data.unpermute(x)
    if data.sorted_by_class:
        order = torch.randperm(len(y), generator=generator("order of test images")).to(device)
        x, y = x[order], y[order]
    with pixels_in_place(model, data):
        yield Subject(
            model=model,
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
            recording=run.folder / "animation",
            mask=observed_mask(mask),
            svi=choose("evaluation.svi", svi, SVI),
            extent=extent,
            projection=projection,
            digit=digit,
            seed=seed,
        )


def _convergence(report: Mapping[str, Estimate]) -> dict[int, Estimate]:
    """The nll by K, ascending."""
    curve = {e.num_samples: e for name, e in report.items() if name == "nll" or name.startswith("nll/k_")}
    return dict(sorted(curve.items()))


@contextmanager
def pixels_in_place(model: Any, data: MNISTDataModule) -> Iterator[None]:
    """Within, a model of permuted pixels takes and gives images whose pixels are in place."""
    hooks = []
    if data.permute_pixels:
        takes = [model.encoder if hasattr(model, "encoder") else model.net]
        if isinstance(model, M2):
            takes.append(model.classifier)
        for net in takes:
            hooks.append(net.register_forward_pre_hook(lambda _, arguments: (data.permute(arguments[0]), *arguments[1:])))
        if hasattr(model, "decoder"):
            hooks.append(model.decoder.register_forward_hook(lambda _, __, images: data.unpermute(images)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
