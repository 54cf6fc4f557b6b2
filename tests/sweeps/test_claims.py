"""A job of a sweep is run by one process at a time, and why an attempt had no result is noted once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vae_lightning.runs import layout
from vae_lightning.sweeps import claims
from vae_lightning.sweeps.claims import claimed, descriptor_of_claim, due, is_finished, note_end, note_reason
from vae_lightning.sweeps.record import reason_of

RESULT = {"metrics": {"test/elbo": -100.0}}


def write(run: Path, content: object) -> None:
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.json").write_text(json.dumps(content))


def test_the_file_with_the_result_is_that_of_runs() -> None:
    assert claims.METRICS == layout.METRICS


def test_a_launchers_process_imports_no_torch() -> None:
    code = "import sys, vae_lightning.commands.worker; sys.exit('torch' in sys.modules or 'pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_claim_is_one_processs_and_lasts_as_long_as_one_that_inherits_it(tmp_path: Path) -> None:
    run = tmp_path / "job"
    with descriptor_of_claim(run) as descriptor:
        assert descriptor is not None
        with claimed(run) as free:
            assert not free
        process = subprocess.Popen([sys.executable, "-c", "input()"], pass_fds=[descriptor], stdin=subprocess.PIPE)
        # as if this process were killed: the file is closed, and not unlocked

        os.dup2(os.open(os.devnull, os.O_RDONLY), descriptor)
    with claimed(run) as free:
        assert not free, "the process that inherited the claim lives"
    process.communicate(b"\n")
    with claimed(run) as free:
        assert free


@pytest.mark.parametrize(
    ("content", "finished"),
    [
        (RESULT, True),
        ({**RESULT, "interrupted": True}, False),
        ({**RESULT, "not_finite": {"what": "the loss"}}, False),
        ({"metrics": {}}, False),
        ({"metrics": {"test/elbo": "abc"}}, False),
        ({"metrics": "abc"}, False),
        ([], False),
        (None, False),
    ],
)
def test_a_result_is_one_of_a_training_that_came_to_its_end(tmp_path: Path, content: object, finished: bool) -> None:
    run = tmp_path / "job"
    if content is not None:
        write(run, content)
    assert is_finished(run) is finished
    note_reason(run, "an earlier attempt failed")
    with due(run) as todo:
        assert bool(todo) is not finished
        assert reason_of(run).exists() is finished, "what an earlier attempt died of is no reason any more"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-9, "its process was killed by SIGKILL, as the system does where memory runs out"),
        (-11, "its process was killed by SIGSEGV"),
        (1, "its process ended with status 1 and no word"),
        (0, "its process ended with status 0 and no word"),
        (143, None),
    ],
)
def test_an_end_without_a_result_has_a_reason_unless_a_signal_asked_for_it(tmp_path: Path, code: int, reason: str | None) -> None:
    run = tmp_path / "job"
    note_end(run, code)
    assert (json.loads(reason_of(run).read_text())["reason"] if reason_of(run).exists() else None) == reason
    if reason is not None:
        note_end(run, 77)
        assert json.loads(reason_of(run).read_text())["reason"] == reason, "the first word counts"


def test_a_job_with_a_result_has_no_reason(tmp_path: Path) -> None:
    write(tmp_path / "job", RESULT)
    note_end(tmp_path / "job", -9)
    assert not reason_of(tmp_path / "job").exists()
