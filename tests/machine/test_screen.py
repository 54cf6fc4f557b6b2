"""Output never fails: neither for want of a character nor for want of a reader."""

import io
import os
import sys
from pathlib import Path

import pytest

from vae_lightning.machine import screen


def written(encoding: str, text: str) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="vae_lightning.plain")
    stream.write(text)
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("encoding", "text", "plain"),
    [
        ("latin-1", "0:01 • ± é", "0:01 * ± é"),
        ("ascii", "± 1 … ×", "+- 1 ... x"),
        ("ascii", "┏━┳━┓\n┃ a │", "+-+-+\n| a |"),
        ("ascii", "日本", "??"),
    ],
)
def test_character_that_is_lacking_becomes_a_plain_one(encoding: str, text: str, plain: str) -> None:
    assert written(encoding, text) == plain


def two_streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    # in the test and not a fixture: pytest puts streams of its own in place between the two
    paths = tmp_path / "out", tmp_path / "err"
    for name, path in zip(("stdout", "stderr"), paths, strict=True):
        monkeypatch.setattr(sys, name, path.open("w", encoding="latin-1"))
    return paths


def test_prepared_streams_take_any_character(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = two_streams(monkeypatch, tmp_path)
    screen.prepare()
    screen.prepare()  # a second time changes nothing
    print("• é \udcff")
    print("…", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    assert [path.read_text(encoding="latin-1") for path in paths] == ["* é ?\n", "...\n"]


def test_bytes_of_a_name_that_are_no_text_pass_through_utf8(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", (tmp_path / "out").open("w", encoding="utf-8"))
    screen.prepare()
    print(os.fsdecode(b"a\xff"))
    sys.stdout.flush()
    assert (tmp_path / "out").read_bytes() == b"a\xff\n"


def test_what_nobody_reads_is_dropped() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = screen.Steady(os.fdopen(writer, "w"))
    for _ in range(3):
        assert stream.write("x" * 100_000) == 100_000
        stream.flush()
    stream.close()
    assert stream.closed


def test_closed_stream_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    screen.prepare()
    print("nobody reads this")
    assert sys.stdout.name == os.devnull


def test_path_is_short_below_the_folder_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two_streams(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(screen, "_command_folder", None)
    screen.prepare()
    (tmp_path / "outputs").mkdir()
    monkeypatch.chdir(tmp_path / "outputs")  # as hydra.job.chdir=true does
    assert screen.short("run") == "outputs/run"
    assert screen.short("/elsewhere") == "/elsewhere"
    assert screen.short(tmp_path.parent) == str(tmp_path.parent.resolve())
