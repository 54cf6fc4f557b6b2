"""`evaluate(cfg)` makes the report and the figures of a run, whose model, data and checkpoint come from the run folder."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from vae_lightning import runs
from vae_lightning.abilities import binarization_of, classes_of, labels_of, permutation_of, predicts
from vae_lightning.arguments import require
from vae_lightning.batches import check_batch
from vae_lightning.commands.estimates import measure_split, nll_floor
from vae_lightning.commands.gallery import Drawn, Gallery, check_label, draw, model_of_images, subject_of
from vae_lightning.commands.options import VERIFICATION, Options, at_evaluation, named
from vae_lightning.commands.treatments import is_of_binary_images, treatment_of
from vae_lightning.errors import ConfigurationError, DataError, StorageError, kind_of
from vae_lightning.evaluation.factor_codes import GroundTruth
from vae_lightning.evaluation.parts import Material, check_parts, measure
from vae_lightning.evaluation.samples import Judge
from vae_lightning.evaluation.sanity import warnings_of
from vae_lightning.explorer.page import page_in
from vae_lightning.figures.catalog import CATALOG
from vae_lightning.machine.allocator import keep_freed_memory
from vae_lightning.machine.files import at_home, write_bytes
from vae_lightning.machine.shell import called
from vae_lightning.machine.signals import heed
from vae_lightning.plugins import load_declared
from vae_lightning.reports.document import from_plain, splits_of, to_json
from vae_lightning.reports.folder import ReportFolder, owned, require_room
from vae_lightning.reports.merging import with_others
from vae_lightning.reports.page import Page, Picture, to_html, to_markdown
from vae_lightning.reports.stamp import stamp_of
from vae_lightning.runs.layout import EVALUATION
from vae_lightning.treatment import Treatment
from vae_lightning.types import Estimate, ImageData, LatentVariableModel

__all__ = ["Evaluation", "evaluate", "require_images_of_training"]

log = logging.getLogger(__name__)

LOOKED_AT = 16
"""Images of a split whose kind and range are looked at before anything is measured."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    report: dict[str, Any]
    """The content of `report.json`."""
    folder: Path
    """The folder that holds `report.json`, `report.md`, `report.html` and `figures/`."""
    gallery: Gallery
    """The figures that were drawn, and why the others were not."""
    unverified: tuple[str, ...] = ()
    """What a verification that was required did not pass, a line each."""


def evaluate(cfg: DictConfig) -> Evaluation:
    """Evaluate the run that `cfg` names on test and training images, draw its figures, and write its report.

    The report is written after each part of the evaluation, so that stopping a full evaluation loses little. The report keeps what
    earlier evaluations have measured and drawn of the same weights, see `reports.merging`.

    Raises:
        ConfigurationError: something in `cfg` is wrong.
        CheckpointError: the run cannot be used.
        DataError: the run's data are missing or altered.
        StorageError: the report cannot be written.
    """
    load_declared()  # before the options are read, which may name a part or a figure that a package declares
    options = Options.of(cfg)
    require(cfg.to is None or str(cfg.to).strip() != "", "to", "", "a folder, or left out to write into the run's")
    keep_freed_memory()
    folder, checkpoint = runs.find(cfg.run, cfg.ckpt_path)
    moved = {key: str(cfg[key]) for key in ("root", "static_root", "path") if cfg[key] is not None}
    run = runs.load(folder, checkpoint, moved, options.trust)
    model = run.model.to(options.device)
    _require_something_to_measure(run)
    judge = _judge(options, run.data, moved)
    run.data.prepare_data()
    run.data.setup("test")
    require_images_of_training(run)
    data = _image_data(run)
    check_label(options.label, data)
    material = _material(model, data, options, judge)
    weights = {"file": checkpoint.name, "sha256": run.digest, "epoch": run.epoch + 1, "step": run.step}
    target = _place_beside(folder) if cfg.to is None else at_home(str(cfg.to))
    if cfg.to is not None:
        require_room(target)
    with owned(target, weights) as place, Progress(transient=True) as progress:
        return _Evaluating(run, model, data, options, material, place, progress).all()


