"""What is put before the loaders of run folder, checkpoint and data, and before the checker of a command's words.

A target takes what hypothesis makes up, and fails unless the answer is a result, or one line of an error of this project, and
nothing has been written. `test_fuzz.py` gives each some examples, or as many as there is time for; `guided.py` lets atheris choose
them by the code that they reach.
"""

import contextlib
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import hydra  # isort: skip
import numpy as np
import pytorch_lightning as L
import torch
import yaml
from bad_input import CATALOGUES, check, give, state
from conftest import data_root
from fuzz.generated import DAMAGE, EDITS, EDITS_OF_A_CHECKPOINT, damaged, documents_of, edited, member_damaged, words_of
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_bad_input import (
    GREY,
    TABLE,
    content_of_checkpoint,
    npy,
    npz,
    own_settings,
    picture,
    raw,
    require_one_line,
    trained,
    untrained,
)

from vae_lightning import runs
from vae_lightning.callbacks import AtomicCheckpointIO
from vae_lightning.commands.commandline import CONF, one_line_errors
from vae_lightning.commands.config import check_config
from vae_lightning.commands.resuming import RESUMES, with_resumed
from vae_lightning.commands.trusted import TRUSTS
from vae_lightning.data import ArrayDataModule, FolderDataModule, idx, larochelle, sources
from vae_lightning.errors import VAELightningError
from vae_lightning.figures.recording import read_recording
from vae_lightning.reports.folder import owned
from vae_lightning.reports.merging import is_report
from vae_lightning.runs.continuing import continuation, restoring
from vae_lightning.runs.history import asked_with, history, record

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """What is examined, and what it is given."""

    given: Mapping[str, st.SearchStrategy[Any]]
    """Strategies by the name of the argument."""
    examine: Callable[..., None]
    """Raises anything where the answer is none that it may be."""


LONGEST = 3000


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """A block that comes to its end, or is ended by an error of this project's in one line."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except VAELightningError as error:
        assert str(error).isprintable(), str(error)  # noqa: PT017
        assert len(str(error)) < LONGEST  # noqa: PT017


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """A block that changes nothing in a folder."""
    before = state(folder)
    yield
    assert state(folder) == before


# ---- run folders and checkpoints

CONFIG, CKPT, LAST = ".hydra/config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"
FILES = (CONFIG, CKPT, ".hydra/hydra.yaml", "metrics.json", "csv/metrics.csv", ".hydra/overrides.yaml", "tensorboard/events")


def run_with_records(folder: Path) -> Path:
    """A run folder of a small VAE, with all that a training writes."""
    run = untrained(folder)
    (run / "csv").mkdir()
    (run / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump(HYDRA))
    (run / ".hydra" / "overrides.yaml").write_text("- model=vae\n- seed=3\n")
    (run / "metrics.json").write_text('{"format": 2, "metrics": {"val/elbo": -90.0}, "provenance": {"command": "python train.py"}}')
    (run / "csv" / "metrics.csv").write_text("step,train/elbo,val/elbo\n1,-3.0,\n2,,-2.5\n")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run / "tensorboard")) as writer:
        writer.add_scalar("val/elbo", -90.0, 1)
    (events,) = (run / "tensorboard").iterdir()
    events.rename(run / FILES[-1])
    return run


HYDRA = {
    "hydra": {
        "runtime": {"cwd": "/tmp", "config_sources": [{"path": "hydra.conf", "provider": "hydra", "schema": "pkg"}]},
        "job": {"name": "train", "config_name": "train"},
        "overrides": {"hydra": ["hydra.job.chdir=false"], "task": ["model=vae", "seed=3"]},
    }
}


def opened(run: Path) -> runs.LoadedRun:
    """The run, as a command that evaluates it opens it; its records are read, too."""
    record(run), history(run), asked_with(run)
    return runs.load(*runs.find(str(run), None))


def run_folder(folder: Path) -> Target:
    """Damage to the bytes of any file of a run folder; that to its weights is seen."""
    run = run_with_records(folder)
    whole = {name: (run / name).read_bytes() for name in FILES}
    digest = opened(run).digest

    def examine(name: str, damage: Any) -> None:
        (run / name).write_bytes(damaged(whole[name], damage))
        try:
            with unchanged(folder), answered():
                assert opened(run).digest == digest, "damage that nobody has seen"
        finally:
            (run / name).write_bytes(whole[name])

    return Target({"name": st.sampled_from(FILES), "damage": DAMAGE}, examine)


TREES = (CONFIG, ".hydra/hydra.yaml", ".hydra/overrides.yaml", "metrics.json")
DOCUMENT = {"edits": EDITS, "flow": st.sampled_from((None, False, True)), "damage": st.one_of(st.just([]), DAMAGE)}


def trees_of(run: Path) -> dict[str, Any]:
    return {name: yaml.safe_load((run / name).read_text()) for name in TREES}


def documents(folder: Path) -> Target:
    """Any YAML and JSON in the place of a run folder's own."""
    run = run_with_records(folder)
    trees, whole = trees_of(run), {name: (run / name).read_bytes() for name in TREES}

    def examine(name: str, edits: Any, flow: bool | None, damage: Any) -> None:
        (run / name).write_bytes(documents_of(edited(trees[name], edits), name.rpartition(".")[2], flow, damage))
        try:
            with unchanged(folder), answered():
                opened(run)
        finally:
            (run / name).write_bytes(whole[name])

    return Target({"name": st.sampled_from(TREES), **DOCUMENT}, examine)


