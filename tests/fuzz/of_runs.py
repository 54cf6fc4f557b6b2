"""Run folders, checkpoints and reports, made up: what is put before those who read them."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as L
import torch
import yaml
from bad_input import CATALOGUES
from fuzz.answers import Target, answered, refused_in_one_line, unchanged
from fuzz.generated import DAMAGE, EDITS, EDITS_OF_A_CHECKPOINT, damaged, documents_of, edited, member_damaged
from hypothesis import strategies as st
from test_bad_input import content_of_checkpoint, trained, untrained

from vae_lightning import runs
from vae_lightning.callbacks import AtomicCheckpointIO
from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.config import check_config
from vae_lightning.commands.resuming import RESUMES, with_resumed
from vae_lightning.commands.trusted import TRUSTS
from vae_lightning.reports.folder import owned
from vae_lightning.reports.merging import is_report
from vae_lightning.runs.continuing import continuation, restoring
from vae_lightning.runs.history import asked_with, history, record

__all__ = ["checkpoint", "content", "documents", "report", "restored", "resumed", "run_folder", "state_of_training"]

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
