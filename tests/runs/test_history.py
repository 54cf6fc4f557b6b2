"""What a training logged is read back, and what is damaged is said and left out."""

import os
from pathlib import Path

import numpy as np
import pytest

from vae_lightning import runs


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


def test_command_of_a_run_that_went_on_begins_where_the_run_began(tmp_path: Path) -> None:
    own = ["seed=1", f"ckpt_path={tmp_path}/checkpoints/last.ckpt"]
    assert runs.from_the_start(tmp_path, own) == ["seed=1"]
    assert runs.from_the_start(tmp_path, ["seed=1", f"ckpt_path='{tmp_path}/checkpoints/last.ckpt'"]) == ["seed=1"]
    assert runs.from_the_start(tmp_path, ["ckpt_path=/other/last.ckpt"]) == ["ckpt_path=/other/last.ckpt"]
    for steps, word in ((20, "ckpt_path=/other/last.ckpt"), (40, own[1])):
        (kept := tmp_path / ".hydra" / f"until_step_{steps}").mkdir(parents=True)
        (kept / "overrides.yaml").write_text(f"- seed=1\n- {word}\n")
    assert runs.from_the_start(tmp_path, own) == ["seed=1", "ckpt_path=/other/last.ckpt"]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff\xfe\x00", b"[]", b'{"provenance": 3}', b'{"provenance": {"command": ["a"]}}', b'{"format": 3}']
)
def test_damaged_record_is_said_in_a_line(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    assert runs.record(tmp_path) == {}
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'metrics.json'}: ")
    assert "\n" not in line


@pytest.mark.parametrize("content", [b'{"metrics": {"test/elbo": -90.0}}', b'{"format": 2, "metrics": {"test/elbo": -90.0}}'])
def test_record_of_every_format_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    assert runs.record(tmp_path)["metrics"] == {"test/elbo": -90.0}


@pytest.mark.parametrize("content", [b"- [", b"\xff\xfe\x00", b"a: b: c"])
def test_damaged_command_is_said_in_a_line(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_bytes(content)
    assert runs.asked_with(tmp_path) is None
    (line,) = caplog.messages
    assert "overrides.yaml: cannot be read" in line
    assert "\n" not in line


@pytest.mark.parametrize(("name", "content"), [("csv/metrics.csv", b"\xff\xfe\x00"), ("csv/metrics.csv", b"a,b\n1,2\n")])
def test_damaged_log_is_said_in_a_line(tmp_path: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(content)
    assert runs.history(tmp_path) == {}
    (line,) = caplog.messages
    assert "metrics.csv: cannot be read" in line
    assert "\n" not in line


def test_event_file_that_is_none_leaves_the_csv(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1").write_bytes(os.urandom(300))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text("step,val/elbo\n1,-90\n")
    assert runs.history(tmp_path)["val/elbo"][1].tolist() == [-90]
    assert "tensorboard: cannot be read" in caplog.text


def written(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "test_per_image.npz", **arrays)
    return folder


def test_values_of_each_image_are_read_in_double_precision(tmp_path: Path) -> None:
    values = runs.per_image(written(tmp_path, elbo=np.array([-1.5, -2.5], dtype=np.float32), _images=np.array([3.0, 4.0])))
    assert {name: array.tolist() for name, array in values.items()} == {"elbo": [-1.5, -2.5], "_images": [3.0, 4.0]}
    assert all(array.dtype == np.float64 for array in values.values())
    assert runs.per_image(tmp_path / "none") == {}


@pytest.mark.parametrize(
    "arrays",
    [
        {"elbo": np.zeros((2, 2))},
        {"elbo": np.zeros(2), "kl": np.zeros(3)},
        {"elbo": np.array([{}], dtype=object)},
        {"elbo": np.array(["a"])},
        {"elbo": np.array(1.0)},
        {},
    ],
)
def test_values_of_another_form_are_left_out_in_a_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    assert runs.per_image(written(tmp_path, **arrays)) == {}
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'test_per_image.npz'}: ")
    assert "\n" not in line


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_damaged_values_are_left_out_in_a_line(tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, elbo=np.zeros(100)) / "test_per_image.npz"
    path.write_bytes(path.read_bytes()[:cut])
    assert runs.per_image(tmp_path) == {}
    assert len(caplog.messages) == 1
