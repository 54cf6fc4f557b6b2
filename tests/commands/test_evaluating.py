"""The runs of a sweep are evaluated by one command, which goes on where it was stopped."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hand_made_sweeps import make_sweep, write_run
from hydra import compose, initialize_config_dir

from vae_lightning.commands.commandline import CONF
from vae_lightning.commands.evaluating import evaluate_sweep
from vae_lightning.errors import CheckpointError, ConfigurationError
from vae_lightning.reports.merging import with_others

REPOSITORY = Path(__file__).resolve().parents[2]
SHAPES = ("data=shapes2d", "data.train_size=256", "data.val_size=64", "data.test_size=64", "data.batch_size=32")
SMALL = (*SHAPES, "model.net.hidden=[16]", "model.latent_dim=2", "trainer.gpus=0", "trainer.max_epochs=1", "logger=none")
FEW = ("evaluation.num_samples=2", "evaluation.num_images=20", "evaluation.train_images=20", "evaluation.figures=[]")


def called(cwd: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / script), *words]
    return subprocess.run(command, cwd=cwd, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("run=x",), ConfigurationError, "run=x: is of one run; leave it out beside sweep="),
        (("to=x",), ConfigurationError, "to=x: is of one run"),
        (("jobs=0",), ConfigurationError, "jobs=0: must be at least 1"),
        (("evaluation.num_samples=0",), ConfigurationError, r"evaluation\.num_samples=0: must be at least 1"),
        ((), CheckpointError, "is no folder of a sweep"),
    ],
)
def test_what_is_wrong_is_said_before_any_run_is_evaluated(
    tmp_path: Path, words: Sequence[str], error: type[Exception], message: str
) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", [*words])
    with pytest.raises(error, match=message):
        evaluate_sweep(str(tmp_path), cfg, words)


def test_runs_that_are_not_evaluated_are_counted_by_their_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_sweep(tmp_path, {"model.beta": [1, 2, 3, 4]}, lambda settings: None)
    for job in record.jobs[:3]:
        run = tmp_path / job.folder
        write_run(run, {"elbo": [1.0]})
        content = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps(content | {"pruned": job is not record.jobs[2]}))
    for place, rate in (("until_step_4/", 1), ("", 2)):
        config = run / ".hydra" / f"{place}config.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"lr: {rate}\n")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert evaluate_sweep(str(tmp_path), compose("evaluate"), []) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(
        "0 runs to evaluate, 0 of them evaluated already; 2 stopped by the search as hopeless; 1 gone on with by other settings; "
        "1 without a result"
    )


@pytest.mark.slow
def test_runs_of_a_sweep_are_evaluated_once(tmp_path: Path) -> None:
    assert called(tmp_path, "train.py", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=s").returncode == 0
    first = called(tmp_path, "evaluate.py", "sweep=s", *FEW, "jobs=2")
    assert first.returncode == 0, first.stderr
    reports = {path: json.loads(path.read_text()) for path in (tmp_path / "s").glob("*/evaluation/report.json")}
    assert len(reports) == 2
    assert all(report["splits"]["test"]["nll"]["num_samples"] == 2 for report in reports.values())
    assert "test/nll" in (tmp_path / "s" / "sweep.csv").read_text(), "the table has what was estimated"
    assert "test/nll" in first.stdout
    again = called(tmp_path, "evaluate.py", "sweep=s", *FEW)
    assert (again.returncode, "2 runs to evaluate, 2 of them evaluated already" in again.stdout) == (0, True), again.stderr
    assert {path: json.loads(path.read_text()) for path in reports} == reports
    quick = called(tmp_path, "evaluate.py", "sweep=s", *FEW[1:], "evaluation.num_samples=1")
    assert quick.returncode == 0, quick.stderr
    for path in reports:
        kept = json.loads(path.read_text())["splits"]["test"]["nll"]
        assert kept == reports[path]["splits"]["test"]["nll"], "a quick evaluation does not replace a fuller one"
    fuller = called(tmp_path, "evaluate.py", "sweep=s", *FEW)
    assert "2 runs to evaluate, 2 of them evaluated already" in fuller.stdout, "nor is the fuller one asked for again"
    shutil.rmtree(tmp_path / "s/seed=0/evaluation")
    other = called(tmp_path, "evaluate.py", "run=s/seed=0", *FEW[1:], "evaluation.num_samples=3")
    assert other.returncode == 0, other.stderr
    again = called(tmp_path, "evaluate.py", "sweep=s", *FEW)
    assert "2 runs to evaluate, 1 of them evaluated already" in again.stdout, "a report of something else does not count"
    report = json.loads((tmp_path / "s/seed=0/evaluation/report.json").read_text())
    assert {2, 3} == {e["num_samples"] for e in with_others(report, "test")["nll"]}


@pytest.mark.slow
def test_run_that_cannot_be_evaluated_is_one_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    assert called(tmp_path, "train.py", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=s").returncode == 0
    (tmp_path / "s" / "seed=0" / "checkpoints" / "best.ckpt").write_bytes(b"PK")
    result = called(tmp_path, "evaluate.py", "sweep=s", *FEW)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: [1/2] seed=0: ")
    assert "best.ckpt" in line
    assert (tmp_path / "s/seed=1/evaluation/report.json").is_file()
