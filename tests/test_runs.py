"""Run folders are found, and loaded without executing anything that came with them."""

import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from vae_lightning import VAE, runs
from vae_lightning.errors import CheckpointError, ConfigurationError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as training leaves it, of a model that was not trained."""
    folder = tmp_path / "vae" / "now"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    model = {"_target_": "vae_lightning.models.VAE", "latent_dim": 2}
    data = {"_target_": "vae_lightning.data.MNISTDataModule", "root": "data", "seed": "${seed}"}
    OmegaConf.save(OmegaConf.create({"seed": 3, "model": model, "data": data}), folder / ".hydra" / "config.yaml")
    write(folder)
    return folder


def write(folder: Path, **changes: object) -> None:
    model = VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]})
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    content["vae_lightning"] = {"format": 1, "version": "0.1.0"}
    torch.save({**content, **changes}, folder / "checkpoints" / "best.ckpt")


def retarget(folder: Path, key: str, value: object) -> None:
    config = OmegaConf.load(folder / ".hydra" / "config.yaml")
    OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")


def load(folder: Path) -> runs.LoadedRun:
    return runs.load(*runs.find(str(folder), None))


def test_run_comes_back_as_it_was(run: Path) -> None:
    loaded = load(run)
    assert loaded.model.hparams["net"] == {"name": "mlp", "hidden": [8]}
    assert loaded.data.seed == 3  # type: ignore[attr-defined]


def test_latest_is_the_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    assert runs.find("latest", None, tmp_path)[0] == run


def test_checkpoint_finds_its_folder(run: Path) -> None:
    assert runs.find(None, str(run / "checkpoints" / "best.ckpt"))[0] == run


@pytest.mark.parametrize(("name", "path"), [(None, None), ("a", "b")])
def test_run_and_checkpoint_are_alternatives(name: str | None, path: str | None) -> None:
    with pytest.raises(ConfigurationError, match="run=<folder>"):
        runs.find(name, path)


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints" / "best.ckpt").unlink()
    for name, message in (
        (str(run), "has no checkpoint"),
        (str(tmp_path / "nix"), "no such folder"),
        (str(tmp_path), "not a run folder"),
    ):
        with pytest.raises(CheckpointError, match=message):
            runs.find(name, None)
    with pytest.raises(CheckpointError, match="train one first"):
        runs.find("latest", None, tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        runs.find(None, str(tmp_path / "nix.ckpt"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damaged_checkpoint_is_refused_in_one_line(run: Path, content: bytes | None) -> None:
    path = run / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    with pytest.raises(CheckpointError, match="is damaged") as refusal:
        load(run)
    assert "\n" not in str(refusal.value)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_code_in_a_checkpoint_is_not_executed(run: Path, tmp_path: Path) -> None:
    write(run, payload=Payload(tmp_path / "executed"))
    with pytest.raises(CheckpointError):
        load(run)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("key", ["model._target_", "data._target_", "model.net._target_"])
@pytest.mark.parametrize("target", ["foreign_module.Model", "os.system", "subprocess.Popen"])
def test_foreign_class_is_refused_and_not_imported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, target: str
) -> None:
    (tmp_path / "foreign_module.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    retarget(run, key, target)
    with pytest.raises(CheckpointError, match="outside this project and torch"):
        load(run)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("target", ["torch.nn.Linear", "vae_lightning.data.sources.subprocess.Popen", "torch.load"])
def test_class_of_another_kind_is_refused(run: Path, target: str) -> None:
    retarget(run, "model._target_", target)
    with pytest.raises(CheckpointError, match=r"is not a Module|does not have"):
        load(run)


def test_other_versions_are_told_apart(run: Path) -> None:
    write(run, vae_lightning={"format": 99, "version": "9.9"})
    with pytest.raises(CheckpointError, match=r"format 99.*vae_lightning 9\.9"):
        load(run)
    write(run, hyper_parameters={"latent_dimension": 2})
    with pytest.raises(CheckpointError, match=r"does not fit this version.*latent_dim"):
        load(run)
    torch.save({"weights": torch.zeros(1)}, run / "checkpoints" / "best.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load(run)


def test_history_leaves_out_what_was_measured_after_training(tmp_path: Path) -> None:
    rows = [
        "step,train/elbo,val/elbo,test/elbo",
        "49,-200,,",
        "99,-150,,",
        "100,,-160,",
        "200,,-140,",
        "200,,-150,",
        "200,,,-155",
        "2-",
    ]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("\n".join(rows))
    history = runs.history(tmp_path)
    assert history["train/elbo"][0].tolist() == [49, 99]
    assert history["val/elbo"][1].tolist() == [-160], "the last step's is that of the best checkpoint"
    assert history["test/elbo"][1].tolist() == [-155]
    assert runs.history(tmp_path / "none") == {}


def test_command_of_a_training_that_did_not_end_is_known(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- model=iwae\n- model.net.hidden=[3]\n")
    assert runs.asked_with(tmp_path) == "python train.py model=iwae 'model.net.hidden=[3]'"
    assert runs.asked_with(tmp_path / "none") is None
    assert runs.record(tmp_path) == {}
