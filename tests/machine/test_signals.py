"""A first signal is noted or raised, a second one ends the program; what was ignored before stays ignored."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from vae_lightning.machine import signals
from vae_lightning.machine.signals import (
    ENDING,
    Interruption,
    abortable,
    aborted,
    handled,
    heed,
    noted,
    patient,
    received,
    status_of,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    inherited = signal.getsignal(signal.SIGHUP)
    if inherited is signal.SIG_IGN:  # of nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    assert {number: signal.getsignal(number) for number in ENDING} == before
    assert received() is None
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.parametrize("number", ENDING)
def test_signal_interrupts_where_nothing_has_to_end_well(number: signal.Signals) -> None:
    with pytest.raises(Interruption, match=f"^interrupted by {number.name}$") as end, handled():
        signal.raise_signal(number)
    assert end.value.signal == number
    assert status_of(number) == 128 + number


@pytest.mark.parametrize("number", ENDING)
def test_signal_is_noted_where_something_has_to(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[int] = []
    with handled(), noted(told.append):
        signal.raise_signal(number)
        assert received() == number
    assert told == [number]
    assert f"{'Ctrl-C' if number == signal.SIGINT else number.name}: training stops within 50 steps" in capfd.readouterr().err


def test_what_comes_of_a_signal_is_said_as_the_innermost_block_says(capfd: pytest.CaptureFixture[str]) -> None:
    with handled(), noted(lambda number: None), noted(lambda number: None, says="the jobs stop"):
        signal.raise_signal(signal.SIGTERM)
    assert "SIGTERM: the jobs stop; a second one stops it at once" in capfd.readouterr().err


def test_signal_that_came_before_is_told_at_once() -> None:
    told: list[int] = []
    with handled():
        with pytest.raises(Interruption):
            signal.raise_signal(signal.SIGTERM)
        with noted(told.append):
            assert told == [signal.SIGTERM]


def test_interruption_that_a_library_swallowed_is_made_good() -> None:
    with handled():
        heed()
        with suppress(Interruption):
            signal.raise_signal(signal.SIGTERM)
        with noted(lambda signum: None):
            heed()
        with pytest.raises(Interruption, match="interrupted by SIGTERM"):
            heed()
    heed()


def test_what_comes_at_once_is_one_signal_and_later_another(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    told: list[int] = []
    with handled(), noted(told.append):
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert told == [signal.SIGINT]
        now += 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == [signal.SIGINT]


def test_long_work_that_can_be_done_without_is_interrupted_too() -> None:
    told: list[int] = []
    with handled(), noted(told.append):
        with pytest.raises(Interruption), abortable():
            signal.raise_signal(signal.SIGTERM)
        assert told == [signal.SIGTERM]
        assert aborted()
        with pytest.raises(Interruption), abortable():
            raise AssertionError("begun after the signal")
    assert not aborted()


def test_work_that_is_worth_the_wait_is_not_interrupted() -> None:
    told: list[int] = []
    with handled(), noted(told.append):
        with patient(), abortable():
            signal.raise_signal(signal.SIGTERM)
        with patient(), abortable():
            pass
        assert not aborted()
    assert told == [signal.SIGTERM]


def test_ignored_signals_and_handlers_of_others_stay() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with handled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGUSR1, before[1])


def test_forked_process_ends_when_told_to_and_leaves_ctrl_c_to_its_parent() -> None:
    told: list[int] = []
    with handled(), noted(told.append):
        child = os.fork()
        if not child:
            with suppress(BaseException):
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
    assert told == []


@contextmanager
def killed(process: subprocess.Popen[str]) -> Iterator[None]:
    """A block after which a process is gone, also where a claim of the block does not hold."""
    try:
        yield
    finally:
        process.kill()


TWICE = """
import hashlib, os, signal, sys, threading, time
from pathlib import Path
from vae_lightning.machine.files import replacing
from vae_lightning.machine.signals import handled, noted

with handled(at_once=True), noted(lambda number: None, leaving=lambda: print("others", flush=True)):
    with replacing(Path("file")) as unfinished:
        unfinished.write_text("half")
        print("ready", flush=True)
        for _ in range(100):  # a library that does not return for seconds, so that Python handles no signal
            hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000_000) if sys.argv[1:] else time.sleep(1)
"""


@pytest.mark.parametrize("arguments", [[], ["busy"]])
def test_second_signal_ends_a_command_at_once_and_leaves_nothing_half_written(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-c", TWICE, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process, killed(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        assert process.poll() is None
        begun = time.monotonic()
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 128 + signal.SIGHUP
        assert time.monotonic() - begun < 2
        assert process.stdout.readline() == "others\n"
    assert list(tmp_path.iterdir()) == []