def resumed(folder: Path) -> Target:
    """A run folder with any YAML and JSON, as `train.py resume=` reads it, up to the parts that it would train."""
    run = run_with_records(folder)
    (run / "metrics.json").write_text('{"interrupted": true}')
    (run / CKPT).rename(run / LAST)
    trees, whole = trees_of(run), {name: (run / name).read_bytes() for name in TREES}

    def examine(name: str, edits: Any, flow: bool | None, damage: Any) -> None:
        (run / name).write_bytes(documents_of(edited(trees[name], edits), name.rpartition(".")[2], flow, damage))
        try:
            with unchanged(folder), contextlib.chdir(folder):
                refused_in_one_line(lambda: go_on(run))
        finally:
            (run / name).write_bytes(whole[name])

    return Target({"name": st.sampled_from(TREES), **DOCUMENT}, examine)


def go_on(run: Path) -> None:
    try:
        words = with_resumed([f"resume={run}"], CATALOGUES["train"])
        settings = [word for word in words if not word.startswith("-")]
        if len(settings) == len(words):  # else some other config is named, and looked for elsewhere
            with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
                check_config(hydra.compose("train", settings))
    finally:
        for variable in (RESUMES, TRUSTS):
            os.environ.pop(variable, None)


def checkpoint(folder: Path) -> Target:
    """Damage to what a checkpoint holds, whole by its checksums."""
    run = untrained(folder)
    whole = (run / CKPT).read_bytes()

    def examine(member: int, damage: Any) -> None:
        (run / CKPT).write_bytes(member_damaged(whole, member, damage))
        with unchanged(folder), answered():
            runs.load(*runs.find(str(run), None))

    return Target({"member": st.integers(0, 20), "damage": DAMAGE}, examine)


def content(folder: Path) -> Target:
    """A checkpoint with any plain values and tensors in it."""
    run, whole = untrained(folder), content_of_checkpoint()

    def examine(edits: Any) -> None:
        torch.save(edited({"global_step": 3, "epoch": 1, **whole}, edits), run / CKPT)
        with unchanged(folder), answered():
            runs.load(*runs.find(str(run), None))

    return Target({"edits": EDITS_OF_A_CHECKPOINT}, examine)


def state_of_training(folder: Path) -> Target:
    """A checkpoint of where a training stands with any plain values and tensors in it, for another to go on from."""
    last, trainer, model, data = trained(folder)
    whole = torch.load(last, weights_only=True)

    def examine(edits: Any) -> None:
        torch.save(edited(whole, edits), last)
        with unchanged(folder), answered():
            continuation(str(last), trainer, model, data)

    return Target({"edits": EDITS_OF_A_CHECKPOINT}, examine)


RESTORED = (
    "optimizer_states",
    "lr_schedulers",
    "callbacks",
    "loops",
    "vae_lightning",
    "Shapes2DDataModule",
    "pytorch-lightning_version",
)


