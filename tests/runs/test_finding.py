"""A run is found by whatever a user may mean by it, and its data where its training had them."""

import os
from pathlib import Path

import pytest

from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.runs.finding import find, located


def run(folder: Path, *names: str, when: float = 1.0, trained_in: Path | None = None) -> Path:
    """A run folder as far as finding looks at it."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("{}")
    if trained_in is not None:
        (folder / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    cwd: {trained_in}\n")
    for name in names or ("best.ckpt",):
        checkpoint(folder / "checkpoints" / name, when)
    return folder


def checkpoint(path: Path, when: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (when, when))


def test_latest_is_the_run_of_the_newest_checkpoint(tmp_path: Path) -> None:
    run(tmp_path / "vae" / "old", when=1)
    newest = run(tmp_path / "vae" / "sweep" / "0", when=2)
    checkpoint(tmp_path / "vae" / "lost" / "checkpoints" / "best.ckpt", when=3)  # no run: there is no config beside it
    checkpoint(tmp_path / "vae" / "old" / "checkpoints" / ".best.ckpt.unfinished.ckpt", when=4)
    assert find("latest", None, tmp_path) == (newest, newest / "checkpoints" / "best.ckpt")


def test_latest_of_none_says_how_to_train_one(tmp_path: Path) -> None:
    checkpoint(tmp_path / "lost" / "checkpoints" / "best.ckpt", when=3)
    with pytest.raises(CheckpointError, match="train one first"):
        find("latest", None, tmp_path)


def test_best_is_taken_and_else_the_last(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", "best.ckpt", "last.ckpt")
    assert find(str(folder), None)[1].name == "best.ckpt"
    folder = run(tmp_path / "b", "last.ckpt", "epoch=0.ckpt")
    assert find(str(folder), None)[1].name == "last.ckpt"


@pytest.mark.parametrize("name", ["now", "now/checkpoints", "now/checkpoints/best.ckpt", "now/../now/checkpoints/", "."])
def test_run_is_meant_by_whatever_is_of_one_run_only(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path / "now")
    for given in (f"{tmp_path}/{name}", name):
        monkeypatch.chdir(tmp_path)
        found, weights = find(given, None)
        assert (found.resolve(), weights.resolve()) == (folder, folder / "checkpoints" / "best.ckpt")
    monkeypatch.chdir(folder / "checkpoints")
    assert find(".", None)[0] == folder


def test_home_is_meant_by_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = run(tmp_path / "now")
    assert find("~/now", None)[0] == folder
    assert find(None, "~/now/checkpoints/best.ckpt")[0] == folder


@pytest.mark.parametrize("key", ["run", "evaluation.classifier"])
def test_folder_of_several_runs_names_them(tmp_path: Path, key: str) -> None:
    for job in range(3):
        run(tmp_path / "my sweep" / str(job))
    with pytest.raises(CheckpointError) as refusal:
        find(str(tmp_path / "my sweep"), None, key=key)
    assert str(refusal.value) == (
        f"{key}={tmp_path}/my sweep: is no run folder, but holds 3 runs: give one of "
        + ", ".join(f"{key}='{tmp_path}/my sweep/{job}'" for job in range(3))
    )


@pytest.mark.parametrize(("name", "path"), [(None, None), ("a", "b")])
def test_run_and_checkpoint_are_alternatives(name: str | None, path: str | None) -> None:
    with pytest.raises(ConfigurationError, match="run=<folder>"):
        find(name, path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder, empty = run(tmp_path / "run"), tmp_path / "empty"
    (folder / "evaluation").mkdir()
    empty.mkdir()
    checkpoint(empty / "x.ckpt", 1)
    for given, path, message in (
        (str(tmp_path / "nix"), None, "run=.*nix: there is no such folder"),
        (str(empty), None, "run=.*empty: is not a run folder"),
        (str(empty / "x.ckpt"), None, r"run=.*x\.ckpt: is not in a run folder"),
        (str(folder / "evaluation"), None, f"is a part of a run folder: give run={folder}"),
        (None, str(tmp_path / "nix.ckpt"), "ckpt_path=.*: there is no such file"),
        (None, str(folder), f"ckpt_path=.*: is a folder; give a file, or the run: run={folder}"),
        (None, str(empty / "x.ckpt"), "ckpt_path=.*: is not in a run folder"),
    ):
        with pytest.raises(CheckpointError, match=message):
            find(given, path)
    (folder / "checkpoints" / "best.ckpt").rename(folder / "checkpoints" / "epoch=1.ckpt")
    with pytest.raises(CheckpointError, match=r"neither best\.ckpt nor last\.ckpt; choose: ckpt_path=.*epoch=1\.ckpt"):
        find(str(folder), None)
    (folder / "checkpoints" / "epoch=1.ckpt").unlink()
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        find(str(folder), None)


def test_relative_path_means_the_directory_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder = run(project / "outputs" / "now", trained_in=project)
    (project / "data").mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    arguments = {"root": "data", "static_root": None, "seed": 3}
    assert located(folder, arguments) == {**arguments, "root": str(project / "data")}
    assert located(folder, {"root": "/absolute", "static_root": "data"}) == {
        "root": "/absolute",
        "static_root": str(project / "data"),
    }
    monkeypatch.chdir(project)
    assert located(folder, arguments) == arguments


def test_project_that_has_moved_has_its_data_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run(tmp_path / "outputs" / "now", trained_in=Path("/somebody/else"))
    monkeypatch.chdir(tmp_path)
    assert located(folder, {"root": "data"})["root"].endswith("data")
    (tmp_path / "data").mkdir()
    assert located(folder, {"root": "data"})["root"].endswith("data")
    assert "data.root=data is not in /somebody/else, where it was trained; taken from here" in caplog.text


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe\x00", b"hydra: 3"])
def test_path_stays_where_nobody_knows_the_directory_of_the_training(tmp_path: Path, content: bytes) -> None:
    folder = run(tmp_path / "now")
    (folder / ".hydra" / "hydra.yaml").write_bytes(content)
    assert located(folder, {"root": "data"})["root"].endswith("data")


def test_data_root_longer_than_any_name_is_left_to_who_reads_the_data(tmp_path: Path) -> None:
    folder = run(tmp_path / "now", trained_in=Path("/tmp" + "9" * 400))
    assert located(folder, {"root": "data"})["root"].endswith("data")
