"""`evaluate(cfg)`: a run folder to its report and figures. Model, data and checkpoint come from the folder, never from `cfg`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from vae_lightning import runs
from vae_lightning.allocator import keep_freed_memory
from vae_lightning.data import MNISTDataModule
from vae_lightning.drawing import Gallery, draw, pixels_in_place, subject_of
from vae_lightning.errors import ConfigurationError
from vae_lightning.evaluation.disentanglement import GroundTruth
from vae_lightning.evaluation.page import Page, Picture, to_html, to_markdown
from vae_lightning.evaluation.parts import Material, check_parts, measure
from vae_lightning.evaluation.report import (
    Settings,
    classifier_report,
    latent_variable_report,
    marginal_report,
    splits_of,
    to_json,
)
from vae_lightning.evaluation.sanity import NLL_FLOOR, warnings_of
from vae_lightning.models import M1, M2, VAE, Classifier
from vae_lightning.models.base import Module
from vae_lightning.options import Options
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

    The report is written after each part of it, so that hours of a full evaluation that is stopped are not lost.

    Raises:
        ConfigurationError: something in `cfg` is wrong.
        CheckpointError: the run cannot be used.
        DataError: the run's data cannot be had.
    """
    options = Options.of(cfg)
    keep_freed_memory()
    folder, checkpoint = runs.find(cfg.run, cfg.ckpt_path)
    moved = {key: cfg[key] for key in ("root", "static_root") if cfg[key] is not None}
    run = runs.load(folder, checkpoint, moved)
    if not isinstance(run.data, MNISTDataModule):
        raise ConfigurationError(f"run={folder}: its data module is a {type(run.data).__name__}, which has no evaluation_loader")
    provenance = runs.record(folder).get("provenance", {})
    model = run.model.to(options.device)
    judge = _judge(options, run.data, moved)
    material = _material(model, run.data, options, judge)
    path = folder / "evaluation" / "report.json"
    splits: dict[str, dict[str, Estimate]] = {}
    left_out: dict[str, str] = {}

    nll_floor = _nll_floor(model, run.data)

    def write() -> dict[str, Any]:
        found = warnings_of(splits, nll_floor, judge and judge.binarization)
        report = to_json(str(checkpoint), splits, warnings=found, not_measured=left_out)
        runs.write_json(path, report)
        return report

    with Progress(transient=True) as progress:
        for split, count in (("test", options.num_images), ("train", options.train_images)):
            splits[split] = _report(model, run.data, split, count, options, progress)
            write()
        if material is not None:
            parts = measure(dataclasses.replace(material, bound=splits["test"]), options.parts)
            with pixels_in_place(model, run.data):
                for name, found in progress.track(parts, total=len(options.parts), description="parts"):
                    if isinstance(found, str):
                        left_out[name] = found
                    else:
                        splits["test"] |= found
                    write()
        gallery = _draw(run, model, splits, options, path.parent / "figures", progress)
    report = write()
    page = _page(run, run.data.binarization, report, gallery, provenance)
    write_bytes(path.with_suffix(".html"), to_html(page).encode())
    write_bytes(path.with_suffix(".md"), to_markdown(page, path.parent).encode())
    return Evaluation(report, path.parent, gallery)


class _Judge(NamedTuple):
    """The classifier that samples are shown to."""

    classifier: Classifier
    name: str
    """Its run."""
    binarization: str
    """Of the images it was trained on."""


def _judge(options: Options, data: MNISTDataModule, moved: dict[str, Any]) -> _Judge | None:
    if options.classifier is None:
        return None
    run = runs.load(*runs.find(options.classifier, None, key="evaluation.classifier"), moved)
    if not isinstance(run.model, Classifier) or not isinstance(run.data, MNISTDataModule):
        raise ConfigurationError(
            f"evaluation.classifier={options.classifier}: is a run of a {type(run.model).__name__}, not of a classifier; "
            "train one: python train.py experiment=classifier data.binarization=dynamic"
        )
    if (run.data.dataset, run.data.permute_pixels) != (data.dataset, False):
        raise ConfigurationError(
            f"evaluation.classifier={options.classifier}: learned {run.data.dataset}, permute_pixels="
            f"{run.data.permute_pixels}, and this run's images are {data.dataset}: train one with data={data.dataset}"
        )
    binarization = run.data.binarization
    return _Judge(run.model.to(options.device), f"{run.folder} ({binarization})", binarization)


def _material(model: Module, data: MNISTDataModule, options: Options, judge: _Judge | None) -> Material | None:
    """What the parts of a full evaluation measure; None for a model without a latent."""
    if not isinstance(model, VAE):
        if options.parts and not options.all_parts:
            raise ConfigurationError(
                f"evaluation.parts: a {type(model).__name__} has no latent, so there is nothing for them to measure"
            )
        return None

    def images(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        x, y = data.evaluation_images(split, count)
        return data.unpermute(x).to(options.device), y.to(options.device)

    material = Material(
        model=model,
        images=images,
        bound={},
        binarization=data.binarization,
        num_classes=model.num_classes,
        settings=options.part_settings,
        budget=options.budget,
        judge=judge and judge.classifier,
        judge_name=judge.name if judge else "",
        factors=data if isinstance(data, GroundTruth) else None,
    )
    if not options.all_parts:
        check_parts(material, options.parts)
    return material


def _nll_floor(model: Module, data: MNISTDataModule) -> float | None:
    """What an nll should not be below: known for outcomes of pixels, 0 or 1, on MNIST."""
    binary = isinstance(model, VAE) and model.likelihood_of.binary
    return NLL_FLOOR if binary and data.dataset == "mnist" else None


def _draw(
    run: runs.LoadedRun,
    model: Module,
    splits: dict[str, dict[str, Estimate]],
    options: Options,
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
        figures=splits_of(report),
        warnings=report["warnings"],
        not_measured=report["not_measured"],
        command=provenance.get("command") or runs.asked_with(run.folder),
        provenance=provenance,
        pictures=[Picture(drawn.name, drawn.path, drawn.caption) for drawn in gallery.drawn],
        skipped=gallery.skipped,
    )


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
    model: Any, data: MNISTDataModule, split: str, num_images: int | None, options: Options, progress: Progress
) -> dict[str, Estimate]:
    batches = _Batches(data, split, num_images, options.device, progress, "images")
    if isinstance(model, Classifier):
        return classifier_report(model, batches, data.binarization)
    if not isinstance(model, VAE):
        raise ConfigurationError(f"a {type(model).__name__} cannot be evaluated: it is neither a VAE nor a classifier")
    settings = Settings(
        options.num_samples,
        elbo_samples=model.bound_samples,
        seed=options.seed,
        convergence=options.convergence if split == "test" else (),
        per_class=bool(options.parts and model.num_classes) and split == "test",
    )
    report = latent_variable_report(model, batches, split, data.binarization, settings, model.num_classes, options.budget)
    if isinstance(model, M1 | M2):
        again = _Batches(data, split, num_images, options.device, progress, "labels")
        report |= classifier_report(model.predict, again, data.binarization)
    if model.num_classes and options.marginal_images and split == "test":
        count = min(options.marginal_images, num_images or options.marginal_images)
        some = _Batches(data, split, count, options.device, progress, "images x labels")
        fewer = dataclasses.replace(settings, num_samples=options.marginal_samples)
        report |= marginal_report(model, some, split, data.binarization, fewer, model.num_classes, options.budget)
    return report