def restored(folder: Path) -> Target:
    """A checkpoint with any plain values and tensors in a part of it, from which Lightning goes on for a step."""
    last, trainer, model, data = trained(folder)
    whole = torch.load(last, weights_only=True)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "default_root_dir": folder, "limit_train_batches": 1, "limit_val_batches": 0}

    def examine(part: str, edits: Any) -> None:
        torch.save({**whole, part: edited(whole[part], edits)}, last)
        with unchanged(folder), answered():
            going_on = continuation(str(last), trainer, model, data)
            again = L.Trainer(max_epochs=3, callbacks=[going_on], plugins=[AtomicCheckpointIO()], **quiet)
            with restoring(going_on, again):
                again.fit(model, data, ckpt_path=str(last), weights_only=True)

    return Target({"part": st.sampled_from(RESTORED), "edits": EDITS_OF_A_CHECKPOINT}, examine)


NLL = {"value": 90.0, "standard_error": 1.0, "num_images": 100, "num_samples": 10, "seconds": 1.0, "seed": 0, "settings": {"a": 1}}
NLL |= {"binarization": "dynamic", "estimator": "importance sampling", "section": "likelihood"}
FIGURE = {"file": "figures/a.png", "caption": "Some.", "settings": {}}
REPORT = {
    **{"format": 2, "weights": {"file": "best.ckpt", "sha256": "ab", "epoch": 1, "step": 3}, "splits": {"test": {"nll": NLL}}},
    **{"other_settings": {"test": {"nll": [NLL]}}, "figures": {"a": FIGURE}, "parts": ["probes"], "not_drawn": {"b": "why"}},
}


def report(folder: Path) -> Target:
    """Any JSON in the place of an earlier report of the same weights, to which an evaluation adds."""
    (folder / "figures").mkdir(parents=True)
    weights = REPORT["weights"]
    assert is_report(REPORT)

    def examine(edits: Any, damage: Any) -> None:
        (folder / "report.json").write_bytes(documents_of(edited(REPORT, edits), "json", None, damage))
        with answered(), owned(folder, weights) as place:  # type: ignore[arg-type]
            place.write({**REPORT, "not_drawn": {"c": "why"}}, lambda both: [])
        shutil.rmtree(folder / "earlier", ignore_errors=True)

    return Target({"edits": EDITS, "damage": st.one_of(st.just([]), DAMAGE)}, examine)


# ---- data


