"""`evaluate(cfg)`: a run folder to its report and figures. Model, data and checkpoint come from the folder, never from `cfg`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import Progress
from torch import Tensor

from vae_lightning import runs
from vae_lightning.allocator import keep_freed_memory
from vae_lightning.arguments import check, choose, require
from vae_lightning.data import MNISTDataModule
from vae_lightning.drawing import SVI, Gallery, draw, subject_of
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.page import Page, Picture, to_html, to_markdown
from vae_lightning.evaluation.report import Settings, classifier_report, latent_variable_report, marginal_estimate, to_json
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.inference.observed import MASKS
from vae_lightning.models import VAE, Classifier
from vae_lightning.models.base import Module
from vae_lightning.storage import write_bytes
from vae_lightning.types import Batch, Estimate

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives back."""

    report: dict[str, Any]
    """The content of `report.json`."""
    folder: Path
    """Holds `report.json`, `report.md`, `report.html` and `figures/`."""
    gallery: Gallery
    """The figures that were drawn, and why the others were not."""


def evaluate(cfg: DictConfig) -> Evaluation:
    """Evaluate the run that `cfg` names on test and training images, draw its figures, and write its report.

    Raises:
        ConfigurationError: something in `cfg` is wrong.
        CheckpointError: the run cannot be used.
        DataError: the run's data cannot be had.
    """
    options = _Options.of(cfg)
    keep_freed_memory()
    folder, checkpoint = runs.find(cfg.run, cfg.ckpt_path)
    moved = {key: cfg[key] for key in ("root", "static_root") if cfg[key] is not None}
    run = runs.load(folder, checkpoint, moved)
    if not isinstance(run.data, MNISTDataModule):
        raise ConfigurationError(f"run={folder}: its data module is a {type(run.data).__name__}, which has no evaluation_loader")
    provenance = runs.record(folder).get("provenance", {})
    model = run.model.to(options.device)
    with Progress(transient=True) as progress:
        splits = {
            "test": _report(model, run.data, "test", options.num_images, options, progress),
            "train": _report(model, run.data, "train", options.train_images, options, progress),
        }
        path = folder / "evaluation" / "report.json"
        report = to_json(str(checkpoint), splits)
        runs.write_json(path, report)
        gallery = _draw(run, model, splits, options, path.parent / "figures", progress)
    page = _page(run, run.data.binarization, report, gallery, provenance)
    write_bytes(path.with_suffix(".html"), to_html(page).encode())
    write_bytes(path.with_suffix(".md"), to_markdown(page, path.parent).encode())
    return Evaluation(report, path.parent, gallery)


def _draw(
    run: runs.LoadedRun,
    model: Module,
    splits: dict[str, dict[str, Estimate]],
    options: "_Options",
    folder: Path,
    progress: Progress,
) -> Gallery:
    drawn = subject_of(
        run,
        model,
        splits,
        device=options.device,
        mask=options.mask,
        svi=options.svi,
        extent=options.extent,
        projection=options.projection,
        digit=options.digit,
        seed=options.seed,
    )
    with drawn as subject:
        return draw(subject, options.figures, folder, lambda names: progress.track(names, description="figures"))


def _page(run: runs.LoadedRun, binarization: str, report: dict[str, Any], gallery: Gallery, provenance: dict[str, Any]) -> Page:
    return Page(
        title=str(run.folder),
        checkpoint=f"{run.checkpoint.name}, epoch {run.epoch + 1}, optimizer step {run.step:,}",
        model=f"{type(run.model).__name__}, {sum(p.numel() for p in run.model.parameters()):,} parameters",
        binarization=binarization,
        figures={split: figures for split, figures in report.items() if split != "checkpoint"},
        command=provenance.get("command") or runs.asked_with(run.folder),
        provenance=provenance,
        pictures=[Picture(drawn.name, drawn.path, drawn.caption) for drawn in gallery.drawn],
        skipped=gallery.skipped,
    )


