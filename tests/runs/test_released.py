"""Models of a release: found in a folder, or fetched once from a server and compared with its sums."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vae_lightning import VAE, runs
from vae_lightning.errors import CheckpointError
from vae_lightning.runs.released import SUMS, released


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models, which is the place of released ones."""
    VAE(latent_dim=2, net={"name": "mlp", "hidden": [8]}).save_pretrained(tmp_path / "models" / "small")
    monkeypatch.setenv("VAE_LIGHTNING_WEIGHTS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.fixture
def address(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of the assets of a release, which is the place of released models."""
    assets = tmp_path / "assets"
    assets.mkdir()
    sums = ""
    for file in (place / "small").iterdir():
        shutil.copyfile(file, assets / f"small.{file.name}")
        sums += f"{hashlib.sha256(file.read_bytes()).hexdigest()}  small.{file.name}\n"
    (assets / SUMS).write_text(sums)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(assets)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("VAE_LIGHTNING_WEIGHTS", f"http://127.0.0.1:{server.server_port}")
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_model_is_found_in_the_folder(place: Path) -> None:
    assert runs.find("pretrained:small", None) == (place / "small", place / "small" / "model.safetensors")


def test_folder_in_the_working_directory_needs_no_variable(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAE_LIGHTNING_WEIGHTS")
    monkeypatch.chdir(place.parent)
    place.rename("weights")
    assert released("pretrained:small") == Path("weights", "small")


def test_model_is_fetched_once(address: str, tmp_path: Path, place: Path) -> None:
    folder = released("pretrained:small")
    assert (folder / "model.safetensors").read_bytes() == (place / "small" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "assets")
    assert released("pretrained:small") == folder
    assert VAE.from_pretrained(folder).latent_dim == 2


def test_other_file_than_the_released_one_is_refused_and_not_kept(address: str, tmp_path: Path) -> None:
    (tmp_path / "assets" / "small.model.safetensors").write_bytes(b"other")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"small\.model\.safetensors: is not the released file"):
            released("pretrained:small")
    assert not list(tmp_path.glob("cache/**/model.safetensors"))


def test_missing_model_names_those_that_there_are(address: str) -> None:
    with pytest.raises(CheckpointError, match=r"there is no such model at http.*; there are small$"):
        released("pretrained:big")


@pytest.mark.parametrize("name", ["", "../small", "a/b", ".hidden"])
def test_name_is_no_path(place: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"must be pretrained:<name>; there are small"):
        released(f"pretrained:{name}")


def test_missing_folder_says_how_models_come_into_being(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_LIGHTNING_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"make weights.*VAE_LIGHTNING_WEIGHTS=<folder or address>"):
        released("pretrained:vae")


@pytest.mark.parametrize("sums", ["", "no sums", "\xff"])
def test_server_of_something_else_is_refused(address: str, tmp_path: Path, sums: str) -> None:
    (tmp_path / "assets" / SUMS).write_text(sums, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"^run=pretrained:small: ") as refusal:
        released("pretrained:small")
    assert "\n" not in str(refusal.value)


def test_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("VAE_LIGHTNING_WEIGHTS", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        released("pretrained:vae")
