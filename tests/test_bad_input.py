"""A catalogue of malformed input: each is answered with one line that names the key or file, status 2, and nothing is written or lost.

The commands stand in `bad_input.tsv`, one a line: script, words, and how the line of the error begins.
"""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_lightning.machine import torchvision_compat  # noqa: F401  (before anything that imports Lightning)

import numpy as np  # isort: skip
import pytest
import pytorch_lightning as L
import torch
import yaml
from bad_input import give, state
from conftest import QUICK, REPOSITORY
from PIL import Image

from vae_lightning import VAE, runs
from vae_lightning.data import ArrayDataModule, FolderDataModule, Shapes2DDataModule, sources
from vae_lightning.data.root import FILES
from vae_lightning.errors import CheckpointError, DataError, VAELightningError
from vae_lightning.runs.continuing import continuation

TABLE = [line.split("\t") for line in Path(__file__).with_name("bad_input.tsv").read_text().splitlines()]
LANES = ((), pytest.mark.slow, pytest.mark.slow, (pytest.mark.slow, pytest.mark.exhaustive))
COMMANDS = [pytest.param(*row, id=" ".join(row[:2]), marks=LANES[place % 4]) for place, row in enumerate(TABLE)]
"""Every fourth is quick enough for `make test`, two come with the slow ones, and one with those of every combination."""


def own_settings(script: str, words: list[str], folder: Path, root: Path) -> list[str]:
    """Settings that make a command quick and let it write into `folder` alone, without those that its own words say."""
    if script == "evaluate":
        return [] if any(word.startswith("gpus=") for word in words) else ["gpus=0"]
    settings = [f"run_dir={folder}/run", "name=test", f"data.root={root}", *QUICK, "logger=none", "model.net.hidden=[8]"]
    said = " ".join(words)
    left_out = {word.lstrip("+").partition("=")[0] for word in words}
    left_out |= {"model.net.hidden"} if any(word in said for word in ("model/net", "model.net", "model=cnn")) else set()
    left_out |= {"logger"} if "logger" in said else set()
    left_out |= {"data.root"} if any(f"data={kind}" in said for kind in ("folder", "array", "shapes2d")) else set()
    return [setting for setting in settings if setting.partition("=")[0] not in left_out]


def require_one_line(said: str, beginning: str = "") -> None:
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    assert lines[0].startswith(f"error: {beginning}"), said
    assert lines[0].isprintable()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("script", "words", "beginning"), COMMANDS)
