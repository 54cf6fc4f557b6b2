"""The command `vae-compress`: a real run's images to a file and back in another process; wrong words in one line, nothing lost."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from vae_lightning import runs
from vae_lightning.commands.compress import HELP, KEYS, compress, main
from vae_lightning.commands.train import train
from vae_lightning.compression.format import read_file
from vae_lightning.errors import CheckpointError, ConfigurationError, DataError, StorageError

SMALL = ("model.net.hidden=[16]", "model.latent_dim=2")
FEW = {"num_images": "30", "chains": "5"}


@pytest.fixture(scope="module")
def trained(compose_into: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a conditional VAE, trained for a few steps on real MNIST."""
    folder = tmp_path_factory.mktemp("outputs") / "cvae"
    train(compose_into(folder, "model=cvae_mlp", *SMALL))
    return folder


@pytest.fixture
def places(trained: Path, mnist_root: Path) -> dict[str, str]:
    return {"run": str(trained), "root": str(mnist_root)}


@pytest.fixture(scope="module")
def compressed(trained: Path, mnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Compressed test images of the run, and what the command said of them."""
    path = tmp_path_factory.mktemp("files") / "few"
    return path, compress({"run": str(trained), "root": str(mnist_root), "to": str(path), **FEW})


@pytest.fixture
def file(compressed: tuple[Path, list[str]]) -> Path:
    return compressed[0]


def test_compressing_says_what_a_pixel_costs(compressed: tuple[Path, list[str]]) -> None:
    path, lines = compressed
    assert lines[0] == f"30 images of 1x28x28: 23,520 pixels in {path.stat().st_size:,} bytes"
    assert "-ELBO / (784 ln 2) + log2(10) / 784" in lines[1]
    assert "initial bits a pixel" in lines[2]
    assert all(name in lines[3] for name in ("gzip", "bz2", "xz", "png"))
    assert str(path) in lines[-1]


@pytest.mark.slow
def test_another_process_with_other_threads_and_batch_gives_the_test_images(
    places: dict[str, str], file: Path, mnist_root: Path
) -> None:
    words = [f"{key}={value}" for key, value in places.items()]
    said = subprocess.run(
        [sys.executable, "-m", "vae_lightning.commands.compress", *words, f"from={file}", "batch=2"],
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "30 images of 1x28x28" in said.stdout
    assert "they are the test images" in said.stdout


def test_another_models_file_is_refused_by_name(places: dict[str, str], file: Path, tmp_path: Path) -> None:
    other = shutil.copytree(places["run"], tmp_path / "other")
    run = runs.load(*runs.find(str(other), None))
    content = torch.load(run.checkpoint, weights_only=False)
    next(iter(content["state_dict"].values())).add_(1)
    torch.save(content, run.checkpoint)
    with pytest.raises(CheckpointError, match=f"from={file}: was compressed with other weights"):
        compress({**places, "run": str(other), "from": str(file)})


def test_a_damaged_file_is_refused_in_a_line(places: dict[str, str], file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(DataError, match="damaged: is damaged or cut off"):
        compress({**places, "from": str(tmp_path / "damaged")})
    assert str(read_file(file)[0].num_images) == FEW["num_images"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"chains": "0"}, "chains=0: must be a whole number"),
        ({"batch": "few"}, "batch=few: must be a whole number"),
        ({"from": "x", "to": "y"}, "to=y: is for compressing"),
        ({"to": " "}, "to: give a file"),
        ({"to": "."}, r"to=\.: is a folder"),
    ],
)
def test_wrong_settings_are_refused_by_name(places: dict[str, str], settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        compress({**places, **settings})


def test_no_other_file_is_replaced(places: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear Sir")
    with pytest.raises(StorageError, match="holds no compressed images"):
        compress({**places, "to": str(tmp_path / "letter")})
    assert (tmp_path / "letter").read_text() == "Dear Sir"


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert capsys.readouterr().out.strip() == HELP
    assert all(f"{key}=" in HELP for key in KEYS)


def test_a_wrong_word_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rum=latest"])
    assert ended.value.code == 2
    assert "did you mean run=?" in capsys.readouterr().err
