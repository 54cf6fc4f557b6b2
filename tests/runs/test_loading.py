"""Runs are loaded without executing anything that came with them."""

import os
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from vae_lightning import VAE, runs
from vae_lightning.errors import CheckpointError, ConfigurationError, DataError


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
    with pytest.raises(CheckpointError, match=r"holds more than weights and plain values \(posix.system\)"):
        load(run)
    assert not (tmp_path / "executed").exists()
    write(run, hyper_parameters={"net": OmegaConf.create({"name": "mlp"})})
    with pytest.raises(CheckpointError, match=r"plain values \(omegaconf\.\w+\.\w+\), and .* a model of your own keeps numbers"):
        load(run)


@pytest.mark.parametrize("key", ["model._target_", "data._target_", "model.net._target_"])
@pytest.mark.parametrize("target", ["foreign_module.Model", "os.system", "subprocess.Popen"])
def test_foreign_class_is_refused_and_not_imported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, target: str
) -> None:
    (tmp_path / "foreign_module.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    retarget(run, key, target)
    with pytest.raises(CheckpointError, match="refused"):
        load(run)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("target", ["torch.nn.Linear", "vae_lightning.data.sources.subprocess.Popen", "torch.load"])
def test_class_of_another_kind_is_refused(run: Path, target: str) -> None:
    retarget(run, "model._target_", target)
    with pytest.raises(CheckpointError, match=r"is not a LightningModule|has no|may name"):
        load(run)


def test_other_versions_are_told_apart(run: Path) -> None:
    write(run, vae_lightning={"format": 99, "version": "9.9"})
    with pytest.raises(CheckpointError, match=r"format 99.*vae_lightning 9\.9"):
        load(run)
    write(run, hyper_parameters={"latent_dimension": 2})
    with pytest.raises(CheckpointError, match=r"its model cannot be built here: model\.latent_dimension: no such key") as refusal:
        load(run)
    assert "made by" not in str(refusal.value), "this version made it"
    write(run, hyper_parameters={"latent_dimension": 2}, vae_lightning={"format": 1, "version": "0.0.9"})
    with pytest.raises(CheckpointError, match=r"it was made by vae_lightning 0\.0\.9, this is .*: model\.latent_dimension"):
        load(run)
    torch.save({"weights": torch.zeros(1)}, run / "checkpoints" / "best.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load(run)


def test_run_of_somebodys_own_net_is_refused_for_that(run: Path) -> None:
    write(run, hyper_parameters={"latent_dim": 2, "net": {"name": "mydec.MyDecoder"}})
    with pytest.raises(CheckpointError, match=r"best\.ckpt: net\.name=mydec\.MyDecoder: is of package mydec"):
        load(run)
    write(run, hyper_parameters={"latent_dim": 3, "net": {"name": "mlp", "hidden": [8]}})
    with pytest.raises(CheckpointError, match=r"best\.ckpt: its model cannot be built here: .*size mismatch") as refusal:
        load(run)
    assert "\n" not in str(refusal.value)
    write(run)
    retarget(run, "data.batch_size", 0)
    with pytest.raises(CheckpointError, match=r"config\.yaml: its data cannot be built here: data\.batch_size=0"):
        load(run)


def test_what_says_where_the_data_lie_is_not_resolved_where_something_else_is_told(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOMEBODYS_FOLDER", raising=False)
    retarget(run, "data.root", "${oc.env:SOMEBODYS_FOLDER}")
    with pytest.raises(CheckpointError, match=r"config\.yaml: data\.root cannot be resolved .*SOMEBODYS_FOLDER.*: root=<folder>"):
        load(run)
    loaded = runs.load(*runs.find(str(run), None), {"root": "elsewhere"})
    assert loaded.data.root == "elsewhere"  # type: ignore[attr-defined]
    assert loaded.config.data.root == "${oc.env:SOMEBODYS_FOLDER}", "the record is as it was"


def test_digest_is_of_the_weights_and_not_of_the_file(run: Path) -> None:
    torch.manual_seed(0)
    write(run)
    first = load(run)
    write(run, state_dict=first.model.state_dict(), global_step=7)
    again = load(run)
    assert (again.digest, again.step) == (first.digest, 7)
    changed = {name: value + (name == "decoder.body.0.bias") for name, value in first.model.state_dict().items()}
    write(run, state_dict=changed)
    assert load(run).digest != first.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"global_step": "4"},
        {"global_step": None},
        {"global_step": -1},
        {"epoch": 1.5},
        {"epoch": torch.zeros(3)},
        {"epoch": 10**40},
        {"vae_lightning": 3},
        {"vae_lightning": {"format": 2, "version": "9\n\x1b[31m"}},
        {"hyper_parameters": None},
        {"hyper_parameters": {3: 4}},
        {"hyper_parameters": {"self": 4}},
        {"hyper_parameters": {"net": 3}},
        {"hyper_parameters": {"net": {"name": ["os.system"]}}},
        {"state_dict": {3: torch.zeros(1)}},
        {"state_dict": {"decoder.body.0.bias": "text"}},
    ],
)
def test_checkpoint_with_something_else_in_it_is_refused_in_one_line(run: Path, changes: dict[str, object]) -> None:
    write(run, **changes)
    with pytest.raises(CheckpointError) as refusal:
        load(run)
    assert "best.ckpt" in str(refusal.value)
    assert str(refusal.value).isprintable()