def test_command(
    script: str,
    words: str,
    beginning: str,
    mnist_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.chdir(tmp_path)
    typed = words.split(" ") if "'a b'" not in words else ["run=x", "trust=['a b']"]
    with pytest.raises(SystemExit) as end:
        give(script, typed, own_settings(script, typed, tmp_path, mnist_root))
    assert end.value.code == 2
    require_one_line(capsys.readouterr().err, beginning)
    assert state(tmp_path) == {}


def test_catalogue_is_as_large_as_it_should_be() -> None:
    assert len({tuple(row[:2]) for row in TABLE}) == len(TABLE) >= 300


# ---- configs of a user's own

CONFIGS = {
    "": "needs a _target_|model",
    "\t: x": "no YAML|scan",
    "a: [": "no YAML",
    "a: 1\na: 2": "duplicate key",
    "- 1": "",
    "text": "",
    "3": "mine.yaml: holds no settings",
    "_target_: nix": "model._target_=nix: there is no package nix",
    "_target_: [1]": "model._target_=",
    "_target_: vae_lightning.models.VAE\nlatent_dmi: 3": "model.latent_dmi: no such key; did you mean model.latent_dim?",
    "_target_: vae_lightning.models.VAE\nlatent_dim: x": "model.latent_dim='x': input should be a valid integer",
    "_target_: vae_lightning.models.VAE\nlatent_dim: ${nix}": "model.latent_dim: Interpolation key 'nix' not found",
    "_target_: vae_lightning.models.VAE\nlatent_dim: ${": "model.latent_dim|${",
    "_target_: vae_lightning.models.VAE\nlatent_dim: ???": "model.latent_dim",
    "_target_: vae_lightning.models.VAE\n3: 4": "model.3|latent_dim",
    "defaults: nix": "defaults",
    "defaults: [nix]": "nix",
    "defaults: [{nix: mlp}]": "nix",
    "defaults: [{override nix: mlp}]": "nix",
    "defaults: [{net: nix}]\n_target_: vae_lightning.models.VAE": "model/net=nix: unknown",
    "defaults: 3": "defaults",
    "!!python/object/apply:os.system ['true']": "no YAML|constructor",
    "a: !nix 3": "no YAML|constructor",
    "\x00": "no YAML|special characters",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("content", CONFIGS)
def test_config_of_ones_own(
    content: str, mnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    path = tmp_path / "conf" / "model" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    before = state(tmp_path)
    settings = [
        f"hydra.searchpath=[file://{tmp_path}/conf]",
        f"run_dir={tmp_path}/run",
        "name=test",
        f"data.root={mnist_root}",
        *QUICK,
    ]
    with pytest.raises(SystemExit) as end:
        give("train", ["model=mine"], settings)
    assert end.value.code == 2
    said = capsys.readouterr().err
    require_one_line(said)
    assert any(part in said for part in CONFIGS[content].split("|")), said
    assert state(tmp_path) == before


# ---- run folders and checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return untrained(tmp_path)


def untrained(above: Path) -> Path:
    """A run folder of a small VAE that was not trained, made below a folder."""
    folder = above / "run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    data = {"_target_": "vae_lightning.data.MNISTDataModule", "root": "data"}
    config = {"seed": 3, "model": {"_target_": "vae_lightning.models.VAE", "latent_dim": 2}, "data": data}
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    save(folder)
    return folder


def content_of_checkpoint() -> dict[str, Any]:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
    stamp = {"format": 1, "version": "0.1.0"}
    return {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "vae_lightning": stamp}


def save(folder: Path, **changes: object) -> None:
    torch.save({**content_of_checkpoint(), **changes}, folder / "checkpoints" / "best.ckpt")


def config(folder: Path, **changes: Any) -> None:
    path = folder / ".hydra" / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def data_of(**changes: Any) -> dict[str, Any]:
    return {"_target_": "vae_lightning.data.MNISTDataModule", "root": "data", **changes}


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((path := folder / name).read_bytes()[: int(share * path.stat().st_size)])


def flip(share: float) -> Callable[[Path], object]:
    def of(folder: Path) -> None:
        path = folder / "checkpoints" / "best.ckpt"
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 0x10
        path.write_bytes(content)

    return of


def changed(**changes: object) -> Callable[[Path], object]:
    return lambda folder: save(folder, **changes)


def described(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: config(folder, **changes)


def linked(name: str, target: str) -> Callable[[Path], object]:
    def of(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(target)

    return of


CKPT, CONFIG = "checkpoints/best.ckpt", ".hydra/config.yaml"
STATE = content_of_checkpoint()["state_dict"]
HPARAMS = content_of_checkpoint()["hyper_parameters"]
RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), "there is no such folder"),
    "a file": (lambda folder: (shutil.rmtree(folder), folder.write_text("x")), "is not in a run folder"),
    "an empty folder": (lambda folder: (shutil.rmtree(folder), folder.mkdir()), "is not a run folder"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "is not a run folder"),
    "no checkpoint": (lambda folder: (folder / CKPT).unlink(), "has no checkpoint"),
    "no folder of checkpoints": (lambda folder: shutil.rmtree(folder / "checkpoints"), "has no checkpoint"),
    "another checkpoint": (lambda folder: (folder / CKPT).rename(folder / "checkpoints" / "a.ckpt"), "choose: ckpt_path="),
    "a folder as checkpoint": (lambda folder: ((folder / CKPT).unlink(), (folder / CKPT).mkdir()), "has neither best.ckpt"),
    "a link to nothing": (linked(CKPT, "nothing"), "has neither best.ckpt"),
    "a link to a device": (linked(CKPT, "/dev/zero"), "has neither best.ckpt"),
    "a link in a circle": (linked(CKPT, "best.ckpt"), "has neither best.ckpt"),
    "config that is empty": (write(CONFIG, b""), "has no model and data"),
    "config that is binary": (write(CONFIG, bytes(range(256))), "cannot be read"),
    "config of nulls": (write(CONFIG, bytes(100)), "cannot be read"),
    "config that is JSON": (write(CONFIG, b"{}"), "has no model and data"),
    "config that is half": (cut(CONFIG, 0.4), "config.yaml"),
    "config that is a list": (write(CONFIG, b"- 1\n"), "has no model and data"),
    "config with tabs": (write(CONFIG, b"model:\n\t_target_: x\n"), "cannot be read (ScannerError)"),
    "config with a key twice": (write(CONFIG, b"a: 1\na: 2\n"), "cannot be read (ConstructorError)"),
    "config with an object": (write(CONFIG, b"a: !!python/name:os.system\n"), "cannot be read (ConstructorError)"),
    "config in UTF-16": (write(CONFIG, "model: 3".encode("utf-16")), "cannot be read"),
    "config with a date": (write(CONFIG, b"model: 2020-01-01\ndata: {}\n"), "has no model and data"),
    "no model in the config": (described(model=None), "has no model and data"),
    "model as text": (described(model="vae"), "has no model and data"),
    "data as a number": (described(data=3), "has no model and data"),
    "model without a class": (described(model={}), "its model._target_=None"),
    "model of nobody": (described(model={"_target_": "nobody.Model"}), "trust=[nobody]"),
    "model that is no class": (described(model={"_target_": "vae_lightning.models"}), "its model._target_=vae_lightning.models"),
    "model of another kind": (described(model={"_target_": "torch.nn.Linear"}), "is not a LightningModule; refused"),
    "model of a class that was": (described(model={"_target_": "vae_lightning.models.Was"}), "vae_lightning.models has no Was"),
    "data of another kind": (described(data={"_target_": "vae_lightning.models.VAE"}), "is not a LightningDataModule; refused"),
    "data with an unknown key": (
        described(data=data_of(bach_size=3)),
        "data.bach_size: no such key; did you mean data.batch_size?",
    ),
    "data with a wrong type": (described(data=data_of(batch_size="x")), "data.batch_size='x'"),
    "data out of range": (described(data=data_of(val_size=60_000)), "data.val_size=60000"),
    "data with a number for a path": (described(data=data_of(root=3)), "data.root=3"),
    "data that asks the environment": (described(data=data_of(root="${oc.env:HOME}")), "root=<folder>"),
    "data that refers to nothing": (described(data=data_of(root="${nix}")), "data.root cannot be resolved (there is no nix)"),
    "data that is not set": (described(data=data_of(root="???")), "data.root cannot be resolved"),
    "data that refers to itself": (described(data=data_of(root="${data.root}")), "data.root cannot be resolved"),
    "checkpoint that is empty": (write(CKPT, b""), "is damaged"),
    "checkpoint of text": (write(CKPT, b"not a checkpoint"), "is damaged"),
    "checkpoint of nulls": (write(CKPT, bytes(10_000)), "is damaged"),
    "checkpoint that is a pickle": (write(CKPT, pickle.dumps({"state_dict": {}})), "is damaged"),
    "checkpoint that is half": (cut(CKPT, 0.5), "is damaged"),
    "checkpoint without its last byte": (cut(CKPT, 0.9999), "is damaged"),
    "checkpoint that is another zip": (lambda folder: zipfile.ZipFile(folder / CKPT, "w").close(), "is damaged"),
    **{f"checkpoint with a flipped bit at {share}": (flip(share), "best.ckpt: is ") for share in (0.1, 0.3, 0.5, 0.7, 0.9)},
    "checkpoint of a list": (lambda folder: torch.save([1], folder / CKPT), "is not a checkpoint of this project"),
    "checkpoint of weights alone": (lambda folder: torch.save(STATE, folder / CKPT), "is not a checkpoint of this project"),
    "checkpoint of a model": (
        lambda folder: torch.save(torch.nn.Linear(1, 1), folder / CKPT),
        "more than weights and plain values",
    ),
    "no weights": (changed(state_dict={}), "its model cannot be built here: Error(s) in loading state_dict"),
    "weights as a list": (changed(state_dict=[1]), "is not a checkpoint of this project"),
    "weights of text": (changed(state_dict=dict.fromkeys(STATE, "x")), "its model cannot be built here"),
    "one weight too many": (changed(state_dict={**STATE, "x": torch.zeros(1)}), "Unexpected key(s)"),
    "weights of another shape": (changed(state_dict={k: v[..., :1] for k, v in STATE.items()}), "size mismatch"),
    "weights nowhere": (changed(state_dict={k: v.to("meta") for k, v in STATE.items()}), "on the device meta"),
    "weights that claim more": (
        changed(state_dict={**STATE, "x": torch.zeros(1).expand(10**12)}),
        "claims 1,000,000,000,000 elements",
    ),
    "no arguments": (changed(hyper_parameters=None), "is not a checkpoint of this project"),
    "arguments as a list": (changed(hyper_parameters=[1]), "is not a checkpoint of this project"),
    "arguments with an unknown one": (changed(hyper_parameters={**HPARAMS, "latent_dmi": 2}), "model.latent_dmi: no such key"),
    "arguments with a wrong type": (changed(hyper_parameters={**HPARAMS, "latent_dim": "2"}), "model.latent_dim='2'"),
    "arguments out of range": (changed(hyper_parameters={**HPARAMS, "latent_dim": 0}), "model.latent_dim=0"),
    "arguments of another size": (changed(hyper_parameters={**HPARAMS, "latent_dim": 3}), "size mismatch"),
    "arguments of no memory's size": (changed(hyper_parameters={**HPARAMS, "latent_dim": 10**9}), "far more numbers than"),
    "arguments with somebody's net": (changed(hyper_parameters={**HPARAMS, "net": {"name": "their.Net"}}), "trust=[their]"),
    "arguments that run a command": (changed(hyper_parameters={**HPARAMS, "net": {"name": "os.system"}}), "refused"),
    "arguments with a net of numbers": (changed(hyper_parameters={**HPARAMS, "net": 3}), "model.net"),
    "a step of text": (changed(global_step="x"), "its global_step is 'x'"),
    "a step before the first": (changed(global_step=-1), "its global_step is -1"),
    "an epoch of no size": (changed(epoch=10**40), "its epoch is 1000"),
    "no version": (changed(vae_lightning={}), "has checkpoint format None"),
    "a version of the future": (changed(vae_lightning={"format": 99, "version": "9.9"}), "evaluate it with vae_lightning 9.9"),
    "a version that is a tensor": (changed(vae_lightning={"format": torch.zeros(0)}), "has checkpoint format tensor([])"),
    "a version of text": (changed(vae_lightning="x"), "is no mapping"),
    "settings of text": (changed(x={"settings": "x"}, state_dict={}), "its model cannot be built here"),
}


@pytest.mark.parametrize("name", RUNS)
def test_run_folder(name: str, run: Path) -> None:
    spoil, part = RUNS[name]
    spoil(run)
    before = state(run.parent)
    with pytest.raises(VAELightningError) as refused:
        runs.load(*runs.find(str(run), None))
    said = str(refused.value)
    assert part in said, said
    assert str(run) in said or "run=" in said
    assert said.isprintable()
    assert len(said) < 1500
    assert state(run.parent) == before


# ---- checkpoints of where a training stands


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, L.Trainer, VAE, Shapes2DDataModule]:
    """The checkpoint of a training of two steps, and what could go on from it."""
    return trained(tmp_path_factory.mktemp("training"))


def trained(folder: Path) -> tuple[Path, L.Trainer, VAE, Shapes2DDataModule]:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    data = Shapes2DDataModule(train_size=40, val_size=10, test_size=10, batch_size=20)
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}, image_shape=data.image_shape)
    trainer, longer = (
        L.Trainer(max_epochs=epochs, enable_checkpointing=False, default_root_dir=folder, **quiet) for epochs in (1, 3)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, data)
        trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt", longer, model, data


