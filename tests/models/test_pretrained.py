"""Models come back from a folder, and from a repository of the hub's protocol, without running what is in it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hub import served_hub

from vae_lightning import CVAE, IWAE, VAE, BetaVAE, Classifier
from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError
from vae_lightning.models import M1, M2
from vae_lightning.models.base import Module
from vae_lightning.models.pretrained import folder_of, target_of

NET = {"name": "mlp", "hidden": [8]}
X = torch.ones(2, 1, 28, 28)


def vae(**arguments: Any) -> VAE:
    return VAE(latent_dim=2, net=NET, **arguments)


@pytest.mark.parametrize(
    "model",
    [
        vae(prior={"name": "vamp", "components": 3}),
        vae(posterior={"name": "iaf", "hidden": [8]}),
        BetaVAE(beta=4.0, latent_dim=2, net=NET),
        IWAE(num_samples=3, latent_dim=2, net=NET),
        CVAE(latent_dim=2, net=NET),
        M1(latent_dim=2, net=NET),
        M2(latent_dim=2, net=NET),
        Classifier(net={"name": "classifier_mlp", "hidden": [8]}),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_model_comes_back_as_it_was(model: Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert type(again) is type(model)
    assert dict(again.hparams) == dict(model.hparams)
    assert not again.training
    state = again.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_base_class_takes_any_model_and_another_is_refused(tmp_path: Path) -> None:
    BetaVAE(latent_dim=2, net=NET).save_pretrained(tmp_path)
    assert type(VAE.from_pretrained(tmp_path)) is BetaVAE
    with pytest.raises(CheckpointError, match=r"BetaVAE: is no CVAE"):
        CVAE.from_pretrained(tmp_path)


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "model": {**content["model"], **changes}}))


@pytest.mark.parametrize("config", [{"model_type": "bert"}, "{", None])
def test_another_projects_model_is_not_replaced(tmp_path: Path, config: object) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(StorageError, match=r"holds another model, which is not replaced .*; give a new folder$"):
        vae().save_pretrained(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_card_of_an_export_is_not_left_beside_other_weights(tmp_path: Path) -> None:
    folder = vae().save_pretrained(tmp_path)
    (folder / "README.md").write_text("my own words")
    vae().save_pretrained(folder)  # again
    (folder / "README.md").write_text("---\nlibrary_name: vae_lightning\nlicense: mit\n---\n")
    with pytest.raises(StorageError, match="holds an export, whose card and graphs are not this model's; give a new folder"):
        vae().save_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_target_": "os.system"}, "os"),
        ({"_target_": "torch.hub.load"}, "refused"),
        ({"encoder": {"_target_": "subprocess.run", "name": "x"}}, "subprocess"),
        ({"net": {"name": "evil.Net"}}, "evil"),
        ({"latent_dim": 3}, "cannot be built here"),
        ({"latent_dim": 10**9}, "cannot be built here"),
        ({"latent_dmi": 3}, "latent_dmi"),
        ({"_target_": "vae_lightning.models.Nope"}, "cannot be built here: .*Nope"),
        ({"net": {"name": "mlp", "hidden": [10**6, 10**6]}}, "cannot be built here"),
    ],
)
def test_foreign_config_runs_nothing_and_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    vae().save_pretrained(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises((CheckpointError, ConfigurationError), match=said) as refusal:
        VAE.from_pretrained(tmp_path)
    assert "\n" not in str(refusal.value)


def test_module_of_ones_own_says_that_code_is_needed(tmp_path: Path) -> None:
    vae(encoder=torch.nn.Identity()).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be built here"):
        VAE.from_pretrained(tmp_path)


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "/no/where", "a/b/c", "~/nowhere"])
def test_missing_folder_is_named(source: str) -> None:
    with pytest.raises(CheckpointError, match=f"{source}: there is no such folder"):
        folder_of(source)


def test_missing_hub_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'vae_lightning\[hub\]'"):
        folder_of("owner/name")


def test_target_of_ones_own_class_is_its_full_path() -> None:
    class Own(VAE):
        pass

    assert target_of(Own).endswith("test_target_of_ones_own_class_is_its_full_path.<locals>.Own")


SCRIPT = """
import sys, torch
from vae_lightning import VAE
if sys.argv[1] == "push":
    torch.manual_seed(0)
    print(VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).push_to_hub("ann/vae"))
else:
    try:
        model = VAE.from_pretrained(sys.argv[2])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(model.latent_dim, sum(float(v.sum()) for v in model.state_dict().values()))
"""


@pytest.mark.slow
def test_repository_is_written_and_fetched_once(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with served_hub(tmp_path / "hub") as address:
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
        pushed = run_script("push", environment)
        assert pushed.returncode == 0, pushed.stderr
        assert (tmp_path / "hub" / "ann" / "vae" / "model.safetensors").is_file()
        fetched = run_script("fetch", environment, "ann/vae")
        assert fetched.returncode == 0, fetched.stderr
        torch.manual_seed(0)
        model = vae()
        assert fetched.stdout.split() == ["2", str(sum(float(value.sum()) for value in model.state_dict().values()))]
        missing = run_script("fetch", environment, "ann/no_such")
        assert missing.returncode == 1
        assert "CheckpointError: ann/no_such: is no folder, and no repository that could be fetched" in missing.stderr
    # the server has gone, and the copy is enough
    again = run_script("fetch", {**environment, "HF_HUB_OFFLINE": "1"}, "ann/vae")
    assert again.stdout == fetched.stdout, again.stderr


def run_script(word: str, environment: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    import os

    return subprocess.run(
        [sys.executable, "-c", SCRIPT, word, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