MODEL = "model: {_target_: vae_lightning.models.VAE}\n"
DATA = "data: {_target_: vae_lightning.data.MNISTDataModule}\n"


@pytest.mark.parametrize(
    "content",
    [
        "model: !!python/object/apply:os.system ['true']\n" + DATA,
        "model: {_target_: '${oc.env:HOME}'}\n" + DATA,
        "model: {_target_: '${nothing}'}\n" + DATA,
        "x: os.system\nmodel: {_target_: '${x}'}\n" + DATA,
        "model: {_target_: ???}\n" + DATA,
        "model: {_target_: [os.system]}\n" + DATA,
        "model: {_target_: 3}\n" + DATA,
        "model: {}\n" + DATA,
        "model: os.system\n" + DATA,
        "model: [1]\n" + DATA,
        "model: null\n" + DATA,
        "model: ${data}\n" + DATA,
        MODEL + "data: ${nothing}\n",
        MODEL + "data: {_target_: vae_lightning.data.MNISTDataModule, root: {_target_: os.system}}\n",
        MODEL + "data: {_target_: vae_lightning.data.MNISTDataModule, root: '${data}'}\n",
        MODEL + "data: {_target_: vae_lightning.data.MNISTDataModule, 3: 4}\n",
        MODEL + "data: {_target_: vae_lightning.data.MNISTDataModule, batch_size: '${oc.create:{_target_:os.system}}'}\n",
        "a: " + "[" * 5000 + "]" * 5000 + "\n" + MODEL + DATA,
        "\t:",
        "",
    ],
)
def test_config_with_something_else_in_it_is_refused_in_one_line(run: Path, content: str) -> None:
    (run / ".hydra" / "config.yaml").write_text(content)
    with pytest.raises(CheckpointError) as refusal:
        load(run)
    assert str(refusal.value).isprintable()


OWN_MODEL = """
import sys
import pytorch_lightning as L
import torch
class Model(L.LightningModule):
    def __init__(self, fails=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        if fails == "index":
            [][1]
        if fails == "exit":
            sys.exit(3)
    def get_extra_state(self):
        return {"seen": 3, "mean": torch.ones(2)}
    def set_extra_state(self, state): ...
"""


def test_model_of_a_trusted_package_may_keep_more_than_tensors_and_fail(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"own_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    config.model = {"_target_": f"{name}.Model"}
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    state = {"weight": torch.ones(2), "_extra_state": {"seen": 3, "mean": torch.ones(2)}}
    torch.save({"state_dict": state, "hyper_parameters": {"fails": None}}, run / "checkpoints" / "best.ckpt")
    found = runs.find(str(run), None)
    with pytest.raises(CheckpointError, match=rf"trust=\[{name}\]"):
        load(run)
    assert name not in sys.modules
    loaded = runs.load(*found, trust=[name])
    assert loaded.digest == runs.load(*found, trust=[name]).digest
    for fails, said in (("index", "IndexError: list index"), ("exit", "SystemExit: 3")):
        torch.save({"state_dict": state, "hyper_parameters": {"fails": fails}}, run / "checkpoints" / "best.ckpt")
        with pytest.raises(CheckpointError, match=rf"its model cannot be built here: {said}"):
            runs.load(*found, trust=[name])


def test_run_folder_does_not_say_where_data_are_fetched_to(run: Path, tmp_path: Path) -> None:
    retarget(run, "data.root", str(tmp_path / "anywhere"))
    with pytest.raises(DataError, match="as nothing is fetched here"):
        load(run).data.prepare_data()
    assert not (tmp_path / "anywhere").exists()
    assert runs.load(*runs.find(str(run), None), {"root": str(tmp_path / "given")}).data.fetch  # type: ignore[attr-defined]


def test_place_that_the_runs_data_do_not_have_is_refused_with_the_one_they_have(run: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^path=x: the run's data are a MNISTDataModule, .* said with root= or static_root="
    ):
        runs.load(*runs.find(str(run), None), {"path": "x"})
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    config.data = {"_target_": "vae_lightning.data.FolderDataModule", "path": "pngs"}
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    with pytest.raises(ConfigurationError, match=r"^root=x: .* which has no root; where they lie is said with path=$"):
        runs.load(*runs.find(str(run), None), {"root": "x"})
    assert runs.load(*runs.find(str(run), None), {"path": "x"}).data.path == "x"  # type: ignore[attr-defined]


def test_what_a_class_of_ones_own_has_not_saved_is_the_configs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"half_{tmp_path.name}".replace("-", "_")
    code = "from vae_lightning import VAE\nclass Own(VAE):\n    def __init__(self, sharpness, **settings):\n"
    (tmp_path / f"{name}.py").write_text(f"{code}        super().__init__(**settings)\n        self.sharpness = sharpness\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    saved = {"latent_dim": 2, "net": {"name": "mlp", "hidden": [8]}}
    write(run, hyper_parameters=saved)
    retarget(run, "model._target_", f"{name}.Own")
    retarget(run, "model.sharpness", 3.0)
    retarget(run, "model.latent_dim", 7)
    model = runs.load(*runs.find(str(run), None), trust=[name]).model
    assert (model.sharpness, model.latent_dim) == (3.0, 2), "what the checkpoint says counts"