NOTHING, LINES = torch.zeros(0), torch.zeros(2, 2)
SPARSE = torch.eye(2).to_sparse()
STATES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no loops": (lambda state: state.pop("loops"), "holds weights without the state of their training"),
    "loops of a tensor": (lambda state: state.update(loops=NOTHING), "holds weights without the state of their training"),
    "a fit that is a tensor": (lambda state: state["loops"].update(fit_loop=NOTHING), "holds weights without the state"),
    "an optimizer of text": (lambda state: state.update(optimizer_states=["x"]), "is damaged (TypeError"),
    "callbacks as a list": (lambda state: state.update(callbacks=[]), "is damaged (TypeError"),
    "weights without shapes": (lambda state: state["state_dict"].update(x=3), "is damaged (AttributeError"),
    "weights with a name of two lines": (lambda state: state["state_dict"].update({"a\nb": LINES}), "a b: the checkpoint has"),
    "a model that is a tensor": (
        lambda state: state["vae_lightning"].update(model=LINES),
        "is of model tensor([[0., 0.], [0., 0.]]), asked",
    ),
    "an argument that is a tensor": (
        lambda state: state["hyper_parameters"].update(likelihood=LINES),
        "the checkpoint has tensor([[0., 0.]",
    ),
    "an argument of no number": (lambda state: state["hyper_parameters"].update(prior=NOTHING), "the checkpoint has tensor([])"),
    "a sparse argument": (lambda state: state["hyper_parameters"].update(latent_dim=SPARSE), "is of another model"),
    "settings of tensors": (
        lambda state: state.update(x={"settings": {"val_size": LINES}}, Shapes2DDataModule={}),
        "the checkpoint was trained with tensor([[0., 0.], [0., 0.]])",
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_state_of_a_training(
    name: str, training: tuple[Path, L.Trainer, VAE, Shapes2DDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, part = STATES[name]
    whole, trainer, model, data = training
    content = torch.load(whole, weights_only=True)
    spoil(content)
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(VAELightningError) as refused:
        continuation(str(tmp_path / "last.ckpt"), trainer, model, data)
    require_said(str(refused.value), part)


def test_argument_of_no_importance_that_is_a_tensor_is_another_one(
    training: tuple[Path, L.Trainer, VAE, Shapes2DDataModule], tmp_path: Path
) -> None:
    """As a model of somebody's own may save one."""
    whole, trainer, model, data = training
    content = torch.load(whole, weights_only=True)
    content["hyper_parameters"]["optimizer"] = LINES
    torch.save(content, tmp_path / "last.ckpt")
    changed = continuation(str(tmp_path / "last.ckpt"), trainer, model, data).record()["changed"]
    assert "tensor([[0., 0.], [0., 0.]])" in json.dumps(changed)


# ---- data files


def npy(array: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def header(text: str, content: bytes = b"") -> bytes:
    """A `.npy` file of any header."""
    line = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line + content


GREY = np.arange(20 * 8 * 8, dtype=np.uint8).reshape(20, 8, 8)
ARRAYS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is neither a .npy nor a .npz file"),
    "text": (b"1,2,3", "is neither a .npy nor a .npz file"),
    "a pickle": (pickle.dumps([1, 2]), "is neither a .npy nor a .npz file"),
    "half": (npy(GREY)[:500], "is truncated or damaged"),
    "a header alone": (npy(GREY)[:40], "is truncated or damaged"),
    "objects": (npy(np.array([{}, []], dtype=object)), "holds Python objects, which are not read"),
    "objects among others": (npz(x=np.array([{}], dtype=object)), "holds Python objects, which are not read"),
    "one dimension": (npy(GREY.ravel()), "has shape (1280,)"),
    "five dimensions": (npy(GREY.reshape(20, 8, 8, 1, 1)), "has shape (20, 8, 8, 1, 1)"),
    "a number": (npy(3.0), "has shape ()"),
    "no images": (npy(GREY[:0]), "so there is no image in it"),
    "one image": (npy(GREY[:1]), ""),
    "one image in colour": (npy(np.zeros((8, 8, 3), np.uint8)), "as one image (H, W, C) has"),
    "four channels": (npy(np.zeros((9, 8, 8, 4), np.uint8)), "with 1 or 3 channels"),
    "0 and 1 as bytes": (npy(GREY % 2), "holds 0 and 1 as uint8"),
    "integers": (npy(GREY.astype(np.int64)), "save .astype(np.uint8)"),
    "large integers": (npy(GREY.astype(np.int32) * 1000), "scale them to 0 to 255 first"),
    "floats to 255": (npy(GREY.astype(np.float32)), "divide by 255"),
    "negative floats": (npy(GREY.astype(np.float64) - 3), "not in [0, 1]"),
    "not a number": (npy(np.full((20, 8, 8), np.nan)), "image 0 holds values that are not finite"),
    "infinity": (npy(np.full((20, 8, 8), np.inf)), "not finite"),
    "complex numbers": (npy(GREY.astype(np.complex64)), "holds complex64"),
    "texts": (npy(np.full((2, 8, 8), "a")), "holds <U1"),
    "dates": (npy(np.zeros((3, 8, 8), "datetime64[s]")), "holds datetime64[s]"),
    "records": (npy(np.zeros((3, 8, 8), [("a", "u1")])), "holds [('a', 'u1')]"),
    "a claim of 10^12 images": (
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 8, 8), }"),
        "its header claims",
    ),
    "a negative shape": (header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8), }"), "path="),
    "code in a header": (header("__import__('os').system('touch executed')"), "is truncated or damaged"),
    "a header of no dict": (header("[1, 2]"), "is truncated or damaged"),
    "a header of another version": (b"\x93NUMPY\x09\x00" + bytes(100), "is truncated or damaged"),
    "labels of another number": (npz(x=GREY, y=np.arange(3)), "has shape (3,), and there are 20 images"),
    "labels of floats": (npz(x=GREY, y=np.zeros(20)), "holds float64; labels are whole numbers"),
    "negative labels": (npz(x=GREY, y=np.full(20, -1)), "holds -1"),
    "labels of one hot": (npz(x=GREY, y=np.eye(20)), "save .argmax(1)"),
    "huge labels": (npz(x=GREY, y=np.full(20, 2**64 - 1, np.uint64)), "more than an int64 can hold"),
    "unknown names": (npz(a=GREY, b=GREY), "none is called as images are"),
    "no arrays": (npz(), "holds no arrays"),
    "a test split alone": (npz(x_test=GREY), ""),
    "splits of different shapes": (npz(x_train=GREY, x_test=GREY[:, :4]), "its splits have images of different shapes"),
    "half a zip": (npz(x=GREY)[:900], "is truncated or damaged"),
    "a zip of text": (b"PK\x03\x04 and so on", "is truncated or damaged"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_array(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, part = ARRAYS[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with pytest.raises(VAELightningError) as refused:
        ArrayDataModule(path=str(path), binarization="none").evaluation_images("test")
    require_said(str(refused.value), part, "path=" if "size" not in str(refused.value) else "size")
    assert state(tmp_path) == {"images.npz": state(tmp_path)["images.npz"]}


def require_said(said: str, *parts: str) -> None:
    assert all(part in said for part in parts), said
    assert said.isprintable()
    assert len(said) < 1500


def picture(form: str = "PNG", mode: str = "L", size: tuple[int, int] = (8, 8), **more: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, 100 if mode not in ("RGB", "RGBA") else None).save(file, form, **more)
    return file.getvalue()


def huge_png() -> bytes:
    """A PNG whose header claims 100,000 x 100,000 pixels."""
    content = bytearray(picture())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


PICTURES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is no image that can be read"),
    "text": (b"text", "is no image that can be read"),
    "a page": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no image that can be read"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "is no image that can be read"),
    "half": (picture(size=(64, 64))[:60], "odd.png: "),
    "half of a JPEG": (picture("JPEG", size=(64, 64))[:200], "odd.png: "),
    "more bits": (picture(mode="I;16"), "more than 8 bits a channel"),
    "floats": (picture("TIFF", "F"), "more than 8 bits a channel"),
    "several frames": (picture("GIF", save_all=True, append_images=[Image.new("L", (8, 8), 9)]), "holds 2 frames"),
    "another size": (picture(size=(9, 8)), "has 8 x 9 pixels"),
    "colour among grey": (picture(mode="RGB"), "is colour, and"),
    "transparent": (picture(mode="RGBA"), "odd.png: "),
    "a claim of 10^10 pixels": (huge_png(), "odd.png: "),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(name: str, tmp_path: Path) -> None:
    content, part = PICTURES[name]
    for number in range(9):
        (tmp_path / f"a{number}.png").write_bytes(picture())
    (tmp_path / "odd.png").write_bytes(content)
    before = state(tmp_path)
    with pytest.raises(DataError) as refused:
        FolderDataModule(path=str(tmp_path), binarization="none").evaluation_images("test")
    require_said(str(refused.value), part, "odd.png")
    assert state(tmp_path) == before


def raw(changes: Callable[[dict[str, bytes]], object], monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """The raw files of a small KMNIST, changed, in `root`."""
    from vae_lightning.data import idx

    monkeypatch.setattr(sources, "COUNTS", {"train": 20, "test": 10})
    files = {}
    for split, count in sources.COUNTS.items():
        images, labels = FILES[split]
        files[images] = idx.pack(np.zeros((count, 28, 28), np.uint8))
        files[labels] = idx.pack(np.zeros(count, np.uint8))
    changes(files)
    (root / "KMNIST" / "raw").mkdir(parents=True)
    for name, content in files.items():
        (root / "KMNIST" / "raw" / name).write_bytes(content)


IMAGES, LABELS = FILES["train"]
RAW: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "one is missing": (lambda files: files.pop(IMAGES), "is missing"),
    "one is empty": (lambda files: files.update({IMAGES: b""}), "is not an IDX file"),
    "one is text": (lambda files: files.update({IMAGES: b"text"}), "is not an IDX file"),
    "one is a page": (lambda files: files.update({IMAGES: b"<html>404</html>"}), "is not an IDX file"),
    "one is cut": (lambda files: files.update({IMAGES: files[IMAGES][:-9]}), "is truncated or damaged"),
    "one is cut in its header": (lambda files: files.update({IMAGES: files[IMAGES][:9]}), "is truncated in its header"),
    "one is too long": (lambda files: files.update({IMAGES: files[IMAGES] + b"x"}), "is truncated or damaged"),
    "one claims more": (lambda files: files.update({IMAGES: b"\0\0\x08\x03" + b"\xff" * 12}), "is truncated or damaged"),
    "one is of floats": (lambda files: files.update({IMAGES: b"\0\0\x0d" + files[IMAGES][3:]}), "IDX type 0x0d"),
    "labels for images": (lambda files: files.update({IMAGES: files[LABELS]}), "holds an array of shape (20,)"),
    "images for labels": (lambda files: files.update({LABELS: files[IMAGES]}), "holds an array of shape (20, 28, 28)"),
    "too few": (lambda files: files.update({LABELS: files[FILES["test"][1]]}), "holds 10 entries"),
    "labels above 9": (lambda files: files.update({LABELS: files[LABELS][:-1] + b"\x63"}), "labels from 0 to 99"),
    "a damaged archive": (lambda files: files.update({f"{IMAGES}.gz": files.pop(IMAGES)[:50]}), "is truncated or altered"),
    "another checksum": (
        lambda files: files.update({"checksums.json": f'{{"{IMAGES}": "{"0" * 32}"}}'.encode()}),
        "truncated or altered",
    ),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, part = RAW[name]
    raw(change, monkeypatch, tmp_path)
    before = state(tmp_path)
    with pytest.raises(DataError) as refused:
        sources.read("kmnist", tmp_path, fetch=False)
    require_said(str(refused.value), part, "KMNIST")
    assert state(tmp_path) == before


# ---- the environment, which only a process of its own can have

ENVIRONMENTS = [
    ({"MPLBACKEND": "nix"}, "evaluate.py", ["run=nix"], "MPLBACKEND=nix: this environment variable names no backend"),
    ({"HYDRA_FULL_ERROR": "x"}, "train.py", ["seed=x"], "seed=x: must be an integer"),
    ({"COLUMNS": "x", "TERM": "nix", "LANG": "nix"}, "train.py", ["seed=x"], "seed=x: must be an integer"),
    ({"WORLD_SIZE": "x", "NODE_RANK": ""}, "train.py", ["seed=x"], "seed=x: must be an integer"),
    ({"RANK": "y"}, "train.py", ["seed=x"], "RANK=y: this environment variable must be a number"),
    ({"SLURM_PROCID": ""}, "evaluate.py", ["run=nix"], "SLURM_PROCID=: this environment variable must be a number"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("variables", "script", "words", "line"), ENVIRONMENTS)
def test_environment(variables: dict[str, str], script: str, words: list[str], line: str, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / script), *words]
    ended = subprocess.run(command, cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    require_one_line(ended.stderr, line)
    assert state(tmp_path) == {}


def test_what_is_raised_for_a_run_is_one_kind_of_error() -> None:
    assert issubclass(CheckpointError, VAELightningError)