def array(folder: Path) -> Target:
    """Damage to arrays and to what is in them, and arrays of any type and shape."""
    files = [npy(GREY), npz(x=GREY, y=np.arange(20) % 2), npy(GREY / 255), npz(x_train=GREY, x_test=GREY, y_train=np.arange(20))]
    spoilt = st.builds(damaged, st.sampled_from(files), DAMAGE)
    within = st.builds(
        member_damaged, st.sampled_from([file for file in files if file.startswith(b"PK")]), st.integers(0, 3), DAMAGE
    )
    kinds = st.one_of(arrays.scalar_dtypes(), arrays.unicode_string_dtypes(), arrays.byte_string_dtypes())
    any_array = arrays.arrays(kinds, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    names = st.sampled_from(("x", "y", "images", "labels", "x_train", "y_train", "x_test", "y_test", "x_val", "arr_0", "z"))
    made = st.one_of(any_array.map(npy), st.dictionaries(names, any_array, max_size=4).map(lambda held: npz(**held)))

    def examine(content: bytes, splits: str, size: int | None, channels: int | None) -> None:
        (folder / "a.npz").write_bytes(content)
        with unchanged(folder), answered():
            options: Any = {"splits": splits, "size": size, "channels": channels}
            data = ArrayDataModule(path=str(folder / "a.npz"), binarization="none", **options)
            data.evaluation_images("test")

    options = {
        "splits": st.sampled_from(("auto", "seed", "given")),
        "size": st.sampled_from((None, None, 4)),
        "channels": st.sampled_from((None, None, 1, 3)),
    }
    return Target({"content": st.one_of(spoilt, within, made), **options}, examine)


def pictures(folder: Path) -> Target:
    """Damage to pictures of every kind that is read."""
    kinds = [picture(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "PPM", "WEBP")]
    kinds += [picture("PNG", mode) for mode in ("RGB", "RGBA", "P", "1", "LA", "I;16")] + [
        picture("TIFF", "RGB", compression="tiff_lzw")
    ]
    for number in range(9):
        (folder / f"a{number}.png").write_bytes(picture())

    def examine(content: bytes, size: int | None) -> None:
        (folder / "odd.png").write_bytes(content)
        with unchanged(folder), answered():
            FolderDataModule(path=str(folder), binarization="none", size=size).evaluation_images("test")

    return Target({"content": st.builds(damaged, st.sampled_from(kinds), DAMAGE), "size": st.sampled_from((None, 8, 5))}, examine)


def raw_files(folder: Path) -> Target:
    """Damage to MNIST-like raw files and to the record of their digests, and any IDX file."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        raw(lambda files: files, patch, folder)
        counts = sources.COUNTS
    place = folder / "KMNIST" / "raw"
    names = sorted(path.name for path in place.iterdir())
    (place / sources.CHECKSUMS).write_text('{"train-labels-idx1-ubyte": "' + "0" * 32 + '"}')
    whole = {name: (place / name).read_bytes() for name in [*names, sources.CHECKSUMS]}
    (place / sources.CHECKSUMS).unlink()

    def examine(name: str, damage: Any) -> None:
        spoilt = damaged(whole[name], damage)
        with contextlib.suppress(ValueError):
            idx.parse(spoilt)
        (place / name).write_bytes(spoilt)
        try:
            with pytest.MonkeyPatch.context() as patch, unchanged(folder), answered():
                patch.setattr(sources, "COUNTS", counts)
                sources.read("kmnist", folder, fetch=False)
        finally:
            (place / sources.CHECKSUMS).unlink(missing_ok=True)
            if name in names:
                (place / name).write_bytes(whole[name])

    return Target({"name": st.sampled_from(list(whole)), "damage": DAMAGE}, examine)


def packed(folder: Path) -> Target:
    """Damage to what is packed: Larochelle's pixels as MATLAB has them and their labels, and the frames of a training."""
    import scipy.io

    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.zeros((10, 784), np.uint8)}, do_compression=True)
    pixels = file.getvalue()
    frame = npz(reconstructions=GREY, decoded=GREY, z=np.zeros((20, 2), np.float32), labels=np.arange(20), epoch=np.array(1.0))
    for number in range(2):
        (folder / f"step_{number}.npz").write_bytes(frame)
    assert len(read_recording(folder).epochs) == 2

    def examine(member: int | None, damage: Any) -> None:
        with answered():
            assert larochelle._verified(damaged(pixels, damage), "train") is None
        (folder / "step_1.npz").write_bytes(damaged(frame, damage) if member is None else member_damaged(frame, member, damage))
        (folder / larochelle.LABELS).write_bytes((folder / "step_1.npz").read_bytes())
        with unchanged(folder), answered():
            assert larochelle._kept_labels(folder) is None
            read_recording(folder)

    return Target({"member": st.one_of(st.none(), st.integers(0, 4)), "damage": DAMAGE}, examine)


# ---- words


def refused_in_one_line(command: Callable[[], None]) -> None:
    """Give a command, which is well or ends with status 2 and one line of an error."""
    said = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(said):
        warnings.simplefilter("ignore")
        try:
            with one_line_errors():
                command()
        except SystemExit as end:
            assert end.code == 2, said.getvalue()  # noqa: PT017
            errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
            require_one_line("\n".join(errors))


def typed(script: str) -> list[str]:
    """The words of the catalogue's commands."""
    return [word for of, words, _ in TABLE if of == script for word in words.split(" ")]


def words(folder: Path) -> Target:
    """Words of a training: as the catalogue has them, made of real keys and options, or any text."""
    root = data_root()

    def examine(words: list[str]) -> None:
        with unchanged(folder), contextlib.chdir(folder):
            refused_in_one_line(lambda: check(words, own_settings("train", words, folder, root)))

    return Target({"words": words_of("train", typed("train"))}, examine)


def words_of_an_evaluation(folder: Path) -> Target:
    """Words of an evaluation, of a run whose data are not there, so that it ends before it writes."""
    run = untrained(folder)

    def examine(words: list[str]) -> None:
        with unchanged(folder), contextlib.chdir(folder):
            refused_in_one_line(lambda: give("evaluate", [f"run={run}", *words], own_settings("evaluate", words, folder, folder)))

    return Target({"words": words_of("evaluate", typed("evaluate"))}, examine)


TARGETS: dict[str, Callable[[Path], Target]] = {
    "run_folder": run_folder,
    "documents": documents,
    "resumed": resumed,
    "checkpoint": checkpoint,
    "content": content,
    "state_of_training": state_of_training,
    "restored": restored,
    "report": report,
    "array": array,
    "pictures": pictures,
    "raw_files": raw_files,
    "packed": packed,
    "words": words,
    "words_of_an_evaluation": words_of_an_evaluation,
}
"""Each is made in an empty folder, which it then leaves as it made it."""