class _Evaluating:
    """An evaluation under way: what was measured and drawn so far, and the report of that."""

    def __init__(
        self,
        run: runs.LoadedRun,
        model: Any,
        data: ImageData,
        options: Options,
        material: Material | None,
        place: ReportFolder,
        progress: Progress,
    ) -> None:
        self.run, self.model, self.data, self.options, self.material = run, model, data, options, material
        self.place, self.progress = place, progress
        self.started = datetime.now(UTC).isoformat()
        self.splits: dict[str, dict[str, Estimate]] = {}
        self.parts: list[str] = []
        self.left_out: dict[str, str] = {}
        self.gallery = Gallery([], {})

    def all(self) -> Evaluation:
        """Measure all estimates, draw all figures, and write the pages that show them."""
        for split, count in (("test", self.options.num_images), ("train", self.options.train_images)):
            self.splits[split] = measure_split(self.model, self.data, split, count, self.options, self.progress)
            there = max(estimate.num_images for estimate in self.splits[split].values())
            if split == "test" and count is not None and there < count:
                log.warning("evaluation.num_images=%d: there are %d test images, all of which were measured", count, there)
            self.write()
        if self.material is None:
            self.left_out = dict.fromkeys(self.options.parts, "the model has no latent")
        else:
            self.measure_parts(dataclasses.replace(self.material, bound=self.splits["test"]))
        self.draw()
        report = self.write()
        page = _page(self.run, binarization_of(self.data), report, self.place.path)
        write_bytes(self.place.path / "report.html", to_html(page).encode("utf-8", "backslashreplace"))
        write_bytes(self.place.path / "report.md", to_markdown(page, self.place.path).encode("utf-8", "backslashreplace"))
        return Evaluation(report, self.place.path, self.gallery, self.unverified(report))

    def unverified(self, report: Mapping[str, Any]) -> tuple[str, ...]:
        """What the verification did not pass, if it is required to: of this evaluation, and not of an earlier one."""
        stamp = stamp_of(report)
        if not self.options.require_verified or (stamp is not None and stamp.verified and stamp.measured == self.started):
            return ()
        if stamp is None or stamp.measured != self.started:
            return (f"not verified: {self.left_out.get(VERIFICATION, 'was not measured')}",)
        return tuple(f"not verified: {name}: {found}" for name, found in stamp.failed.items()) or (stamp.line,)

    def measure_parts(self, material: Material) -> None:
        parts = measure(material, self.options.parts)
        for name, measured in self.progress.track(parts, total=len(self.options.parts), description="parts"):
            if isinstance(measured, str):
                self.left_out[name] = named(measured)
            else:
                self.splits["test"] |= measured
                self.parts.append(name)
            self.write()

    def draw(self) -> None:
        options = self.options
        subject = subject_of(
            self.run,
            self.model,
            self.splits,
            device=options.device,
            mask=options.mask,
            svi=options.svi,
            extent=options.extent,
            projection=options.projection,
            label=options.label,
            seed=options.seed,
        )

        def track(names: list[str]) -> Iterable[str]:
            return self.progress.track(names, description="figures")

        self.gallery = draw(subject, options.figures, self.place.figures, track, self.drawn_so_far)

    def drawn_so_far(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.write()

    def write(self) -> dict[str, Any]:
        """Write the report so far, beside what earlier evaluations of the same weights have measured."""
        now = {
            split: {name: dataclasses.replace(e, seed=self.options.seed, measured=self.started) for name, e in estimates.items()}
            for split, estimates in self.splits.items()
        }
        report = to_json(
            str(self.run.checkpoint),
            now,
            evaluated=self.started,
            not_measured=self.left_out,
            parts=self.parts,
            figures={drawn.name: self._plain(drawn) for drawn in self.gallery.drawn},
            not_drawn=self.gallery.skipped,
            treatment=treatment_of(self.model, self.data).plain,
        )
        written = self.place.write(report, self.warnings)
        heed()  # what was measured and drawn is kept
        return written

    def warnings(self, report: Mapping[str, Any]) -> list[str]:
        """Warnings about the estimates in `report`, without those of other settings."""
        splits = {split: {name: from_plain(e) for name, e in estimates.items()} for split, estimates in splits_of(report).items()}
        return warnings_of(splits, nll_floor(self.model, self.data), is_of_binary_images(self.model), self.grey)

    @cached_property
    def grey(self) -> bool:
        """Whether the images that the model is evaluated on have other pixels than 0 and 1."""
        return self.material is not None and self.material.has_grey_levels()

    def _plain(self, drawn: Drawn) -> dict[str, Any]:
        settings = {name: getattr(self.options, name) for name in drawn.settings}
        return {
            "file": drawn.path.relative_to(self.place.path).as_posix(),
            "caption": drawn.caption,
            "settings": {name: value for name, value in settings.items() if value is not None},
            "seconds": drawn.seconds,
            "drawn": self.started,
        }


def _place_beside(folder: Path) -> Path:
    """Where in the run's own folder its evaluation goes."""
    place = folder / EVALUATION
    if place.is_symlink():
        raise StorageError(f"{place}: is a link; to write where it leads to: to={place.resolve()}")
    return place


def _require_something_to_measure(run: runs.LoadedRun) -> None:
    """Refuse a model that is neither a latent-variable model nor a classifier, before data are read."""
    model = run.model
    if not isinstance(model, LatentVariableModel) and not predicts(model):
        missing = [name for name in ("latent_dim", "prior", "posterior", "likelihood") if not hasattr(model, name)]
        raise ConfigurationError(
            f"run={run.folder}: {kind_of(model)} cannot be evaluated: it is no types.LatentVariableModel (it has no "
            f"{', '.join(missing)}), and has no predict(x), which gives class probabilities"
        )


def _image_data(run: runs.LoadedRun) -> ImageData:
    """The run's data module, which must be a `types.ImageData` with images that models can take."""
    data: Any = run.data
    if not isinstance(data, ImageData):
        wanted = ("image_shape", "num_classes", "label_names", "evaluation_images")
        missing = ", ".join(name for name in wanted if not hasattr(data, name))
        raise ConfigurationError(
            f"run={run.folder}: {kind_of(data)} cannot be evaluated: it is no types.ImageData (it has no {missing})"
        )
    for split in ("train", "test"):
        source = f"what {type(data).__name__}.evaluation_images({split!r}) gives"
        check_batch(data.evaluation_images(split, LOOKED_AT), split, image_shape=data.image_shape, source=source)
    return data


def require_images_of_training(run: runs.LoadedRun) -> None:
    """Refuse a user's own files that have changed: with another image among them, training images may be drawn as test images."""
    data: Any = run.data
    was = run.trained_on.get("path")
    now = data.settings().get("path") if hasattr(data, "settings") else None
    if None in (was, now) or now in (was, getattr(data, "path", None)):  # a name of the place says nothing of what it holds
        return
    raise DataError(
        f"path={data.path}: holds {now}, and {run.folder} was trained on {was}: which of them were training images is no longer "
        "known; evaluate it on the files of its training"
    )


class _Judge(NamedTuple):
    """The classifier that judges samples."""

    classifier: Judge
    name: str
    """The classifier's run folder."""
    binarization: str
    """The binarization of the images that the classifier was trained on."""


def _judge(options: Options, data: Any, moved: dict[str, Any]) -> _Judge | None:
    if options.classifier is None:
        return None
    asked = f"evaluation.classifier={options.classifier}"
    run = runs.load(*runs.find(options.classifier, None, key="evaluation.classifier"), moved, options.trust)
    if not isinstance(run.model, Judge) or isinstance(run.model, LatentVariableModel):
        raise ConfigurationError(
            f"{asked}: is a run of {kind_of(run.model)}, not of a classifier with predict(x) and features(x); "
            f"train one: {called('train.py')} experiment=classifier data.binarization=dynamic"
        )
    learned, wanted = _images_of(run.data), _images_of(data)
    permuted = bool(getattr(run.data, "permute_pixels", False))
    if (learned, permuted) != (wanted, False):
        raise ConfigurationError(
            f"{asked}: learned {learned}, permute_pixels={permuted}, and this run's images are {wanted}: train one on these"
        )
    return _Judge(run.model.to(options.device), str(run.folder), binarization_of(run.data))


def _images_of(data: Any) -> str:
    """A name for the images of `data`, whatever their binarization; for a user's own files, with `settings()["path"]`."""
    name = str(getattr(data, "dataset", type(data).__name__))
    held = data.settings().get("path") if hasattr(data, "settings") else None
    return f"{name} ({held})" if held else name


def _material(model: Any, data: ImageData, options: Options, judge: _Judge | None) -> Material | None:
    """The material that parts of a full evaluation measure; None for a model without a latent."""
    if not isinstance(model, LatentVariableModel):
        if options.parts and not options.all_parts:
            raise ConfigurationError(f"evaluation.parts: {kind_of(model)} has no latent, so there is nothing for them to measure")
        return None
    permutation = permutation_of(data)

    def images(split: str, count: int | None) -> tuple[Tensor, Tensor]:
        x, y = data.evaluation_images(split, count)
        return (permutation.unpermute(x) if permutation else x).to(options.device), y.to(options.device)

    material = Material(
        model=model_of_images(model, data),
        images=images,
        bound={},
        binarization=binarization_of(data),
        num_classes=classes_of(model),
        settings=options.part_settings,
        budget=options.budget,
        judge=judge and judge.classifier,
        judge_name=judge.name if judge else "",
        judge_binarization=judge.binarization if judge else "",
        factors=data if isinstance(data, GroundTruth) else None,
        has_labels=labels_of(data).exist,
    )
    if not options.all_parts:
        with at_evaluation():
            check_parts(material, options.parts)
    return material


def _page(run: runs.LoadedRun, binarization: str, report: dict[str, Any], folder: Path) -> Page:
    provenance = runs.record(run.folder).get("provenance", {})
    figures = sorted(report["figures"].items(), key=lambda entry: [*CATALOG, entry[0]].index(entry[0]))
    return Page(
        title=str(run.folder),
        checkpoint=f"{run.checkpoint.name}, epoch {run.epoch + 1}, optimizer step {run.step:,}",
        model=f"{type(run.model).__name__}, {sum(p.numel() for p in run.model.parameters()):,} parameters",
        binarization=binarization,
        estimates={split: with_others(report, split) for split in splits_of(report)},
        warnings=report["warnings"],
        not_measured=report["not_measured"],
        command=provenance.get("command") or runs.asked_with(run.folder),
        provenance=provenance,
        pictures=[Picture(name, folder / figure["file"], figure["caption"], figure["settings"]) for name, figure in figures],
        skipped=report["not_drawn"],
        treatment=Treatment.read(report.get("treatment")),
        stamp=stamp_of(report),
        explorer=page_in(folder, run.digest),
    )
