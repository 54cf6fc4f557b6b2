"""The command `vae-export`: a trained model for other programs. It is `python -m vae_lightning.commands.export` too."""

import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from vae_lightning.commands.words import asked_for, list_of, settings_of
from vae_lightning.errors import ConfigurationError, StorageError, kind_of, one_line, printable
from vae_lightning.machine.files import at_home, replacing, write_bytes

if TYPE_CHECKING:
    from vae_lightning.export.card import Card
    from vae_lightning.runs import LoadedRun

__all__ = ["Export", "export", "main"]

HELP = """A trained model for other programs: graphs for onnxruntime and torch, weights as safetensors, and a model card.

  vae-export run=<folder>         or python -m vae_lightning.commands.export run=<folder>; run=latest is the newest
  vae-export run=... to=<folder>  where to; without it, export/ in the run folder
  vae-export run=... format=[onnx,safetensors,torch_export]
                                  what to write; without it, onnx and safetensors
  ckpt_path=<file>                a checkpoint in a run folder, in place of run
  licence=mit                     what the card says of the weights' licence
  dtype=float16                   numbers of half the size in model.safetensors; without it, as they were trained
  tolerance=1e-4                  the largest difference between a graph and the model that is accepted
  trust=[mypkg]                   packages whose code the run may use

Of a VAE: encoder (x[, y] -> loc, scale) and decoder (z[, y] -> mean of each pixel); of a classifier, M1 and M2: classifier
(x -> probabilities). What the card says of the model's quality comes from the run's evaluation, if there is one."""
KEYS = {
    "run": "<folder>|latest",
    "ckpt_path": "<file>",
    "to": "<folder>",
    "format": "[onnx,safetensors,torch_export]",
    "licence": "mit",
    "dtype": "float16",
    "tolerance": "1e-4",
    "trust": "[mypkg]",
}
SAFETENSORS = "safetensors"
DEFAULT = ("onnx", SAFETENSORS)
FORMATS = (*DEFAULT, "torch_export")
DTYPES = ("float32", "float16", "bfloat16")
IMAGES = 8
"""How many images a graph is tried on."""
CARD = "README.md"
RECORD = "metrics.json"
SHOWN = ("samples", "class_style_grid", "latent_grid_20x20", "reconstructions")
"""Figures of an evaluation that a card shows, if they are there; at most two."""
OURS = (
    *(CARD, RECORD, "config.json", "model.safetensors"),
    *(f"{name}.{suffix}" for name in ("encoder", "decoder", "classifier") for suffix in ("onnx", "pt2")),
    *(f"figures/{name}.png" for name in SHOWN),
)
"""The files that an export writes; one of an earlier export goes, if a later one does not write it."""


