"""How a job stands is read from its run folder, whoever ran it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vae_lightning.sweeps.claims import claimed, note_reason
from vae_lightning.sweeps.record import Job, lock_of, reason_of
from vae_lightning.sweeps.status import State, status_of

JOB = Job("seed=0", ("seed=0",), {"seed": 0}, "")
METRICS = {"format": 2, "metrics": {"test/elbo": -100.5, "val/kl": None}, "timing": {"seconds": 3.5}}
REST = "run_dir: a\nx: a/x\ndata: {path: own}\n"
FIRST = "trainer: {max_epochs: 1}\nseed: 0\nlogger: {tensorboard: {}}\n" + REST
"""The config that the job was begun with."""


def folder(root: Path, **files: Any) -> Path:
    """A sweep with one job, which has these files, with `__` for a slash."""
    for name, content in files.items():
        path = root / JOB.folder / name.replace("__", "/").replace("_json", ".json").replace("_ckpt", ".ckpt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, State.MISSING),
        ({"train.log": ""}, State.MISSING),
        ({"checkpoints__last_ckpt": ""}, State.INTERRUPTED),
        ({"checkpoints__last.previous_ckpt": ""}, State.INTERRUPTED),
        ({"metrics_json": METRICS}, State.FINISHED),
        ({"metrics_json": METRICS | {"interrupted": True, "signal": "SIGINT"}}, State.INTERRUPTED),
        ({"metrics_json": METRICS | {"not_finite": {"what": "the loss"}}}, State.FAILED),
        ({"metrics_json": {"format": 2, "metrics": {}}}, State.INTERRUPTED),
        ({"metrics_json": "{", "checkpoints__last_ckpt": ""}, State.INTERRUPTED),
        ({"metrics_json": "[]"}, State.MISSING),
    ],
)
def test_state_of_a_job(tmp_path: Path, files: dict[str, Any], state: State) -> None:
    assert status_of(folder(tmp_path, **files), JOB).state is state


def test_result_has_its_numbers_and_its_time(tmp_path: Path) -> None:
    status = status_of(folder(tmp_path, metrics_json=METRICS), JOB)
    assert (status.metrics, status.seconds, status.reason) == ({"test/elbo": -100.5}, 3.5, None)


def test_reason_makes_a_failure_until_there_is_a_result(tmp_path: Path) -> None:
    note_reason(folder(tmp_path, checkpoints__last_ckpt="") / JOB.folder, "there is no\nroom")
    assert (status_of(tmp_path, JOB).state, status_of(tmp_path, JOB).reason) == (State.FAILED, "there is no room")
    folder(tmp_path, metrics_json=METRICS)
    assert status_of(tmp_path, JOB).state is State.FINISHED
    reason_of(tmp_path / JOB.folder).write_text("{")
    folder(tmp_path, metrics_json="")
    assert status_of(tmp_path, JOB).state is State.INTERRUPTED


def test_a_job_is_claimed_once_and_given_free_by_a_process_that_is_killed(tmp_path: Path) -> None:
    run = tmp_path / JOB.folder
    code = (
        "import os, sys; from pathlib import Path; from vae_lightning.sweeps.claims import claimed\n"
        "with claimed(Path(sys.argv[1])) as mine: print(mine, flush=True); sys.stdin.read()"
    )
    where = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with claimed(run) as mine:
            assert not mine
        assert status_of(tmp_path, JOB).state is State.RUNNING
        other.kill()
    with claimed(run) as mine:
        assert mine
        assert status_of(tmp_path, JOB, mine=True).state is State.MISSING
    assert lock_of(run).is_file()


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        ("trainer: {max_epochs: 3}\nseed: 0\n" + REST, "went on with trainer.max_epochs=3, begun with 1; its result is no longer"),
        ("trainer: {max_epochs: 3}\nseed: 1\n" + REST, "went on with trainer.max_epochs=3 and 1 more, begun with 1;"),
        ("trainer: {max_epochs: 1, threads: 1}\nseed: 0\nckpt_path: last.ckpt\nlogger: null\n" + REST, ""),
        (f"trainer: {{max_epochs: 1}}\nseed: 0\nrun_dir: /moved\nx: /moved/x\ndata: {{path: {Path.cwd()}/own}}\n", ""),
        ("{", ""),
    ],
)
def test_job_that_somebody_went_on_with_by_other_settings_is_no_result(tmp_path: Path, now: str, changed: str) -> None:
    sweep = folder(tmp_path, metrics_json=METRICS)
    hidden = sweep / JOB.folder / ".hydra"
    configs = {"until_step_400": "trainer: {max_epochs: 9}\n", "until_step_20_2": "seed: 5\n", "until_step_20": FIRST, ".": now}
    for name, content in configs.items():
        (hidden / name).mkdir(parents=True, exist_ok=True)
        (hidden / name / "config.yaml").write_text(content)
    status = status_of(sweep, JOB)
    assert status.state is (State.CHANGED if changed else State.FINISHED)
    assert (status.reason or "").startswith(changed)
