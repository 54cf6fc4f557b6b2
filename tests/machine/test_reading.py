"""A stranger's file is read if it is a file, where it seems to be, and no larger than such a file is."""

import os
from pathlib import Path

import pytest

from vae_lightning.machine import reading
from vae_lightning.machine.reading import UnfitFile, content_within, require_inside, require_memory


def test_file_of_the_size_that_is_allowed_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345678")
    assert content_within(tmp_path / "a", 8, tmp_path) == b"12345678"
    with pytest.raises(UnfitFile, match="is larger than 0 MB"):
        content_within(tmp_path / "a", 7)
    with pytest.raises(FileNotFoundError):
        content_within(tmp_path / "b", 7)
    with pytest.raises(IsADirectoryError):
        content_within(tmp_path, 7)


def test_sparse_file_of_a_terabyte_is_refused_before_any_of_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnfitFile, match="is larger than 67 MB, as no such file is"):
        content_within(tmp_path / "huge.json", reading.JSON)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
def test_pipe_or_device_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UnfitFile, match="is no file but a pipe, a socket or a device"):
            content_within(path, 100)


def test_link_out_of_the_folder_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (run / "own").write_text("own")
    (run / "inner" / "link").symlink_to("../own")
    (run / "out").symlink_to(tmp_path / "secret")
    (run / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "latest").symlink_to(run, target_is_directory=True)
    assert content_within(run / "inner" / "link", 10, run) == b"own"
    assert content_within(tmp_path / "latest" / "own", 10, tmp_path / "latest") == b"own"
    for path in (run / "out", run / "up" / "secret", run / ".." / "secret"):
        with pytest.raises(UnfitFile, match=r"is a link that leads out of its folder, to .*secret"):
            content_within(path, 10, run)
        with pytest.raises(UnfitFile):
            require_inside(path, run)


def test_what_takes_more_than_all_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "memory", lambda: 2_000_000_000)
    require_memory(2_000_000_000)
    with pytest.raises(UnfitFile, match=r"takes 3\.0 GB, and this machine has 2\.0 GB of memory"):
        require_memory(3_000_000_000)
    monkeypatch.setattr(reading, "memory", lambda: None)
    require_memory(1 << 60)