class Export:
    """What was exported: the folder, and a line about each graph.

    >>> Export(Path("export"), ("encoder.onnx: ...",)).folder.name
    'export'
    """

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        self.folder, self.lines = folder, tuple(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Export the model that the words of a command line ask for; a command that is wrong ends with status 2."""
    with asked_for(words, HELP) as given:
        if given is None:
            return
        exported = export(settings_of(given, KEYS))
        for line in (*exported.lines, f"exported: {exported.folder}"):
            print(printable(line))


def export(settings: Mapping[str, str]) -> Export:
    """Export the model of a run.

    Args:
        settings: values by the keys of `KEYS`.

    Raises:
        ConfigurationError: a setting is wrong, or the model has no such graph.
        CheckpointError: the run cannot be used.
        StorageError: the folder holds something else, or cannot be written.
    """
    asked = Asked.of(settings)
    from vae_lightning import runs  # torch and Lightning take seconds to import, which --help should not wait for
    from vae_lightning.plugins import load_declared
    from vae_lightning.runs.released import PREFIX

    load_declared()
    folder, checkpoint = runs.find(settings.get("run"), settings.get("ckpt_path"))
    if settings.get("to") is None and str(settings.get("run")).startswith(PREFIX):
        raise ConfigurationError(f"run={settings['run']}: say where to: to=<folder>")
    target = at_home(settings["to"]) if "to" in settings else folder / "export"
    _require_place(target, settings.get("to"))
    run = runs.load(folder, checkpoint, trust=asked.trust)
    with _filled(target) as scratch:
        return Export(target, _write(run, scratch, asked))


def _write(run: "LoadedRun", folder: Path, asked: "Asked") -> list[str]:
    """Write everything into `folder`, and give a line about each graph."""
    from vae_lightning.commands.gallery import model_of_images
    from vae_lightning.export.card import Signature
    from vae_lightning.export.functions import functions_of
    from vae_lightning.export.graphs import write_graph

    model = model_of_images(run.model, run.data)
    functions = functions_of(model, *_examples(model, run.data))
    if not functions:
        raise ConfigurationError(f"run={run.folder}: {type(run.model).__name__} has no encoder, decoder or classifier to export")
    graphs = [format for format in asked.formats if format != SAFETENSORS]
    parities = [write_graph(function, folder, format, asked.tolerance) for format in graphs for function in functions]
    signatures = [Signature.of(function, _outputs(function)) for function in functions] if graphs else []
    _copy_record(run, folder)
    weights = SAFETENSORS in asked.formats
    if weights:
        _write_weights(run, folder, asked.dtype)
    card = _card(run, folder, asked.licence, safetensors=weights, signatures=signatures, parities=parities)
    write_bytes(folder / CARD, card.to_markdown().encode("utf-8", "backslashreplace"))
    return [parity.sentence for parity in parities]


def _outputs(function: Any) -> Sequence[Any]:
    import torch

    with torch.no_grad():
        found = function.module(*function.inputs.values())
    return found if isinstance(found, tuple) else (found,)


def _examples(model: Any, data: Any) -> tuple[Any, Any]:
    """Images `(IMAGES, C, H, W)` and labels to try graphs on: the model's own samples, or noise where it has none."""
    import torch

    from vae_lightning.abilities import binarization_of, classes_of
    from vae_lightning.distributions.sampling import from_noise
    from vae_lightning.noise import generator
    from vae_lightning.types import LatentVariableModel

    source = generator("export", 0)
    y = torch.arange(IMAGES) % max(1, classes_of(model))
    if not isinstance(model, LatentVariableModel):
        shape = getattr(data, "image_shape", None) or getattr(model, "image_shape", None)
        if shape is None:
            raise ConfigurationError(f"neither the data nor the model say their image_shape: {kind_of(data)}, {kind_of(model)}")
        return torch.rand(IMAGES, *shape, generator=source).round(), y
    with torch.no_grad():
        label = y if classes_of(model) else None
        noise = torch.randn(IMAGES, model.latent_dim, generator=source)
        try:
            z = from_noise(model.prior(label), noise)
        except NotImplementedError:  # a prior of one's own that only samples itself
            z = noise
        mean = model.likelihood(z, label).mean.clamp(0, 1)
    return (mean if binarization_of(data) == "none" else torch.bernoulli(mean, generator=source)), y


def _write_weights(run: "LoadedRun", folder: Path, dtype: str | None) -> None:
    import torch

    from vae_lightning.machine.pretrained import write_pretrained

    moved = {"root": "data", "static_root": None}  # where they lie on the next machine is not known
    arguments = {key: moved.get(key, value) for key, value in run.data_arguments.items()}
    if isinstance(arguments.get("path"), str):
        arguments["path"] = Path(arguments["path"]).name
    write_pretrained(
        folder,
        run.model.state_dict(),
        {
            "model": {"_target_": run.config.model._target_, **run.model_arguments},
            "data": {"_target_": run.config.data._target_, **arguments},
            "training": {"epoch": run.epoch, "global_step": run.step, "settings": dict(run.trained_on)},
        },
        None if dtype is None else getattr(torch, dtype),
    )


def _copy_record(run: "LoadedRun", folder: Path) -> None:
    """Copy the training's metrics with their provenance, which an evaluation of the exported model shows."""
    from vae_lightning.machine.files import write_json

    record = _record(run)
    if record:
        write_json(folder / RECORD, record)


def _record(run: "LoadedRun") -> dict[str, Any]:
    """What the training recorded, its metrics only where they are of the weights that are exported."""
    from vae_lightning import runs
    from vae_lightning.runs.finding import tested

    record = runs.record(run.folder)
    if record and run.checkpoint.name != tested(run.folder).name:
        record["metrics"] = {}
    return record


def _card(run: "LoadedRun", folder: Path, licence: str, **rest: Any) -> "Card":
    from vae_lightning import runs
    from vae_lightning.abilities import binarization_of, classes_of, permutation_of
    from vae_lightning.export.card import Card
    from vae_lightning.models.pretrained import Pretrained, target_of
    from vae_lightning.reports.document import splits_of
    from vae_lightning.reports.folder import report_of
    from vae_lightning.runs.layout import EVALUATION
    from vae_lightning.version import __version__

    record, report = _record(run), report_of(run.folder / EVALUATION, run.digest)
    metrics = record.get("metrics")
    known = {key: value for key, value in metrics.items() if _is_finite(value)} if isinstance(metrics, dict) else {}
    estimates = {name: e for name, e in splits_of(report).get("test", {}).items() if _is_finite(e["value"])}
    return Card(
        title=run.folder.resolve().name,
        kind=type(run.model).__name__,
        module=target_of(type(run.model)).rpartition(".")[0] if isinstance(run.model, Pretrained) else None,
        parameters=sum(p.numel() for p in run.model.parameters()),
        dataset=str(getattr(run.data, "dataset", type(run.data).__name__)),
        binarization=binarization_of(run.data),
        latent_dim=getattr(run.model, "latent_dim", None),
        num_classes=classes_of(run.model),
        epoch=run.epoch + 1,
        step=run.step,
        estimates=estimates,
        metrics={key.removeprefix("test/"): value for key, value in known.items() if key.startswith("test/")},
        command=record.get("provenance", {}).get("command") or runs.asked_with(run.folder),
        provenance=record.get("provenance", {}),
        licence=licence,
        version=__version__,
        permuted=permutation_of(run.data) is not None,
        pictures=_pictures(report, run.folder / EVALUATION, folder),
        **rest,
    )


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _pictures(report: Mapping[str, Any], evaluation: Path, folder: Path) -> dict[str, str]:
    """Copy up to two figures of the evaluation beside the card; their captions by path."""
    drawn = [report["figures"][name] for name in SHOWN if name in report.get("figures", {})][:2]
    for figure in drawn:
        write_bytes(folder / figure["file"], (evaluation / figure["file"]).read_bytes())
    return {figure["file"]: figure["caption"] for figure in drawn}


# ---- settings and places


@dataclass(frozen=True)
class Asked:
    """What a command asks for, checked.

    >>> Asked.of({"format": "[onnx]", "tolerance": "1e-3"}).formats
    ('onnx',)
    """

    formats: Sequence[str]
    """Names among `FORMATS`."""
    tolerance: float
    """The largest difference of a graph that is accepted."""
    dtype: str | None
    """Torch's name for the numbers in model.safetensors; None: as they were trained."""
    licence: str
    """The weights' licence."""
    trust: Sequence[str]
    """Packages whose code the run may use."""

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Asked":
        """The values in `settings`.

        Raises:
            ConfigurationError: one is wrong; the message names its key.
        """
        formats = tuple(dict.fromkeys(list_of("format", settings["format"]))) if "format" in settings else DEFAULT
        for format in formats:
            if format not in FORMATS:
                raise ConfigurationError(f"format={format}: there is no such format; give some of {', '.join(FORMATS)}")
        dtype = settings.get("dtype")
        if dtype not in (None, *DTYPES):
            raise ConfigurationError(f"dtype={dtype}: must be one of {', '.join(DTYPES)}")
        if not settings.get("to", "x").strip():
            raise ConfigurationError("to: give a folder, or leave it out to write into the run's")
        if "licence" in settings and not re.fullmatch(r"[\w.+-]+", settings["licence"]):
            raise ConfigurationError(f"licence={settings['licence']}: must be an identifier such as mit or cc-by-4.0")
        trust = list_of("trust", settings["trust"]) if "trust" in settings else []
        return cls(formats, _tolerance(settings.get("tolerance")), dtype, settings.get("licence", "unknown"), trust)


def _tolerance(value: str | None) -> float:
    try:
        tolerance = 1e-4 if value is None else float(value)
    except ValueError:
        tolerance = -1.0
    if not 0 < tolerance < 1:
        raise ConfigurationError(f"tolerance={value}: must be a number between 0 and 1, such as 1e-4")
    return tolerance


def _require_place(target: Path, asked: str | None) -> None:
    """Refuse a folder that holds anything but an earlier export."""
    named = f"to={asked}" if asked else str(target)
    if target.is_symlink() or (target / "figures").is_symlink():
        link = target if target.is_symlink() else target / "figures"
        raise StorageError(f"{named}: {link} is a link, which is not written through; give a new folder: to=<folder>")
    if target.exists() and not target.is_dir():
        raise StorageError(f"{named}: is no folder")
    if target.is_dir() and any(target.iterdir()) and not _is_export(target):
        raise StorageError(f"{named}: holds other files than an earlier export; give a new folder: to=<folder>")


def _is_export(folder: Path) -> bool:
    """Whether the card in `folder` is one of ours, so that it may be replaced."""
    from vae_lightning.machine.pretrained import CARDS_BEGIN

    card = folder / CARD
    return card.is_file() and card.read_bytes().startswith(CARDS_BEGIN)


@contextmanager
def _filled(target: Path) -> Iterator[Path]:
    """A scratch folder whose files go to `target` when the block ends, in place of those of an earlier export; none if it fails.

    Raises:
        StorageError: `target` cannot be written, or another command exports there.
    """
    lock = FileLock(target.parent / f".{target.name}.lock", timeout=0)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        scratch = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except Timeout as error:
        raise StorageError(f"{target}: another command exports there; wait until it has ended, or give to=<folder>") from error
    except (OSError, NotImplementedError) as error:
        lock.release()
        raise StorageError(f"{target}: cannot be written to ({getattr(error, 'strerror', None) or one_line(error)})") from error
    try:
        yield scratch
        _replace_all(scratch, target)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{target}: could not be written ({error.strerror or one_line(error)})") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _replace_all(source: Path, target: Path) -> None:
    """Move all files from `source` to `target`, on the same disk, and then remove what an earlier export left there of others.

    The weights go first: a command that is killed in between leaves no new card beside old weights.
    """
    new = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    for name in sorted(new, key=lambda name: (name.suffix != ".safetensors", name.suffix not in (".onnx", ".pt2"), name)):
        with replacing(target / name) as unfinished:
            shutil.move(source / name, unfinished)
    for earlier in map(Path, OURS):
        if earlier not in new:
            (target / earlier).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
