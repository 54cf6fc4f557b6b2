"""A model's two files for others: read without code, refused in one line where they are not what they should be."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vae_lightning.errors import CheckpointError, ConfigurationError, StorageError
from vae_lightning.machine.pretrained import CONFIG, WEIGHTS, is_pretrained, read_config, read_pretrained, write_pretrained

STATE = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
MODEL = {"_target_": "vae_lightning.models.VAE", "latent_dim": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pretrained(tmp_path / "model", STATE, {"model": MODEL, "training": {"epoch": 3, "global_step": 40}})
    return tmp_path / "model"


def change(folder: Path, **changes: Any) -> None:
    content = {**json.loads((folder / CONFIG).read_text()), **changes}
    (folder / CONFIG).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_content_comes_back_in_the_form_of_a_checkpoint(folder: Path) -> None:
    content = read_pretrained(folder)
    assert all(torch.equal(content["state_dict"][name], value) for name, value in STATE.items())
    assert content["hyper_parameters"] == {"latent_dim": 2}
    assert (content["epoch"], content["global_step"]) == (3, 40)
    assert is_pretrained(folder)


def test_two_names_of_one_tensor_are_written_as_two(tmp_path: Path) -> None:
    shared = torch.ones(4)
    write_pretrained(tmp_path, {"a": shared, "b": shared[:2]}, {"model": MODEL})
    assert {name: value.tolist() for name, value in load_file(tmp_path / WEIGHTS).items()} == {"a": [1.0] * 4, "b": [1.0] * 2}


def test_smaller_numbers_are_of_floats_alone(tmp_path: Path) -> None:
    write_pretrained(tmp_path, STATE, {"model": MODEL}, torch.float16)
    kinds = {name: value.dtype for name, value in load_file(tmp_path / WEIGHTS).items()}
    assert kinds == {"a": torch.float16, "n": torch.int64}


def test_numbers_too_large_for_the_smaller_ones_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="dtype=float16: is too small for numbers in b"):
        write_pretrained(tmp_path, {**STATE, "b": torch.tensor([1e6])}, {"model": MODEL}, torch.float16)
    assert not list(tmp_path.iterdir())


def test_weights_that_have_changed_are_refused_if_their_digest_is_known(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-5] ^= 0x55
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: is damaged, or not the file that {CONFIG} was written with; fetch"):
        read_pretrained(folder)
    change(folder, weights_sha256=None)  # as in an early folder
    assert read_pretrained(folder)


def test_pipe_is_no_file_of_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: is no file"):
        read_pretrained(folder)


def test_state_that_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="_extra_state is none"):
        write_pretrained(tmp_path, {**STATE, "_extra_state": {"code": 1}}, {"model": MODEL})
    assert not list(tmp_path.iterdir())


def test_argument_of_an_earlier_version_is_changed_to_its_new_form(folder: Path) -> None:
    change(folder, model={**MODEL, "conditional_prior": True})
    assert read_pretrained(folder)["hyper_parameters"] == {"latent_dim": 2, "prior": {"name": "class"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"format": "1"}, "has format 1, this version reads 1"),
        ({"checkpoint_format": 99}, "has checkpoint_format 99"),
        ({"model": {"latent_dim": 2}}, "says of no model"),
        ({"model": [1]}, "says of no model"),
        ({"vae_lightning": None}, "says of no model of this project"),
        ({"training": {"epoch": -1}}, "must be numbers of at least 0"),
        ({"training": {"global_step": "x"}}, "must be numbers of at least 0"),
    ],
)
def test_config_that_is_none_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    change(folder, **changes)
    with pytest.raises(CheckpointError, match=said) as refusal:
        read_pretrained(folder)
    assert CONFIG in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null"])
def test_damaged_config_is_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=CONFIG):
        read_config(folder)


def huge() -> bytes:
    """A header that claims more numbers than the file has."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 16


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" * 100, (1 << 62).to_bytes(8, "little") + b"{}", huge()])
def test_damaged_weights_are_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: is damaged"):
        read_pretrained(folder)


def test_cut_weights_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="is damaged"):
        read_pretrained(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").write_bytes((folder / name).read_bytes())
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        read_pretrained(folder)