class _Options:
    """The checked settings of an evaluation; see `conf/evaluate.yaml` and `conf/evaluation/`."""

    def __init__(
        self,
        num_samples: int,
        num_images: int | None,
        train_images: int,
        marginal_samples: int,
        marginal_images: int,
        max_batch: int,
        seed: int,
        figures: list[str] | Literal["all"] = "all",
        extent: float = 4.0,
        mask: str = "top",
        svi: str = "default",
        projection: Literal["pca", "umap"] = "pca",
        digit: int = 3,
        gpus: int | str = "auto",
    ) -> None:
        require(num_samples >= 1, "evaluation.num_samples", num_samples, "at least 1")
        require(num_images is None or num_images >= 1, "evaluation.num_images", num_images, "at least 1, or null for all")
        require(train_images >= 1, "evaluation.train_images", train_images, "at least 1")
        require(marginal_samples >= 1, "evaluation.marginal_samples", marginal_samples, "at least 1")
        require(marginal_images >= 0, "evaluation.marginal_images", marginal_images, "at least 0")
        require(max_batch >= 1, "evaluation.max_batch", max_batch, "at least 1")
        self.num_samples, self.num_images, self.train_images = num_samples, num_images, train_images
        self.marginal_samples, self.marginal_images = marginal_samples, marginal_images
        self.max_batch, self.seed = max_batch, seed
        self.figures = list(CATALOG) if figures == "all" else figures
        for name in self.figures:
            choose("evaluation.figures", name, CATALOG)
        require(extent > 0, "evaluation.extent", extent, "positive")
        choose("evaluation.mask", mask, MASKS)
        choose("evaluation.svi", svi, SVI)
        require(0 <= digit <= 9, "evaluation.digit", digit, "from 0 to 9")
        self.extent, self.mask, self.svi = extent, mask, svi
        self.projection, self.digit = projection, digit
        require(gpus in ("auto", 0, 1), "gpus", gpus, "auto, 0 (CPU) or 1")
        if gpus == 1 and not torch.cuda.is_available():
            raise ConfigurationError("gpus=1: this machine has no GPU that torch can use; to run on the CPU: gpus=0")
        self.device = torch.device("cuda" if gpus != 0 and torch.cuda.is_available() else "cpu")

    @classmethod
    def of(cls, cfg: DictConfig) -> "_Options":
        plain = OmegaConf.to_container(cfg.evaluation, resolve=True)
        assert isinstance(plain, dict)
        arguments = {str(key): value for key, value in plain.items()}
        check(cls, arguments, "evaluation")
        return cls(**arguments, gpus=cfg.gpus)


class _Batches:
    """Batches of a split as `(x, y)` on `device`, to be gone through any number of times, each with a progress bar."""

    def __init__(
        self, data: MNISTDataModule, split: str, num_images: int | None, device: torch.device, progress: Progress, what: str
    ) -> None:
        self.loader = data.evaluation_loader(split, num_images)
        self.data, self.device, self.progress = data, device, progress
        self.title = f"{split} {what}"

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels, key in self.progress.track(self.loader, total=len(self.loader), description=self.title):
            batch = Batch(images.to(self.device), labels.to(self.device), key)
            yield self.data.on_after_batch_transfer(batch, 0)


def _report(
    model: Any, data: MNISTDataModule, split: str, num_images: int | None, options: _Options, progress: Progress
) -> dict[str, Estimate]:
    batches = _Batches(data, split, num_images, options.device, progress, "images")
    if isinstance(model, Classifier):
        return classifier_report(model, batches, data.binarization)
    if not isinstance(model, VAE):
        raise ConfigurationError(f"a {type(model).__name__} cannot be evaluated: it is neither a VAE nor a classifier")
    settings = Settings(options.num_samples, options.max_batch, model.bound_samples, options.seed)
    report = latent_variable_report(model, batches, split, data.binarization, settings, model.num_classes)
    if model.num_classes and options.marginal_images and split == "test":
        count = min(options.marginal_images, num_images or options.marginal_images)
        some = _Batches(data, split, count, options.device, progress, "images x labels")
        fewer = dataclasses.replace(settings, num_samples=options.marginal_samples)
        report["nll_marginal"] = marginal_estimate(model, some, split, data.binarization, fewer, model.num_classes)
    return report
